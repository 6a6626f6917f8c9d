// SPDX-License-Identifier: Apache-2.0
// Who may what where: a role given to a user, group or token at a path, and to all below it when it propagates.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { AclEntry } from "../api/types";
import { run } from "../state";
import { useLoad } from "../ui/load";
import { Button, Check, Choice, Dialog, Failure, Table, TextField } from "../ui/parts";

type Kind = "user" | "group" | "token";
const KINDS: [Kind, string][] = [
    ["user", "User"],
    ["group", "Group"],
    ["token", "Token"],
];

function Add(props: { done: () => void }) {
    const roles = useLoad("/access/roles", {});
    const [path, setPath] = useState("/");
    const [kind, setKind] = useState<Kind>("user");
    const [who, setWho] = useState("");
    const [role, setRole] = useState("PVEVMUser");
    const [propagate, setPropagate] = useState(true);
    const privs = roles.data?.find((one) => one.roleid === role)?.privs;
    return (
        <Dialog title="Give a right" submit="Give" done={props.done} onSubmit={() => api.put("/access/acl", { path, roles: role, [`${kind}s`]: who, propagate })}>
            {(errors) => (
                <>
                    <TextField label="Path" value={path} onInput={setPath} error={errors.path} hint="/ is everything; /vms/100 one VM; /pool/NAME; /storage/NAME" required autofocus />
                    <Choice label="To a" value={kind} onInput={(value) => setKind(value as Kind)} options={KINDS} />
                    <TextField label="Name" value={who} onInput={setWho} error={errors[`${kind}s`]} hint="anna@wirt, a group's name, or anna@wirt!token" required />
                    <Choice label="Role" value={role} onInput={setRole} error={errors.roles} options={(roles.data ?? []).map((one) => [one.roleid, one.roleid])} hint={privs?.replaceAll(",", ", ")} />
                    <Check label="And all below the path" value={propagate} onInput={setPropagate} />
                </>
            )}
        </Dialog>
    );
}

export function Rights() {
    const list = useLoad("/access/acl", {}, 10000);
    const [adding, setAdding] = useState(false);
    const take = (one: AclEntry) =>
        void run(`Take ${one.roleid} from ${one.ugid}`, () => api.put("/access/acl", { path: one.path, roles: one.roleid, [`${one.type}s`]: one.ugid, delete: true })).then(list.again);
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    return (
        <>
            <div class="actions">
                <Button kind="main" onClick={() => setAdding(true)}>
                    Give a right
                </Button>
            </div>
            <Table
                name="Rights"
                rows={list.data}
                id={(one) => `${one.path} ${one.type} ${one.ugid} ${one.roleid}`}
                empty="No rights are given, but for the administrator's."
                filter
                columns={[
                    { title: "Path", cell: (one) => <code>{one.path}</code>, by: (one) => one.path },
                    { title: "To", cell: (one) => `${one.type} ${one.ugid}`, by: (one) => one.ugid },
                    { title: "Role", cell: (one) => one.roleid, by: (one) => one.roleid },
                    { title: "Below too", cell: (one) => (one.propagate === 0 ? "no" : "yes") },
                    {
                        title: "",
                        cell: (one) => (
                            <Button kind="quiet" label={`Take ${one.roleid} at ${one.path} from ${one.ugid}`} onClick={() => take(one)}>
                                Take away
                            </Button>
                        ),
                    },
                ]}
            />
            {adding && (
                <Add
                    done={() => {
                        setAdding(false);
                        list.again();
                    }}
                />
            )}
        </>
    );
}
