// SPDX-License-Identifier: Apache-2.0
import type { Resource } from "../api/types";
import { ConfigForm, type Key } from "./form";

const KEYS: Key[] = [
    { key: "ciuser", label: "User", kind: "text", hint: "Made in the guest at its first start." },
    { key: "cipassword", label: "Password", kind: "password" },
    {
        key: "sshkeys",
        label: "SSH keys",
        kind: "area",
        hint: "One public key a line.",
        store: (text) => encodeURIComponent(text.trim()), // The API wants this one value URL-encoded in itself.
        show: (stored) => decodeURIComponent(stored),
    },
    { key: "ipconfig0", label: "Address of the first network card", kind: "text", hint: "ip=dhcp, or ip=10.0.0.5/24,gw=10.0.0.1" },
    { key: "nameserver", label: "DNS server", kind: "text" },
    { key: "searchdomain", label: "Search domain", kind: "text" },
    { key: "cicustom", label: "Own files", kind: "text", hint: "user=local:snippets/web.yaml" },
];

export function CloudInit(props: { guest: Resource }) {
    return (
        <>
            <p class="note">Read by the guest's cloud-init from a small drive that the node makes at each start.</p>
            <ConfigForm key={props.guest.id} guest={props.guest} name="Cloud-init" keys={KEYS} />
        </>
    );
}
