// SPDX-License-Identifier: Apache-2.0
// What the machine is made of: processors, memory, disks, network cards. Each row is edited by itself; what
// a running guest takes only at its next start ("pending") stands beside what it has now, and can be taken back.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Config, Pending, Resource } from "../api/types";
import { begin, lacks, names, run, storages } from "../state";
import { pairs } from "../ui/format";
import { type Loaded, useLoad } from "../ui/load";
import { Button, Check, Choice, Confirm, Dialog, Failure, Table, TextField } from "../ui/parts";
import { useVolumes } from "./volumes";

const CONFIG = "/nodes/{node}/qemu/{vmid}/config";
const DISK = /^(virtio|scsi|sata|ide)\d+$/;
const NET = /^net\d+$/;

interface Item {
    key: string;
    kind: string;
    text: string;
    /** What it becomes at the next start; "" where it goes. */
    next?: string;
}

const shown = (key: string, config: Config) => itemsOf(config).find((item) => item.key === key)?.text;

/** The rows as they are now, with what waits. */
function withPending(config: Config, pending: Pending[]): Item[] {
    const waiting = pending.filter((one) => one.pending !== undefined || one.delete !== undefined);
    const now: Config = { ...config };
    const next: Config = { ...config };
    for (const one of waiting) {
        if (one.value === undefined) delete now[one.key];
        else now[one.key] = one.value as string | number;
        if (one.pending === undefined) delete next[one.key];
        else next[one.key] = one.pending as string | number;
    }
    const items = itemsOf(now);
    for (const item of items) {
        const then = shown(item.key, next) ?? "";
        if (then !== item.text) item.next = then;
    }
    return [...items, ...itemsOf(next).filter((item) => !items.some(({ key }) => key === item.key)).map((item) => ({ ...item, text: "", next: item.text }))];
}

/** The keys of a row: those whose change waits are taken back. */
const keysOf = (item: Item): string => (item.key === "cores" ? "cores,sockets,cpu" : item.key);

function processors(config: Config): string {
    const sockets = Number(config.sockets ?? 1);
    const cores = Number(config.cores ?? 1);
    const each = cores === 1 ? "1 core" : `${cores} cores`;
    return `${sockets === 1 ? each : `${sockets} sockets of ${each}`}, model ${config.cpu ?? "host"}`;
}

function itemsOf(config: Config): Item[] {
    const items: Item[] = [
        { key: "memory", kind: "Memory", text: `${config.memory ?? 512} MiB` },
        { key: "cores", kind: "Processors", text: processors(config) },
    ];
    for (const [key, value] of Object.entries(config).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))) {
        if (DISK.test(key)) items.push({ key, kind: String(value).includes("media=cdrom") ? "Drive" : "Disk", text: String(value) });
        else if (NET.test(key)) items.push({ key, kind: "Network card", text: String(value) });
        else if (/^unused\d+$/.test(key)) items.push({ key, kind: "Unused disk", text: String(value) });
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

interface Changing {
    guest: Resource;
    config: Config;
    /** The dialog is closed. */
    done: () => void;
    /** The configuration is another. */
    changed: () => void;
}

function MemoryDialog(props: Changing) {
    const [memory, setMemory] = useState(String(props.config.memory ?? 512));
    return (
        <Dialog title="Memory" submit="Save" done={props.done} onSubmit={() => api.put(CONFIG, { ...names(props.guest), memory, digest: props.config.digest })}>
            {(errors) => <TextField label="MiB" type="number" min={16} value={memory} onInput={setMemory} error={errors.memory} autofocus />}
        </Dialog>
    );
}

function ProcessorDialog(props: Changing) {
    const [cores, setCores] = useState(String(props.config.cores ?? 1));
    const [cpu, setCpu] = useState(String(props.config.cpu ?? "host"));
    const save = () => api.put(CONFIG, { ...names(props.guest), cores, cpu, digest: props.config.digest });
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

function AddDisk(props: Changing) {
    const stores = storages.value.filter((one) => one.node === props.guest.node && (one.content ?? "images").includes("images"));
    const [store, setStore] = useState(stores[0]?.storage ?? "local");
    const [gib, setGib] = useState("8");
    const [format, setFormat] = useState("");
    const key = free(props.config, "virtio");
    const disk = `${store}:${gib}${format === "" ? "" : `,format=${format}`}`;
    const add = () => begin(`Add ${key}`, () => api.post(CONFIG, { ...names(props.guest), [key]: disk, digest: props.config.digest }), props.changed);
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

function NetworkDialog(props: Changing & { item?: Item }) {
    const key = props.item?.key ?? free(props.config, "net");
    const before = pairs(props.item?.text ?? "virtio");
    const [bridge, setBridge] = useState(before.find(([name]) => name === "bridge")?.[1] ?? "vmbr0");
    const [linked, setLinked] = useState(!before.some(([name, value]) => name === "link_down" && value === "1"));
    const bridges = useLoad("/nodes/{node}/network", { node: props.guest.node ?? "" });
    const known = bridges.data?.filter((one) => one.type === "bridge").map((one) => one.iface) ?? [];
    const all = [...new Set(["vmbr0", ...known, bridge])];
    const kept = before.filter(([name]) => name !== "bridge" && name !== "link_down").map(([name, value]) => (name === "" ? value : `${name}=${value}`));
    const value = [...kept, `bridge=${bridge}`, ...(linked ? [] : ["link_down=1"])].join(",");
    const save = () => begin(`Network card ${key}`, () => api.post(CONFIG, { ...names(props.guest), [key]: value, digest: props.config.digest }), props.changed);
    return (
        <Dialog title={props.item === undefined ? `Add a network card (${key})` : `Network card ${key}`} submit={props.item === undefined ? "Add" : "Save"} done={props.done} onSubmit={save}>
            {(errors) => (
                <>
                    <Choice label="Bridge" value={bridge} onInput={setBridge} error={errors[key]} options={all.map((name) => [name, name])} />
                    <Check label="Cable plugged in" value={linked} onInput={setLinked} />
                </>
            )}
        </Dialog>
    );
}

/** A drive for an installation image, filled or empty. */
function DriveDialog(props: Changing & { item?: Item }) {
    const key = props.item?.key ?? free(props.config, "ide");
    const images = useVolumes(props.guest.node ?? "", "iso");
    const [image, setImage] = useState(props.item === undefined ? "none" : (pairs(props.item.text)[0]?.[1] ?? "none"));
    const options = [...new Set(["none", ...images.map((one) => one.volid), image])];
    const save = () => begin(`Drive ${key}`, () => api.post(CONFIG, { ...names(props.guest), [key]: `${image},media=cdrom`, digest: props.config.digest }), props.changed);
    return (
        <Dialog title={props.item === undefined ? `Add a drive (${key})` : `Drive ${key}`} submit={props.item === undefined ? "Add" : "Save"} done={props.done} onSubmit={save}>
            {(errors) => <Choice label="Image" value={image} onInput={setImage} error={errors[key]} hint="Installation images are uploaded on a datastore's page." options={options.map((one) => [one, one === "none" ? "empty" : one])} />}
        </Dialog>
    );
}

function Grow(props: { guest: Resource; disk: string; text: string; done: () => void; changed: () => void }) {
    const [by, setBy] = useState("1");
    const now = pairs(props.text).find(([name]) => name === "size")?.[1] ?? "unknown";
    const grow = () => begin(`Grow ${props.disk}`, () => api.put("/nodes/{node}/qemu/{vmid}/resize", { ...names(props.guest), disk: props.disk, size: `+${by}G` }), props.changed);
    return (
        <Dialog title={`Grow ${props.disk}`} submit="Grow" done={props.done} onSubmit={grow}>
            {(errors) => <TextField label="GiB more" type="number" min={1} value={by} onInput={setBy} error={errors.size} hint={`It has ${now} now. A disk cannot shrink.`} autofocus />}
        </Dialog>
    );
}

type Open = { what: "memory" | "cores" | "disk" | "net" | "drive"; item?: Item } | { what: "grow" | "remove"; item: Item } | undefined;

function Opened(props: { open: Open; guest: Resource; config: Loaded<Config>; done: () => void; changed: () => void }) {
    const { open, guest } = props;
    const config = props.config.data;
    if (open === undefined || config === undefined) return null;
    const changing = { guest, config, done: props.done, changed: props.changed };
    switch (open.what) {
        case "memory":
            return <MemoryDialog {...changing} />;
        case "cores":
            return <ProcessorDialog {...changing} />;
        case "disk":
            return <AddDisk {...changing} />;
        case "net":
            return <NetworkDialog {...changing} item={open.item} />;
        case "drive":
            return <DriveDialog {...changing} item={open.item} />;
        case "grow":
            return <Grow guest={guest} disk={open.item.key} text={open.item.text} done={props.done} changed={props.changed} />;
        case "remove":
            return (
                <Confirm
                    title={`Remove ${open.item.key}?`}
                    text={`${open.item.text || open.item.next} is taken out of the VM. A disk stays in its datastore as unused.`}
                    submit="Remove"
                    done={props.done}
                    onSubmit={() => begin(`Remove ${open.item.key}`, () => api.post(CONFIG, { ...names(guest), delete: open.item.key }), props.changed)}
                />
            );
    }
}

function value(item: Item) {
    return (
        <span class="wrap">
            {item.text}
            {item.next !== undefined && (
                <span class="pending">
                    {item.text === "" ? "" : " "}at the next start: <b>{item.next === "" ? "gone" : item.next}</b>
                </span>
            )}
        </span>
    );
}

export function Hardware(props: { guest: Resource }) {
    const config = useLoad(CONFIG, names(props.guest), 5000);
    const pending = useLoad("/nodes/{node}/qemu/{vmid}/pending", names(props.guest), 5000);
    const [open, setOpen] = useState<Open>();
    if (config.error !== undefined && config.data === undefined) return <Failure error={config.error} retry={config.again} />;
    const at = `/vms/${props.guest.vmid}`;
    const again = () => {
        config.again();
        pending.again();
    };
    const close = () => {
        setOpen(undefined);
        again();
    };
    const takeBack = (item: Item) => void run(`Take back the change of ${item.key}`, () => api.put(CONFIG, { ...names(props.guest), revert: keysOf(item) })).then(again);
    const rows = config.data === undefined ? [] : withPending(config.data, pending.data ?? []);
    const disk = lacks("VM.Config.Disk", at);
    const network = lacks("VM.Config.Network", at);
    const drive = lacks("VM.Config.CDROM", at);
    const edits: Record<string, "memory" | "cores" | "net" | "drive"> = { Memory: "memory", Processors: "cores", "Network card": "net", Drive: "drive" };
    const actions = (item: Item) => {
        const what = edits[item.kind];
        return (
            <>
                {what !== undefined && <Button kind="quiet" label={`Edit ${item.key}`} onClick={() => setOpen({ what, item })}>Edit</Button>}
                {item.next !== undefined && <Button kind="quiet" label={`Take back ${item.key}`} onClick={() => takeBack(item)}>Take back</Button>}
                {item.kind === "Disk" && <Button kind="quiet" label={`Grow ${item.key}`} onClick={() => setOpen({ what: "grow", item })}>Grow</Button>}
                {item.kind !== "Memory" && item.kind !== "Processors" && <Button kind="quiet" label={`Remove ${item.key}`} onClick={() => setOpen({ what: "remove", item })}>Remove</Button>}
            </>
        );
    };
    return (
        <>
            <div class="actions">
                <Button disabled={disk !== undefined} title={disk} onClick={() => setOpen({ what: "disk" })}>Add disk</Button>
                <Button disabled={network !== undefined} title={network} onClick={() => setOpen({ what: "net" })}>Add network card</Button>
                <Button disabled={drive !== undefined} title={drive} onClick={() => setOpen({ what: "drive" })}>Add drive</Button>
            </div>
            <Table
                name="Hardware"
                rows={rows}
                id={(item) => item.key}
                empty="…"
                columns={[
                    { title: "What", cell: (item) => item.kind },
                    { title: "Key", cell: (item) => <code>{item.key}</code> },
                    { title: "Value", cell: value },
                    { title: "", cell: actions },
                ]}
            />
            <Opened open={open} guest={props.guest} config={config} done={close} changed={again} />
        </>
    );
}
