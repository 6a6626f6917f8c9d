// SPDX-License-Identifier: Apache-2.0
// What the machine is made of: processors, memory, disks, network cards. Each row is edited by itself; what
// a running guest takes only at its next start is said by the server ("pending").
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Config, Resource } from "../api/types";
import { may, run, storages } from "../state";
import { pairs } from "../ui/format";
import { type Loaded, useLoad } from "../ui/load";
import { Button, Choice, Confirm, Dialog, Failure, Table, TextField } from "../ui/parts";
import { pathOf } from "./guest";

const DISK = /^(virtio|scsi|sata|ide)\d+$/;
const NET = /^net\d+$/;

interface Item {
    key: string;
    kind: string;
    text: string;
}

function itemsOf(config: Config): Item[] {
    const items: Item[] = [
        { key: "memory", kind: "Memory", text: `${config.memory ?? 512} MiB` },
        { key: "cores", kind: "Processors", text: `${config.sockets ?? 1} × ${config.cores ?? 1} (${config.cpu ?? "host"})` },
    ];
    for (const [key, value] of Object.entries(config).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))) {
        if (DISK.test(key)) items.push({ key, kind: String(value).includes("media=cdrom") ? "Drive" : "Disk", text: String(value) });
        else if (NET.test(key)) items.push({ key, kind: "Network card", text: String(value) });
        else if (/^serial\d+$/.test(key)) items.push({ key, kind: "Serial port", text: String(value) });
    }
    return items;
}

/** The lowest number that is free: "virtio0", "virtio1", … */
function free(config: Config, prefix: string): string {
    let number = 0;
    while (config[`${prefix}${number}`] !== undefined) number++;
    return `${prefix}${number}`;
}

function MemoryDialog(props: { guest: Resource; config: Config; done: () => void }) {
    const [memory, setMemory] = useState(String(props.config.memory ?? 512));
    return (
        <Dialog title="Memory" submit="Save" done={props.done} onSubmit={() => api.put(`${pathOf(props.guest)}/config`, { memory, digest: props.config.digest })}>
            {(errors) => <TextField label="MiB" type="number" min={16} value={memory} onInput={setMemory} error={errors.memory} autofocus />}
        </Dialog>
    );
}

function ProcessorDialog(props: { guest: Resource; config: Config; done: () => void }) {
    const [cores, setCores] = useState(String(props.config.cores ?? 1));
    const [cpu, setCpu] = useState(String(props.config.cpu ?? "host"));
    const save = () => api.put<void>(`${pathOf(props.guest)}/config`, { cores, cpu, digest: props.config.digest });
    return (
        <Dialog title="Processors" submit="Save" done={props.done} onSubmit={save}>
            {(errors) => (
                <>
                    <TextField label="Cores" type="number" min={1} value={cores} onInput={setCores} error={errors.cores} autofocus />
                    <Choice label="Model" value={cpu} onInput={setCpu} error={errors.cpu} options={["host", "x86-64-v2", "x86-64-v3", "x86-64", cpu].filter((one, at, all) => all.indexOf(one) === at).map((one) => [one, one])} />
                </>
            )}
        </Dialog>
    );
}

function AddDisk(props: { guest: Resource; config: Config; done: () => void }) {
    const stores = storages.value.filter((one) => one.node === props.guest.node && (one.content ?? "images").includes("images"));
    const [store, setStore] = useState(stores[0]?.storage ?? "local");
    const [gib, setGib] = useState("8");
    const [format, setFormat] = useState("");
    const key = free(props.config, "virtio");
    const add = async () => {
        const disk = `${store}:${gib}${format === "" ? "" : `,format=${format}`}`;
        void run(`Add ${key}`, () => api.post(`${pathOf(props.guest)}/config`, { [key]: disk, digest: props.config.digest }));
    };
    return (
        <Dialog title={`Add a disk (${key})`} submit="Add" done={props.done} onSubmit={add}>
            {(errors) => (
                <>
                    <Choice label="Datastore" value={store} onInput={setStore} options={stores.map((one) => [one.storage!, one.storage!])} error={errors[key]} />
                    <TextField label="Size in GiB" type="number" min={1} value={gib} onInput={setGib} autofocus />
                    <Choice label="Format" value={format} onInput={setFormat} options={[["", "as the datastore has it"], ["qcow2", "qcow2"], ["raw", "raw"]]} />
                </>
            )}
        </Dialog>
    );
}

function AddNetwork(props: { guest: Resource; config: Config; done: () => void }) {
    const [bridge, setBridge] = useState("vmbr0");
    const key = free(props.config, "net");
    const bridges = useLoad<{ iface: string }[]>(`/nodes/${props.guest.node}/network`, { type: "any_bridge" });
    const names = bridges.data?.map((one) => one.iface) ?? ["vmbr0"];
    const add = async () => void run(`Add ${key}`, () => api.post(`${pathOf(props.guest)}/config`, { [key]: `virtio,bridge=${bridge}` }));
    return (
        <Dialog title={`Add a network card (${key})`} submit="Add" done={props.done} onSubmit={add}>
            {() => <Choice label="Bridge" value={bridge} onInput={setBridge} options={names.map((name) => [name, name])} />}
        </Dialog>
    );
}

function Grow(props: { guest: Resource; disk: string; text: string; done: () => void }) {
    const [by, setBy] = useState("1");
    const now = pairs(props.text).find(([name]) => name === "size")?.[1] ?? "unknown";
    const grow = async () => void run(`Grow ${props.disk}`, () => api.put(`${pathOf(props.guest)}/resize`, { disk: props.disk, size: `+${by}G` }));
    return (
        <Dialog title={`Grow ${props.disk}`} submit="Grow" done={props.done} onSubmit={grow}>
            {() => <TextField label="GiB more" type="number" min={1} value={by} onInput={setBy} hint={`It has ${now} now. A disk cannot shrink.`} autofocus />}
        </Dialog>
    );
}

type Open = { what: "memory" | "cores" | "disk" | "net" } | { what: "grow" | "remove"; item: Item } | undefined;

function Opened(props: { open: Open; guest: Resource; config: Loaded<Config>; done: () => void }) {
    const { open, guest } = props;
    const config = props.config.data;
    if (open === undefined || config === undefined) return null;
    switch (open.what) {
        case "memory":
            return <MemoryDialog guest={guest} config={config} done={props.done} />;
        case "cores":
            return <ProcessorDialog guest={guest} config={config} done={props.done} />;
        case "disk":
            return <AddDisk guest={guest} config={config} done={props.done} />;
        case "net":
            return <AddNetwork guest={guest} config={config} done={props.done} />;
        case "grow":
            return <Grow guest={guest} disk={open.item.key} text={open.item.text} done={props.done} />;
        case "remove":
            return (
                <Confirm
                    title={`Remove ${open.item.key}?`}
                    text={`${open.item.text} is taken out of the VM. A disk stays in its datastore as unused.`}
                    submit="Remove"
                    done={props.done}
                    onSubmit={async () => void run(`Remove ${open.item.key}`, () => api.post(`${pathOf(guest)}/config`, { delete: open.item.key }))}
                />
            );
    }
}

export function Hardware(props: { guest: Resource }) {
    const config = useLoad<Config>(`${pathOf(props.guest)}/config`, {}, 5000);
    const [open, setOpen] = useState<Open>();
    if (config.error !== undefined && config.data === undefined) return <Failure error={config.error} retry={config.again} />;
    const at = `/vms/${props.guest.vmid}`;
    const close = () => {
        setOpen(undefined);
        config.again();
    };
    const actions = (item: Item) => {
        if (item.key === "memory" || item.key === "cores") {
            const what = item.key;
            return <Button kind="quiet" onClick={() => setOpen({ what })}>Edit</Button>;
        }
        return (
            <>
                {item.kind === "Disk" && <Button kind="quiet" onClick={() => setOpen({ what: "grow", item })}>Grow</Button>}
                <Button kind="quiet" onClick={() => setOpen({ what: "remove", item })}>Remove</Button>
            </>
        );
    };
    return (
        <>
            <div class="actions">
                <Button disabled={!may("VM.Config.Disk", at)} onClick={() => setOpen({ what: "disk" })}>Add disk</Button>
                <Button disabled={!may("VM.Config.Network", at)} onClick={() => setOpen({ what: "net" })}>Add network card</Button>
            </div>
            <Table
                name="Hardware"
                rows={config.data === undefined ? [] : itemsOf(config.data)}
                id={(item) => item.key}
                empty="…"
                columns={[
                    { title: "What", cell: (item) => item.kind },
                    { title: "Key", cell: (item) => <code>{item.key}</code> },
                    { title: "Value", cell: (item) => <span class="wrap">{item.text}</span> },
                    { title: "", cell: actions },
                ]}
            />
            <Opened open={open} guest={props.guest} config={config} done={close} />
        </>
    );
}
