// SPDX-License-Identifier: Apache-2.0
import type { Volume } from "../api/types";
import { storages } from "../state";
import { useLoad } from "../ui/load";

/** Volumes of one kind (installation images, disk images) in the node's first datastore that keeps such. */
export function useVolumes(node: string, content: "iso" | "import"): Volume[] {
    const storage = storages.value.find((one) => one.node === node && (one.content ?? "").split(",").includes(content))?.storage ?? "local";
    return useLoad("/nodes/{node}/storage/{storage}/content", { node, storage, content }).data ?? [];
}
