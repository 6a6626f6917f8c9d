// SPDX-License-Identifier: Apache-2.0
// The wizard that makes a VM: from a template, from an installation image, or empty.
import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Volume } from "../api/types";
import { go, guests, nodes, run, storages } from "../state";
import { useLoad } from "../ui/load";
import { Check, Choice, Dialog, TextField } from "../ui/parts";

interface Draft {
    source: string; // "" empty, "template:ID", or an ISO's volume
    name: string;
    id: string;
    node: string;
    cores: string;
    memory: string;
    store: string;
    gib: string;
    bridge: string;
    start: boolean;
}

function useIsos(node: string): Volume[] {
    const store = storages.value.find((one) => one.node === node && (one.content ?? "").includes("iso"))?.storage ?? "local";
    return useLoad<Volume[]>(`/nodes/${encodeURIComponent(node)}/storage/${encodeURIComponent(store)}/content`, { content: "iso" }).data ?? [];
}

async function cloned(draft: Draft, template: number): Promise<unknown> {
    const from = guests.value.find((guest) => guest.vmid === template);
    return api.post(`/nodes/${from?.node}/qemu/${template}/clone`, { newid: draft.id, name: draft.name });
}

function created(draft: Draft): Promise<unknown> {
    return api.post(`/nodes/${draft.node}/qemu`, {
        vmid: draft.id,
        name: draft.name,
        cores: draft.cores,
        memory: draft.memory,
        virtio0: `${draft.store}:${draft.gib}`,
        ide2: draft.source === "" ? undefined : `${draft.source},media=cdrom`,
        net0: draft.bridge === "" ? undefined : `virtio,bridge=${draft.bridge}`,
        serial0: "socket",
    });
}

async function make(draft: Draft): Promise<void> {
    const template = /^template:(\d+)$/.exec(draft.source)?.[1];
    const start = () => (template === undefined ? created(draft) : cloned(draft, Number(template)));
    if (!(await run(`Create ${draft.name}`, start))) return;
    go("guest", draft.id, draft.start ? "console" : "summary");
    if (draft.start) await run(`Start ${draft.name}`, () => api.post(`/nodes/${draft.node}/qemu/${draft.id}/status/start`));
}

function Sizes(props: { draft: Draft; set: (change: Partial<Draft>) => void; errors: Record<string, string> }) {
    const { draft, set, errors } = props;
    const stores = storages.value.filter((one) => one.node === draft.node && (one.content ?? "images").includes("images"));
    return (
        <>
            <TextField label="Cores" type="number" min={1} value={draft.cores} onInput={(cores) => set({ cores })} error={errors.cores} />
            <TextField label="Memory in MiB" type="number" min={16} value={draft.memory} onInput={(memory) => set({ memory })} error={errors.memory} />
            <Choice label="Datastore" value={draft.store} onInput={(store) => set({ store })} options={stores.map((one) => [one.storage!, one.storage!])} />
            <TextField label="Disk in GiB" type="number" min={1} value={draft.gib} onInput={(gib) => set({ gib })} error={errors.virtio0} />
            <Choice label="Network" value={draft.bridge} onInput={(bridge) => set({ bridge })} options={[["vmbr0", "vmbr0"], ["", "none"]]} />
        </>
    );
}

export function CreateGuest(props: { done: () => void }) {
    const [draft, setDraft] = useState<Draft>({
        source: "",
        name: "",
        id: "",
        node: nodes.value[0]?.node ?? "localhost",
        cores: "1",
        memory: "1024",
        store: "local",
        gib: "8",
        bridge: "vmbr0",
        start: true,
    });
    const set = (change: Partial<Draft>) => setDraft((old) => ({ ...old, ...change }));
    useEffect(() => void api.get<string>("/cluster/nextid").then((id) => set({ id }), () => {}), []);
    const isos = useIsos(draft.node);
    const templates = guests.value.filter((guest) => guest.template === 1);
    const sources: [string, string][] = [
        ...templates.map((one): [string, string] => [`template:${one.vmid}`, `Template ${one.name ?? one.vmid}`]),
        ...isos.map((one): [string, string] => [one.volid, `Installation image ${one.volid}`]),
        ["", "Nothing: an empty disk"],
    ];
    const submit = async () => {
        if (!/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(draft.name)) throw new Error("a name has letters, digits, hyphens and dots, as a host name has");
        void make(draft);
    };
    return (
        <Dialog title="Create VM" submit="Create" wide done={props.done} onSubmit={submit}>
            {(errors) => (
                <div class="columns">
                    <TextField label="Name" value={draft.name} onInput={(name) => set({ name })} error={errors.name} required autofocus />
                    <TextField label="ID" type="number" min={100} value={draft.id} onInput={(id) => set({ id })} error={errors.vmid} required />
                    {nodes.value.length > 1 && <Choice label="Node" value={draft.node} onInput={(node) => set({ node })} options={nodes.value.map((one) => [one.node!, one.node!])} />}
                    <Choice label="From" value={draft.source} onInput={(source) => set({ source })} options={sources} />
                    {!draft.source.startsWith("template:") && <Sizes draft={draft} set={set} errors={errors} />}
                    <Check label="Start it at once" value={draft.start} onInput={(start) => set({ start })} />
                </div>
            )}
        </Dialog>
    );
}
