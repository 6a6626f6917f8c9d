// SPDX-License-Identifier: Apache-2.0
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { begin, lacks, may, names } from "../state";
import { time } from "../ui/format";
import { useLoad } from "../ui/load";
import { Button, Confirm, Dialog, Failure, Table, TextArea, TextField } from "../ui/parts";

function Take(props: { guest: Resource; taken: () => void; done: () => void }) {
    const [name, setName] = useState("");
    const [description, setDescription] = useState("");
    const take = async () => {
        if (!/^[A-Za-z][A-Za-z0-9_-]+$/.test(name)) throw new Error("a snapshot's name begins with a letter and has letters, digits, - and _ only");
        await begin(`Snapshot ${name}`, () => api.post("/nodes/{node}/qemu/{vmid}/snapshot", { ...names(props.guest), snapname: name, description }), props.taken);
    };
    return (
        <Dialog title="Take a snapshot" submit="Take" done={props.done} onSubmit={take}>
            {(errors) => (
                <>
                    <TextField label="Name" value={name} onInput={setName} error={errors.snapname} required autofocus />
                    <TextArea label="Notes" value={description} onInput={setDescription} />
                </>
            )}
        </Dialog>
    );
}

type Open = { what: "take" } | { what: "back" | "remove"; name: string } | undefined;

export function Snapshots(props: { guest: Resource }) {
    const list = useLoad("/nodes/{node}/qemu/{vmid}/snapshot", names(props.guest), 4000);
    const [open, setOpen] = useState<Open>();
    const allowed = may("VM.Snapshot", `/vms/${props.guest.vmid}`);
    const path = "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}";
    const which = (snapname: string) => ({ ...names(props.guest), snapname });
    const done = () => {
        setOpen(undefined);
        list.again();
    };
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    const rows = list.data?.filter((one) => one.name !== "current");
    return (
        <>
            <div class="actions">
                <Button kind="main" disabled={!allowed} title={lacks("VM.Snapshot", `/vms/${props.guest.vmid}`)} onClick={() => setOpen({ what: "take" })}>Take snapshot</Button>
            </div>
            <Table
                name="Snapshots"
                rows={rows}
                id={(one) => one.name}
                empty="No snapshots. One keeps the disks as they are now, to go back to."
                columns={[
                    { title: "Name", cell: (one) => one.name, by: (one) => one.name },
                    { title: "Taken", cell: (one) => time(one.snaptime), by: (one) => one.snaptime ?? 0 },
                    { title: "After", cell: (one) => one.parent ?? "–" },
                    { title: "Notes", cell: (one) => one.description ?? "" },
                    {
                        title: "",
                        cell: (one) => (
                            <>
                                <Button kind="quiet" label={`Go back to ${one.name}`} disabled={!may("VM.Snapshot.Rollback", `/vms/${props.guest.vmid}`) && !allowed} onClick={() => setOpen({ what: "back", name: one.name })}>Go back</Button>
                                <Button kind="quiet" label={`Remove ${one.name}`} disabled={!allowed} title={lacks("VM.Snapshot", `/vms/${props.guest.vmid}`)} onClick={() => setOpen({ what: "remove", name: one.name })}>Remove</Button>
                            </>
                        ),
                    },
                ]}
            />
            {open?.what === "take" && <Take guest={props.guest} taken={list.again} done={done} />}
            {open?.what === "back" && (
                <Confirm
                    title={`Go back to ${open.name}?`}
                    text="What was written to the disks since then is lost."
                    submit="Go back"
                    done={done}
                    onSubmit={() => begin(`Go back to ${open.name}`, () => api.post(`${path}/rollback`, which(open.name)), list.again)}
                />
            )}
            {open?.what === "remove" && (
                <Confirm
                    title={`Remove snapshot ${open.name}?`}
                    text="The VM stays as it is; it can no longer go back to this point."
                    submit="Remove"
                    done={done}
                    onSubmit={() => begin(`Remove snapshot ${open.name}`, () => api.delete(path, which(open.name)), list.again)}
                />
            )}
        </>
    );
}
