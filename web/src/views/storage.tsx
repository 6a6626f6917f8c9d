// SPDX-License-Identifier: Apache-2.0
// A datastore: how full it is, what lies in it, files that come and go, the datastore's own removal.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Volume } from "../api/types";
import { begin, go, lacks, refresh, say } from "../state";
import { size, time } from "../ui/format";
import { useLoad } from "../ui/load";
import { Button, Confirm, Failure, Meter, Table } from "../ui/parts";
import { FetchDialog, UploadDialog } from "./upload";

export function StorageView(props: { node: string; storage: string }) {
    const { node, storage } = props;
    const status = useLoad("/nodes/{node}/storage/{storage}/status", { node, storage }, 5000);
    const content = useLoad("/nodes/{node}/storage/{storage}/content", { node, storage }, 5000);
    const [open, setOpen] = useState<"upload" | "fetch" | "forget" | Volume>();
    const done = () => {
        setOpen(undefined);
        content.again();
    };
    if (status.error !== undefined && status.data === undefined)
        return (
            <>
                <h1>Datastore {storage}</h1>
                <Failure error={status.error} retry={status.again} />
            </>
        );
    const at = `/storage/${storage}`;
    const lackingRemove = lacks("Datastore.Allocate", at);
    const lackingAdd = lacks("Datastore.AllocateTemplate", at);
    const keeps = status.data?.content.split(",") ?? [];
    const target = { node, storage, keeps, changed: content.again, done };
    const forget = async () => {
        await api.delete("/storage/{storage}", { storage });
        say("good", `Datastore ${storage}: removed from the configuration`);
        await refresh();
        go();
    };
    return (
        <>
            <h1>Datastore {props.storage}</h1>
            {status.data !== undefined && (
                <section class="cards">
                    <div class="card">
                        <Meter label="Space" used={status.data.used} total={status.data.total} text={`${size(status.data.used)} of ${size(status.data.total)}`} />
                        <p class="note">
                            {status.data.type === "dir" ? "A directory" : status.data.type} · keeps {keeps.join(", ")}
                        </p>
                    </div>
                </section>
            )}
            <div class="actions">
                <Button kind="main" disabled={lackingAdd !== undefined} title={lackingAdd} onClick={() => setOpen("upload")}>Upload</Button>
                <Button disabled={lackingAdd !== undefined} title={lackingAdd} onClick={() => setOpen("fetch")}>Fetch from an address</Button>
                <Button kind="danger" disabled={lackingRemove !== undefined} title={lackingRemove ?? "Its files stay where they are"} onClick={() => setOpen("forget")}>Remove datastore</Button>
            </div>
            {content.error !== undefined && <Failure error={content.error} retry={content.again} />}
            <Table
                name="Volumes"
                rows={content.data}
                id={(one) => one.volid}
                empty="Nothing lies here yet."
                filter
                columns={[
                    { title: "Volume", cell: (one) => <code>{one.volid}</code>, by: (one) => one.volid },
                    { title: "Content", cell: (one) => one.content, by: (one) => one.content },
                    { title: "Format", cell: (one) => one.format, by: (one) => one.format },
                    { title: "Of VM", cell: (one) => one.vmid ?? "–", by: (one) => one.vmid ?? 0, number: true },
                    { title: "Size", cell: (one) => size(one.size), by: (one) => one.size, number: true },
                    { title: "Used", cell: (one) => size(one.used), by: (one) => one.used ?? 0, number: true },
                    { title: "Made", cell: (one) => time(one.ctime), by: (one) => one.ctime ?? 0 },
                    { title: "", cell: (one) => <Button kind="quiet" label={`Remove ${one.volid}`} disabled={lackingRemove !== undefined} title={lackingRemove} onClick={() => setOpen(one)}>Remove</Button> },
                ]}
            />
            {open === "upload" && <UploadDialog {...target} />}
            {open === "fetch" && <FetchDialog {...target} />}
            {open === "forget" && (
                <Confirm title={`Remove the datastore ${storage}?`} text="The node forgets it. What lies in its folder stays there; a datastore that a VM's disk lies in is not removed." typed={storage} submit="Remove" done={done} onSubmit={forget} />
            )}
            {typeof open === "object" && (
                <Confirm
                    title="Remove this volume?"
                    text={`${open.volid} is deleted. A volume that a VM uses is not.`}
                    submit="Remove"
                    done={done}
                    onSubmit={() => begin(`Remove ${open.volid}`, () => api.delete("/nodes/{node}/storage/{storage}/content/{volume*}", { node, storage, volume: open.volid }), content.again)}
                />
            )}
        </>
    );
}
