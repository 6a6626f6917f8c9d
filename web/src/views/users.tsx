// SPDX-License-Identifier: Apache-2.0
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { User } from "../api/types";
import { run, say } from "../state";
import { time } from "../ui/format";
import { useLoad } from "../ui/load";
import { Button, Check, Confirm, Dialog, Failure, Table, TextField } from "../ui/parts";

function UserDialog(props: { user?: User; done: () => void }) {
    const { user } = props;
    const [userid, setUserid] = useState(user?.userid ?? "");
    const [password, setPassword] = useState("");
    const [email, setEmail] = useState(user?.email ?? "");
    const [comment, setComment] = useState(user?.comment ?? "");
    const [groups, setGroups] = useState((user?.groups ?? "").replaceAll(",", ", "));
    const [enable, setEnable] = useState(user?.enable !== 0);
    const save = async () => {
        const id = userid.includes("@") ? userid : `${userid}@wirt`;
        const facts = { email, comment, enable, groups: groups.split(/[\s,]+/).filter((one) => one !== "").join(",") };
        if (user === undefined) await api.post("/access/users", { userid: id, password, ...facts });
        else await api.put("/access/users/{userid}", { userid: user.userid, ...facts });
        say("good", `User ${id}: saved`);
    };
    return (
        <Dialog title={user === undefined ? "Add a user" : `User ${user.userid}`} submit="Save" done={props.done} onSubmit={save}>
            {(errors) => (
                <>
                    {user === undefined && (
                        <>
                            <TextField label="User" value={userid} onInput={setUserid} error={errors.userid} hint="name@wirt; name@pam is a user of the machine" required autofocus />
                            <TextField label="Password" type="password" value={password} onInput={setPassword} error={errors.password} autocomplete="new-password" />
                        </>
                    )}
                    <TextField label="E-mail" type="email" value={email} onInput={setEmail} error={errors.email} />
                    <TextField label="Groups" value={groups} onInput={setGroups} error={errors.groups} hint="Separated by commas; groups are made under Groups." />
                    <TextField label="Notes" value={comment} onInput={setComment} error={errors.comment} />
                    <Check label="May log in" value={enable} onInput={setEnable} />
                </>
            )}
        </Dialog>
    );
}

function Secret(props: { id: string; value: string; done: () => void }) {
    return (
        <Dialog title="The token's secret" submit="I have copied it" done={props.done} onSubmit={async () => {}}>
            {() => (
                <>
                    <p>It is shown only now; the node keeps no copy.</p>
                    <p>
                        <code class="secret">
                            PVEAPIToken={props.id}={props.value}
                        </code>
                    </p>
                </>
            )}
        </Dialog>
    );
}

function Tokens(props: { userid: string; done: () => void }) {
    const { userid } = props;
    const path = "/access/users/{userid}/token/{tokenid}";
    const list = useLoad("/access/users/{userid}/token", { userid });
    const [name, setName] = useState("");
    const [separate, setSeparate] = useState(true);
    const [secret, setSecret] = useState<{ id: string; value: string }>();
    const add = async () => {
        const made = await api.post(path, { userid, tokenid: name, privsep: separate });
        setSecret({ id: made["full-tokenid"], value: made.value });
        return "stay" as const;
    };
    if (secret !== undefined) return <Secret {...secret} done={props.done} />;
    return (
        <Dialog title={`Tokens of ${props.userid}`} submit="Add token" done={props.done} onSubmit={add}>
            {(errors) => (
                <>
                    {list.error !== undefined && <Failure error={list.error} />}
                    <Table
                        name="Tokens"
                        rows={list.data}
                        id={(one) => one.tokenid ?? ""}
                        empty="No tokens. A token lets a program act for this user without the password."
                        columns={[
                            { title: "Name", cell: (one) => one.tokenid },
                            { title: "Rights", cell: (one) => (one.privsep === 0 ? "all of the user's" : "its own only") },
                            { title: "Until", cell: (one) => time(one.expire) },
                            {
                                title: "",
                                cell: (one) => (
                                    <Button kind="quiet" label={`Remove ${one.tokenid}`} onClick={() => void run(`Remove token ${one.tokenid}`, () => api.delete(path, { userid, tokenid: one.tokenid ?? "" })).then(list.again)}>
                                        Remove
                                    </Button>
                                ),
                            },
                        ]}
                    />
                    <TextField label="Name of the new token" value={name} onInput={setName} error={errors.tokenid} required />
                    <Check label="Separate rights" hint="The token may only what is given to it by name, within what the user may." value={separate} onInput={setSeparate} />
                </>
            )}
        </Dialog>
    );
}

function Password(props: { userid: string; done: () => void }) {
    const [password, setPassword] = useState("");
    return (
        <Dialog title={`Password of ${props.userid}`} submit="Set" done={props.done} onSubmit={() => api.put("/access/password", { userid: props.userid, password })}>
            {(errors) => <TextField label="New password" type="password" value={password} onInput={setPassword} error={errors.password} autocomplete="new-password" required autofocus />}
        </Dialog>
    );
}

type Open = { what: "add" } | { what: "edit" | "remove" | "tokens" | "password"; user: User } | undefined;

function Opened(props: { open: Open; done: () => void }) {
    const { open, done } = props;
    switch (open?.what) {
        case "add":
            return <UserDialog done={done} />;
        case "edit":
            return <UserDialog user={open.user} done={done} />;
        case "tokens":
            return <Tokens userid={open.user.userid} done={done} />;
        case "password":
            return <Password userid={open.user.userid} done={done} />;
        case "remove":
            return (
                <Confirm
                    title={`Remove ${open.user.userid}?`}
                    text="The user's tokens and rights go with it; the VMs stay."
                    submit="Remove"
                    done={done}
                    onSubmit={() => api.delete("/access/users/{userid}", { userid: open.user.userid })}
                />
            );
        default:
            return null;
    }
}

export function Users() {
    const list = useLoad("/access/users", { full: 1 }, 10000);
    const [open, setOpen] = useState<Open>();
    const done = () => {
        setOpen(undefined);
        list.again();
    };
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    const action = (user: User, what: "edit" | "remove" | "tokens" | "password", text: string) => (
        <Button kind="quiet" label={`${text} ${user.userid}`} onClick={() => setOpen({ what, user })}>
            {text}
        </Button>
    );
    return (
        <>
            <div class="actions">
                <Button kind="main" onClick={() => setOpen({ what: "add" })}>
                    Add user
                </Button>
            </div>
            <Table
                name="Users"
                rows={list.data}
                id={(one) => one.userid}
                empty="…"
                filter
                columns={[
                    { title: "User", cell: (one) => one.userid, by: (one) => one.userid },
                    { title: "Groups", cell: (one) => one.groups || "–", by: (one) => one.groups ?? "" },
                    { title: "State", cell: (one) => (one.enable === 0 ? "disabled" : "enabled"), by: (one) => one.enable ?? 1 },
                    { title: "Notes", cell: (one) => one.comment ?? "" },
                    {
                        title: "",
                        cell: (one) => (
                            <>
                                {action(one, "edit", "Edit")}
                                {action(one, "tokens", "Tokens")}
                                {action(one, "password", "Password")}
                                {action(one, "remove", "Remove")}
                            </>
                        ),
                    },
                ]}
            />
            <Opened open={open} done={done} />
        </>
    );
}
