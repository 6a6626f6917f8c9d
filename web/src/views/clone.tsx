// SPDX-License-Identifier: Apache-2.0
import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { begin, go, names } from "../state";
import { Check, Dialog, TextField } from "../ui/parts";

export function CloneGuest(props: { guest: Resource; done: () => void }) {
    const { guest } = props;
    const [id, setId] = useState("");
    const [name, setName] = useState(`${guest.name ?? "vm"}-copy`);
    const [full, setFull] = useState(guest.template !== 1);
    useEffect(() => void api.get("/cluster/nextid").then(setId, () => {}), []);
    const clone = () =>
        begin(
            `Clone to ${name}`,
            () => api.post("/nodes/{node}/qemu/{vmid}/clone", { ...names(guest), newid: id, name, full }),
            (well) => well && go("guest", id),
        );
    return (
        <Dialog title={`Clone ${guest.name ?? guest.vmid}`} submit="Clone" done={props.done} onSubmit={clone}>
            {(errors) => (
                <>
                    <TextField label="Name" value={name} onInput={setName} error={errors.name} required autofocus />
                    <TextField label="ID" type="number" min={100} value={id} onInput={setId} error={errors.newid} required />
                    <Check
                        label="Copy the disks in full"
                        value={full}
                        onInput={setFull}
                        hint={guest.template === 1 ? "Without it, the clone shares what it does not change with the template: made at once, little space." : "Only a template can be cloned without copying."}
                    />
                </>
            )}
        </Dialog>
    );
}
