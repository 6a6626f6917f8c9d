// SPDX-License-Identifier: Apache-2.0
import type { Volume } from "../api/types";
import { storages } from "../state";
import { useLoad } from "../ui/load";

/** Installation images in the node's first datastore that keeps such. */
export function useIsos(node: string): Volume[] {
    const storage = storages.value.find((one) => one.node === node && (one.content ?? "").includes("iso"))?.storage ?? "local";
    return useLoad("/nodes/{node}/storage/{storage}/content", { node, storage, content: "iso" }).data ?? [];
}
