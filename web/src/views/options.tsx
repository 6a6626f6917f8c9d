// SPDX-License-Identifier: Apache-2.0
import type { Resource } from "../api/types";
import { ConfigForm, type Key } from "./form";

const KEYS: Key[] = [
    { key: "name", label: "Name", kind: "text", hint: "As a host name: letters, digits, hyphens." },
    { key: "description", label: "Notes", kind: "area" },
    { key: "tags", label: "Tags", kind: "text", hint: "Separated by semicolons." },
    { key: "onboot", label: "Start with the node", kind: "flag" },
    { key: "startup", label: "Order of start", kind: "text", hint: "order=1,up=10,down=60: a lower order starts earlier; seconds to wait after start and for shutdown." },
    { key: "boot", label: "Boot order", kind: "text", hint: "order=virtio0;net0" },
    { key: "agent", label: "Guest agent", kind: "flag", hint: "qemu-guest-agent runs in the guest." },
    { key: "protection", label: "Protected: cannot be removed", kind: "flag" },
];

export function Options(props: { guest: Resource }) {
    return <ConfigForm key={props.guest.id} guest={props.guest} name="Options" keys={KEYS} />;
}
