// SPDX-License-Identifier: Apache-2.0
// A file for a datastore: from this machine, with progress, or fetched by the node from an address. A checksum, where one is
// given, is compared by the node before the file is there.
import { useRef, useState } from "preact/hooks";
import { api, upload } from "../api/client";
import { begin } from "../state";
import { percent, size } from "../ui/format";
import { Check, Choice, Dialog, Field, TextField } from "../ui/parts";

export type Content = "iso" | "import" | "snippets" | "backup" | "vztmpl";
const CONTENTS: [Content, string][] = [
    ["iso", "Installation image"],
    ["import", "Disk image, to make VMs of"],
    ["snippets", "Snippet: a file for cloud-init"],
    ["backup", "Backup"],
    ["vztmpl", "Container template"],
];
const ALGORITHMS: Record<number, string> = { 32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512" };

/** What a file is to be, by its name. */
function contentOf(name: string): Content {
    if (/\.(ya?ml|json|sh)$/i.test(name)) return "snippets";
    if (/\.(qcow2|raw|vmdk|vdi|vhdx)$/i.test(name)) return "import";
    if (/\.(vma|zst)$/i.test(name)) return "backup";
    return "iso";
}

interface Sum {
    checksum: string;
    "checksum-algorithm": string;
}

/** The length tells which sum it is. */
function sumOf(text: string): Partial<Sum> {
    const checksum = text.trim().toLowerCase();
    if (checksum === "") return {};
    const algorithm = /^[0-9a-f]+$/.test(checksum) ? ALGORITHMS[checksum.length] : undefined;
    if (algorithm === undefined) throw new Error("A checksum has 32 (MD5), 40 (SHA-1), 56, 64, 96 or 128 (SHA-2) hexadecimal digits.");
    return { checksum, "checksum-algorithm": algorithm };
}

function Common(props: { keeps: string[]; content: Content; setContent: (content: Content) => void; sum: string; setSum: (sum: string) => void; errors: Record<string, string> }) {
    const { errors } = props;
    return (
        <>
            <Choice label="It is" value={props.content} onInput={(content) => props.setContent(content as Content)} options={CONTENTS.filter(([name]) => props.keeps.includes(name))} error={errors.content} />
            <TextField label="Checksum" value={props.sum} onInput={props.setSum} error={errors.checksum ?? errors["checksum-algorithm"]} hint="Where you have one: MD5, SHA-1 or SHA-2 in hexadecimal. The file is refused when it has another." />
        </>
    );
}

interface Target {
    node: string;
    storage: string;
    keeps: string[];
    changed: () => void;
    done: () => void;
}

export function UploadDialog(props: Target) {
    const [file, setFile] = useState<File>();
    const [content, setContent] = useState<Content>("iso");
    const [sum, setSum] = useState("");
    const [sent, setSent] = useState<number>();
    const abort = useRef(new AbortController());
    const choose = (chosen: File | undefined) => {
        setFile(chosen);
        if (chosen !== undefined) setContent(contentOf(chosen.name));
    };
    const send = async () => {
        if (file === undefined) throw new Error("Choose a file first.");
        setSent(0);
        try {
            const call = await upload(props.node, props.storage, { content, ...sumOf(sum) }, file, setSent, abort.current.signal);
            await begin(`Upload ${file.name}`, async () => call, props.changed);
        } finally {
            setSent(undefined);
        }
    };
    const done = () => {
        abort.current.abort(); // Cancel, while it is being sent
        props.done();
    };
    return (
        <Dialog title="Upload a file" submit="Upload" done={done} onSubmit={send}>
            {(errors) => (
                <>
                    <Field label="File" error={errors.filename} hint={file === undefined ? undefined : size(file.size)}>
                        {(id, described) => <input id={id} aria-describedby={described} type="file" onChange={(event) => choose(event.currentTarget.files?.[0])} />}
                    </Field>
                    <Common keeps={props.keeps} content={content} setContent={setContent} sum={sum} setSum={setSum} errors={errors} />
                    {sent !== undefined && (
                        <p class="progress">
                            <progress aria-label="Sent" value={sent} max={1} /> <span>{percent(sent)} of {size(file?.size)}</span>
                        </p>
                    )}
                </>
            )}
        </Dialog>
    );
}

export function FetchDialog(props: Target) {
    const [url, setUrl] = useState("");
    const [name, setName] = useState("");
    const [content, setContent] = useState<Content>("iso");
    const [sum, setSum] = useState("");
    const [verify, setVerify] = useState(true);
    const where = { node: props.node, storage: props.storage };
    const typed = (address: string) => {
        const last = address.split(/[?#]/)[0]!.split("/").at(-1) ?? "";
        setUrl(address);
        setName(last);
        if (last !== "") setContent(contentOf(last));
    };
    const fetch = () => begin(`Fetch ${name}`, async () => api.post("/nodes/{node}/storage/{storage}/download-url", { ...where, url, filename: name, content, ...sumOf(sum), "verify-certificates": verify }), props.changed);
    return (
        <Dialog title="Fetch a file" submit="Fetch" done={props.done} onSubmit={fetch}>
            {(errors) => (
                <>
                    <TextField label="Address" type="url" value={url} onInput={typed} error={errors.url} hint="https://…: the node fetches it, not this browser." required autofocus />
                    <TextField label="Its name here" value={name} onInput={setName} error={errors.filename} required />
                    <Common keeps={props.keeps} content={content} setContent={setContent} sum={sum} setSum={setSum} errors={errors} />
                    <Check label="Check the other side's certificate" value={verify} onInput={setVerify} />
                </>
            )}
        </Dialog>
    );
}
