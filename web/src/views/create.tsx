// SPDX-License-Identifier: Apache-2.0
// The wizard that makes a VM: from a template, from a disk image that was uploaded, from an installation image, or empty; how large; and what cloud-init
// shall set up at the first start, where there is a template that listens to it.
import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import { begin, go, guests, nodes, run, storages } from "../state";
import { useLoad } from "../ui/load";
import { Check, Choice, Dialog, TextArea, TextField } from "../ui/parts";
import { useVolumes } from "./volumes";

interface Draft {
    source: string; // "" empty, "template:ID", "disk:VOLUME" of an image to import, or an ISO's volume
    name: string;
    id: string;
    node: string;
    /** Empty: as the template has it. */
    cores: string;
    memory: string;
    gib: string;
    store: string;
    bridge: string;
    start: boolean;
    ciuser: string;
    cipassword: string;
    sshkeys: string;
    ipconfig0: string;
}

type Set = (change: Partial<Draft>) => void;
type Errors = Record<string, string>;

const templateOf = (draft: Draft): number | undefined => {
    const id = /^template:(\d+)$/.exec(draft.source)?.[1];
    return id === undefined ? undefined : Number(id);
};

const imageOf = (draft: Draft): string | undefined => /^disk:(.+)$/.exec(draft.source)?.[1];

const filled = (text: string): string | undefined => (text === "" ? undefined : text);

function created(draft: Draft): Promise<string> {
    return api.post("/nodes/{node}/qemu", {
        node: draft.node,
        vmid: draft.id,
        name: draft.name,
        cores: draft.cores,
        memory: draft.memory,
        virtio0: imageOf(draft) === undefined ? `${draft.store}:${draft.gib}` : `${draft.store}:0,import-from=${imageOf(draft)}`,
        ide2: draft.source === "" || imageOf(draft) !== undefined ? undefined : `${draft.source},media=cdrom`,
        net0: draft.bridge === "" ? undefined : `virtio,bridge=${draft.bridge}`,
        serial0: "socket",
    });
}

function cloned(draft: Draft, template: number): Promise<string> {
    const from = guests.value.find((guest) => guest.vmid === template);
    return api.post("/nodes/{node}/qemu/{vmid}/clone", { node: from?.node ?? draft.node, vmid: template, newid: draft.id, name: draft.name });
}

/** What a clone shall have that its template has otherwise. */
async function configured(draft: Draft): Promise<void> {
    const which = { node: draft.node, vmid: Number(draft.id) };
    const changes = {
        cores: filled(draft.cores),
        memory: filled(draft.memory),
        ciuser: filled(draft.ciuser),
        cipassword: filled(draft.cipassword),
        sshkeys: draft.sshkeys.trim() === "" ? undefined : encodeURIComponent(draft.sshkeys.trim()),
        ipconfig0: filled(draft.ipconfig0),
    };
    if (Object.values(changes).some((one) => one !== undefined)) await api.put("/nodes/{node}/qemu/{vmid}/config", { ...which, ...changes });
}

async function finish(draft: Draft): Promise<void> {
    const which = { node: draft.node, vmid: Number(draft.id) };
    if (templateOf(draft) !== undefined && !(await run(`Configure ${draft.name}`, () => configured(draft)))) return;
    if ((templateOf(draft) !== undefined || imageOf(draft) !== undefined) && draft.gib !== "") {
        const grow = () => api.put("/nodes/{node}/qemu/{vmid}/resize", { ...which, disk: "virtio0", size: `${draft.gib}G` });
        if (!(await run(`Grow the disk of ${draft.name}`, grow))) return;
    }
    go("guest", draft.id, draft.start ? "console" : "summary");
    if (draft.start) await run(`Start ${draft.name}`, () => api.post("/nodes/{node}/qemu/{vmid}/status/start", which));
}

function Hardware(props: { draft: Draft; set: Set; errors: Errors }) {
    const { draft, set, errors } = props;
    const template = templateOf(draft) !== undefined;
    const stores = storages.value.filter((one) => one.node === draft.node && (one.content ?? "images").includes("images"));
    const bridges = useLoad("/nodes/{node}/network", { node: draft.node });
    const known = bridges.data?.filter((one) => one.type === "bridge").map((one) => one.iface) ?? [];
    const as = template ? "as the template" : undefined;
    const image = imageOf(draft) !== undefined;
    return (
        <fieldset>
            <legend>Hardware</legend>
            <div class="columns">
                <TextField label="Cores" type="number" min={1} value={draft.cores} onInput={(cores) => set({ cores })} error={errors.cores} placeholder={as} required={!template} />
                <TextField label="Memory in MiB" type="number" min={16} value={draft.memory} onInput={(memory) => set({ memory })} error={errors.memory} placeholder={as} required={!template} />
                <TextField label="Disk in GiB" type="number" min={1} value={draft.gib} onInput={(gib) => set({ gib })} error={errors.virtio0 ?? errors.size} placeholder={image ? "as the image" : as} required={!template && !image} />
                {!template && <Choice label="Datastore" value={draft.store} onInput={(store) => set({ store })} options={stores.map((one) => [one.storage!, one.storage!])} />}
                {!template && (
                    <Choice
                        label="Network"
                        value={draft.bridge}
                        onInput={(bridge) => set({ bridge })}
                        error={errors.net0}
                        options={[...[...new Set(["vmbr0", ...known])].map((one): [string, string] => [one, one]), ["", "none"]]}
                    />
                )}
            </div>
        </fieldset>
    );
}

function FirstStart(props: { draft: Draft; set: Set; errors: Errors }) {
    const { draft, set, errors } = props;
    return (
        <fieldset>
            <legend>First start (cloud-init)</legend>
            <div class="columns">
                <TextField label="User" value={draft.ciuser} onInput={(ciuser) => set({ ciuser })} error={errors.ciuser} placeholder="as the template" />
                <TextField label="Password" type="password" value={draft.cipassword} onInput={(cipassword) => set({ cipassword })} error={errors.cipassword} autocomplete="new-password" />
                <TextArea label="SSH keys" rows={2} value={draft.sshkeys} onInput={(sshkeys) => set({ sshkeys })} hint="One public key a line." error={errors.sshkeys} />
                <TextField label="Address" value={draft.ipconfig0} onInput={(ipconfig0) => set({ ipconfig0 })} error={errors.ipconfig0} placeholder="ip=dhcp" hint="ip=dhcp, or ip=10.0.0.5/24,gw=10.0.0.1" />
            </div>
        </fieldset>
    );
}

function useSources(node: string): [string, string][] {
    const isos = useVolumes(node, "iso");
    const images = useVolumes(node, "import");
    const templates = guests.value.filter((guest) => guest.template === 1);
    return [
        ...templates.map((one): [string, string] => [`template:${one.vmid}`, `Template ${one.name ?? one.vmid}`]),
        ...images.map((one): [string, string] => [`disk:${one.volid}`, `Disk image ${one.volid}`]),
        ...isos.map((one): [string, string] => [one.volid, `Installation image ${one.volid}`]),
        ["", "Nothing: an empty disk"],
    ];
}

const EMPTY_SIZES = { cores: "1", memory: "1024", gib: "8" };
const TEMPLATE_SIZES = { cores: "", memory: "", gib: "" };

export function CreateGuest(props: { done: () => void }) {
    const [draft, setDraft] = useState<Draft>(() => {
        const template = guests.value.find((guest) => guest.template === 1);
        return {
            source: template === undefined ? "" : `template:${template.vmid}`,
            name: "",
            id: "",
            node: nodes.value[0]?.node ?? "localhost",
            ...(template === undefined ? EMPTY_SIZES : TEMPLATE_SIZES),
            store: "local",
            bridge: "vmbr0",
            start: true,
            ciuser: "",
            cipassword: "",
            sshkeys: "",
            ipconfig0: "",
        };
    });
    const set = (change: Partial<Draft>) => setDraft((old) => ({ ...old, ...change }));
    useEffect(() => void api.get("/cluster/nextid").then((id) => set({ id }), () => {}), []);
    const sources = useSources(draft.node);
    const from = (source: string) => set({ source, ...(source.startsWith("template:") ? TEMPLATE_SIZES : source.startsWith("disk:") ? { ...EMPTY_SIZES, gib: "" } : EMPTY_SIZES) });
    const submit = async () => {
        if (!/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(draft.name)) throw new Error("A name has letters, digits, hyphens and dots, as a host name has.");
        const template = templateOf(draft);
        await begin(`Create ${draft.name}`, () => (template === undefined ? created(draft) : cloned(draft, template)), (well) => void (well && finish(draft)));
    };
    return (
        <Dialog title="Create VM" submit="Create" wide done={props.done} onSubmit={submit}>
            {(errors) => (
                <>
                    <fieldset>
                        <legend>General</legend>
                        <div class="columns">
                            <TextField label="Name" value={draft.name} onInput={(name) => set({ name })} error={errors.name} required autofocus />
                            <TextField label="ID" type="number" min={100} value={draft.id} onInput={(id) => set({ id })} error={errors.vmid ?? errors.newid} required />
                            <Choice label="From" value={draft.source} onInput={from} options={sources} hint="Images are uploaded on a datastore's page." />
                            {nodes.value.length > 1 && <Choice label="Node" value={draft.node} onInput={(node) => set({ node })} options={nodes.value.map((one) => [one.node!, one.node!])} />}
                        </div>
                    </fieldset>
                    <Hardware draft={draft} set={set} errors={errors} />
                    {templateOf(draft) !== undefined && <FirstStart draft={draft} set={set} errors={errors} />}
                    <Check label="Start it at once" value={draft.start} onInput={(start) => set({ start })} />
                </>
            )}
        </Dialog>
    );
}
