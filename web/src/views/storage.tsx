// SPDX-License-Identifier: Apache-2.0
// A datastore: how full it is, what lies in it, upload with progress, removal.
import { useRef, useState } from "preact/hooks";
import { api, upload } from "../api/client";
import type { Volume } from "../api/types";
import { begin, may, run } from "../state";
import { percent, size, time } from "../ui/format";
import { useLoad } from "../ui/load";
import { Button, Confirm, Failure, Meter, Table } from "../ui/parts";

/** What a file is to be, by its name. */
function contentOf(name: string): string {
    if (/\.(iso|img)$/i.test(name)) return "iso";
    if (/\.(ya?ml|json|sh)$/i.test(name)) return "snippets";
    if (/\.(qcow2|raw|vmdk|vdi|vhdx)$/i.test(name)) return "import";
    return "iso";
}

function Upload(props: { node: string; storage: string; done: () => void }) {
    const input = useRef<HTMLInputElement>(null);
    const [progress, setProgress] = useState<number>();
    const send = async (file: File | undefined) => {
        if (file === undefined) return;
        setProgress(0);
        await run(`Upload ${file.name}`, () => upload(props.node, props.storage, contentOf(file.name), file, setProgress));
        setProgress(undefined);
        props.done();
    };
    return (
        <>
            <input ref={input} type="file" hidden aria-label="File to upload" onChange={(event) => void send(event.currentTarget.files?.[0])} />
            <Button kind="main" disabled={progress !== undefined} onClick={() => input.current?.click()}>
                Upload
            </Button>
            {progress !== undefined && (
                <label class="progress">
                    <progress value={progress} max={1} /> {percent(progress)}
                </label>
            )}
        </>
    );
}

export function StorageView(props: { node: string; storage: string }) {
    const { node, storage } = props;
    const status = useLoad("/nodes/{node}/storage/{storage}/status", { node, storage }, 5000);
    const content = useLoad("/nodes/{node}/storage/{storage}/content", { node, storage }, 5000);
    const [removing, setRemoving] = useState<Volume>();
    const done = () => {
        setRemoving(undefined);
        content.again();
    };
    if (status.error !== undefined && status.data === undefined)
        return (
            <>
                <h1>Datastore {storage}</h1>
                <Failure error={status.error} retry={status.again} />
            </>
        );
    const allowed = may("Datastore.Allocate", `/storage/${props.storage}`);
    return (
        <>
            <h1>Datastore {props.storage}</h1>
            {status.data !== undefined && (
                <section class="cards">
                    <div class="card">
                        <Meter label="Space" used={status.data.used} total={status.data.total} text={`${size(status.data.used)} of ${size(status.data.total)}`} />
                        <p class="note">
                            {status.data.type} · keeps {status.data.content.split(",").join(", ")}
                        </p>
                    </div>
                </section>
            )}
            <div class="actions">
                <Upload node={node} storage={storage} done={content.again} />
            </div>
            {content.error !== undefined && <Failure error={content.error} retry={content.again} />}
            <Table
                name="Volumes"
                rows={content.data ?? []}
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
                    { title: "", cell: (one) => <Button kind="quiet" disabled={!allowed} onClick={() => setRemoving(one)}>Remove</Button> },
                ]}
            />
            {removing !== undefined && (
                <Confirm
                    title="Remove this volume?"
                    text={`${removing.volid} is deleted. A volume that a VM uses is not.`}
                    submit="Remove"
                    done={done}
                    onSubmit={() => begin(`Remove ${removing.volid}`, () => api.delete("/nodes/{node}/storage/{storage}/content/{volume*}", { node, storage, volume: removing.volid }), content.again)}
                />
            )}
        </>
    );
}
