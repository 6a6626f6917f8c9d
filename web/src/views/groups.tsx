// SPDX-License-Identifier: Apache-2.0
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Group } from "../api/types";
import { useLoad } from "../ui/load";
import { Button, Confirm, Dialog, Failure, Table, TextField } from "../ui/parts";

function Add(props: { done: () => void }) {
    const [groupid, setGroupid] = useState("");
    const [comment, setComment] = useState("");
    return (
        <Dialog title="Add a group" submit="Add" done={props.done} onSubmit={() => api.post("/access/groups", { groupid, comment })}>
            {(errors) => (
                <>
                    <TextField label="Name" value={groupid} onInput={setGroupid} error={errors.groupid} required autofocus />
                    <TextField label="Notes" value={comment} onInput={setComment} error={errors.comment} />
                </>
            )}
        </Dialog>
    );
}

/** Who is in a group is kept with the users; here it is shown and set as one list. */
function Members(props: { group: Group; done: () => void }) {
    const before = (props.group.users ?? "").split(",").filter((one) => one !== "");
    const [text, setText] = useState(before.join(", "));
    const save = async () => {
        const now = text.split(/[\s,]+/).filter((one) => one !== "");
        for (const userid of now.filter((one) => !before.includes(one)))
            await api.put("/access/users/{userid}", { userid, groups: props.group.groupid, append: true });
        for (const userid of before.filter((one) => !now.includes(one))) await leave(userid, props.group.groupid);
    };
    return (
        <Dialog title={`Members of ${props.group.groupid}`} submit="Save" done={props.done} onSubmit={save}>
            {() => <TextField label="Users" value={text} onInput={setText} hint="Separated by commas: anna@wirt, ben@pam" autofocus />}
        </Dialog>
    );
}

async function leave(userid: string, group: string): Promise<void> {
    const user = await api.get("/access/users/{userid}", { userid });
    const groups = Array.isArray(user.groups) ? user.groups : (user.groups ?? "").split(",");
    await api.put("/access/users/{userid}", { userid, groups: groups.filter((one) => one !== group && one !== "").join(",") });
}

export function Groups() {
    const list = useLoad("/access/groups", {}, 10000);
    const [open, setOpen] = useState<{ what: "add" } | { what: "members" | "remove"; group: Group }>();
    const done = () => {
        setOpen(undefined);
        list.again();
    };
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    return (
        <>
            <div class="actions">
                <Button kind="main" onClick={() => setOpen({ what: "add" })}>
                    Add group
                </Button>
            </div>
            <Table
                name="Groups"
                rows={list.data}
                id={(one) => one.groupid}
                empty="No groups. A right given to a group holds for all its members."
                columns={[
                    { title: "Group", cell: (one) => one.groupid, by: (one) => one.groupid },
                    { title: "Members", cell: (one) => one.users || "–" },
                    { title: "Notes", cell: (one) => one.comment ?? "" },
                    {
                        title: "",
                        cell: (one) => (
                            <>
                                <Button kind="quiet" label={`Members of ${one.groupid}`} onClick={() => setOpen({ what: "members", group: one })}>
                                    Members
                                </Button>
                                <Button kind="quiet" label={`Remove ${one.groupid}`} onClick={() => setOpen({ what: "remove", group: one })}>
                                    Remove
                                </Button>
                            </>
                        ),
                    },
                ]}
            />
            {open?.what === "add" && <Add done={done} />}
            {open?.what === "members" && <Members group={open.group} done={done} />}
            {open?.what === "remove" && (
                <Confirm title={`Remove the group ${open.group.groupid}?`} text="Its members leave it, and lose what it gave." submit="Remove" done={done} onSubmit={() => api.delete("/access/groups/{groupid}", { groupid: open.group.groupid })} />
            )}
        </>
    );
}
