// SPDX-License-Identifier: Apache-2.0
// Backups of one VM in the datastores that keep them: make one, restore one, remove one.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource, Volume } from "../api/types";
import { begin, may, run, storages } from "../state";
import { size, time } from "../ui/format";
import { useLoad } from "../ui/load";
import { Button, Confirm, Failure, Table } from "../ui/parts";

export function Backups(props: { guest: Resource }) {
    const { guest } = props;
    const store = storages.value.find((one) => one.node === guest.node && (one.content ?? "backup").includes("backup"))?.storage ?? "local";
    const node = guest.node ?? "";
    const list = useLoad("/nodes/{node}/storage/{storage}/content", { node, storage: store, content: "backup", vmid: guest.vmid }, 5000);
    const [open, setOpen] = useState<{ what: "restore" | "remove"; volume: Volume }>();
    const done = () => {
        setOpen(undefined);
        list.again();
    };
    const stopped = guest.status === "stopped";
    const allowed = may("VM.Backup", `/vms/${guest.vmid}`);
    const make = () => void run(`Back up ${guest.name ?? guest.vmid}`, () => api.post("/nodes/{node}/vzdump", { node, vmid: String(guest.vmid), storage: store, mode: "snapshot", compress: "zstd" })).then(list.again);
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    return (
        <>
            <div class="actions">
                <Button kind="main" disabled={!allowed} onClick={make}>Back up now</Button>
                <span class="note">to datastore {store}, one file, configuration and disks</span>
            </div>
            <Table
                name="Backups"
                rows={list.data}
                id={(one) => one.volid}
                empty="No backups of this VM."
                columns={[
                    { title: "Made", cell: (one) => time(one.ctime), by: (one) => one.ctime ?? 0 },
                    { title: "Volume", cell: (one) => <code>{one.volid}</code>, by: (one) => one.volid },
                    { title: "Size", cell: (one) => size(one.size), by: (one) => one.size, number: true },
                    {
                        title: "",
                        cell: (volume) => (
                            <>
                                <Button kind="quiet" label={`Restore ${volume.volid}`} disabled={!stopped} title={stopped ? undefined : "Stop the VM first"} onClick={() => setOpen({ what: "restore", volume })}>Restore</Button>
                                <Button kind="quiet" label={`Remove ${volume.volid}`} onClick={() => setOpen({ what: "remove", volume })}>Remove</Button>
                            </>
                        ),
                    },
                ]}
            />
            {open?.what === "restore" && (
                <Confirm
                    title="Restore this backup?"
                    text={`The VM's configuration and disks become what they were at ${time(open.volume.ctime)}.`}
                    typed={String(guest.vmid)}
                    submit="Restore"
                    done={done}
                    onSubmit={() => begin("Restore", () => api.post("/nodes/{node}/qemu", { node, vmid: guest.vmid ?? 0, archive: open.volume.volid, force: true }))}
                />
            )}
            {open?.what === "remove" && (
                <Confirm
                    title="Remove this backup?"
                    text={open.volume.volid}
                    submit="Remove"
                    done={done}
                    onSubmit={() => begin("Remove the backup", () => api.delete("/nodes/{node}/storage/{storage}/content/{volume*}", { node, storage: store, volume: open.volume.volid }), list.again)}
                />
            )}
        </>
    );
}
