// SPDX-License-Identifier: Apache-2.0
// A new datastore: a directory of the node under a name.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import { go, may, nodes, refresh, say } from "../state";
import { Button, Check, Dialog, TextField } from "../ui/parts";

const KEEPS: [string, string][] = [
    ["images", "Disks of VMs"],
    ["iso", "Installation images"],
    ["import", "Disk images to make VMs of"],
    ["backup", "Backups"],
    ["snippets", "Snippets for cloud-init"],
];

function Add(props: { done: () => void }) {
    const [storage, setStorage] = useState("");
    const [path, setPath] = useState("");
    const [keeps, setKeeps] = useState(KEEPS.map(([name]) => name));
    const add = async () => {
        if (keeps.length === 0) throw new Error("Say at least one thing that it keeps.");
        await api.post("/storage", { storage, type: "dir", path, content: keeps.join(",") });
        say("good", `Datastore ${storage}: added`);
        await refresh();
        go("storage", nodes.value[0]?.node ?? "localhost", storage);
    };
    return (
        <Dialog title="Add a datastore" submit="Add" done={props.done} onSubmit={add}>
            {(errors) => (
                <>
                    <TextField label="Name" value={storage} onInput={setStorage} error={errors.storage} required autofocus />
                    <TextField label="Folder on the node" value={path} onInput={setPath} error={errors.path} hint="/srv/vms: a whole path. The node's user must be able to write there." required />
                    <fieldset>
                        <legend>It keeps</legend>
                        {KEEPS.map(([name, text]) => (
                            <Check key={name} label={text} value={keeps.includes(name)} onInput={(on) => setKeeps(on ? [...keeps, name] : keeps.filter((one) => one !== name))} />
                        ))}
                    </fieldset>
                    {errors.content !== undefined && <p class="error" role="alert">{errors.content}</p>}
                </>
            )}
        </Dialog>
    );
}

/** For those who may; others are spared what they would be refused. */
export function AddDatastore() {
    const [open, setOpen] = useState(false);
    if (!may("Datastore.Allocate", "/storage")) return null;
    return (
        <>
            <Button kind="quiet" onClick={() => setOpen(true)}>
                Add datastore
            </Button>
            {open && <Add done={() => setOpen(false)} />}
        </>
    );
}
