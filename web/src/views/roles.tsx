// SPDX-License-Identifier: Apache-2.0
// Roles: named sets of privileges. Those that the node brings along cannot be changed; one's own can.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Role } from "../api/types";
import { say } from "../state";
import { useLoad } from "../ui/load";
import { Button, Check, Confirm, Dialog, Failure, Table, TextField } from "../ui/parts";

const listed = (role: Role) => role.privs.split(",").filter((one) => one !== "");

function RoleDialog(props: { role?: Role; all: string[]; done: () => void }) {
    const { role } = props;
    const [name, setName] = useState(role?.roleid ?? "");
    const [held, setHeld] = useState(new Set(role === undefined ? [] : listed(role)));
    const toggle = (privilege: string, on: boolean) => {
        const next = new Set(held);
        if (on) next.add(privilege);
        else next.delete(privilege);
        setHeld(next);
    };
    const save = async () => {
        const privs = [...held].join(",");
        if (role === undefined) await api.post("/access/roles", { roleid: name, privs });
        else await api.put("/access/roles/{roleid}", { roleid: role.roleid, privs });
        say("good", `Role ${name}: saved`);
    };
    return (
        <Dialog title={role === undefined ? "Add a role" : `Role ${role.roleid}`} submit="Save" wide done={props.done} onSubmit={save}>
            {(errors) => (
                <>
                    {role === undefined && <TextField label="Name" value={name} onInput={setName} error={errors.roleid} required autofocus />}
                    <fieldset>
                        <legend>Privileges</legend>
                        <div class="columns narrow">
                            {props.all.map((one) => (
                                <Check key={one} label={one} value={held.has(one)} onInput={(on) => toggle(one, on)} />
                            ))}
                        </div>
                    </fieldset>
                    {errors.privs !== undefined && <p class="error" role="alert">{errors.privs}</p>}
                </>
            )}
        </Dialog>
    );
}

type Open = { what: "add" } | { what: "edit" | "remove"; role: Role } | undefined;

export function Roles() {
    const list = useLoad("/access/roles", {}, 10000);
    const [open, setOpen] = useState<Open>();
    const done = () => {
        setOpen(undefined);
        list.again();
    };
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    const all = [...new Set((list.data ?? []).flatMap(listed))].sort();
    return (
        <>
            <div class="actions">
                <Button kind="main" onClick={() => setOpen({ what: "add" })}>
                    Add role
                </Button>
            </div>
            <Table
                name="Roles"
                rows={list.data}
                id={(one) => one.roleid}
                empty="…"
                filter
                columns={[
                    { title: "Role", cell: (one) => one.roleid, by: (one) => one.roleid },
                    { title: "Privileges", cell: (one) => <span class="wrap">{listed(one).join(", ") || "–"}</span>, by: (one) => one.privs },
                    {
                        title: "",
                        cell: (one) =>
                            one.special === 1 ? (
                                <span class="note">built in</span>
                            ) : (
                                <>
                                    <Button kind="quiet" label={`Edit ${one.roleid}`} onClick={() => setOpen({ what: "edit", role: one })}>
                                        Edit
                                    </Button>
                                    <Button kind="quiet" label={`Remove ${one.roleid}`} onClick={() => setOpen({ what: "remove", role: one })}>
                                        Remove
                                    </Button>
                                </>
                            ),
                    },
                ]}
            />
            {open?.what === "add" && <RoleDialog all={all} done={done} />}
            {open?.what === "edit" && <RoleDialog role={open.role} all={all} done={done} />}
            {open?.what === "remove" && (
                <Confirm title={`Remove the role ${open.role.roleid}?`} text="Who has it loses what it gave." submit="Remove" done={done} onSubmit={() => api.delete("/access/roles/{roleid}", { roleid: open.role.roleid })} />
            )}
        </>
    );
}
