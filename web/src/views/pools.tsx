// SPDX-License-Identifier: Apache-2.0
// Pools: guests and datastores under one name, on which a right is given once ("/pool/NAME").
import { useState } from "preact/hooks";
import { type AnswerOf, api } from "../api/client";
import type { Resource } from "../api/types";
import { guests, resources } from "../state";
import { useLoad } from "../ui/load";
import { Button, Check, Confirm, Dialog, Failure, Table, TextField } from "../ui/parts";

type Pool = AnswerOf<"GET", "/pools">[number];
type Open = { what: "add" } | { what: "members" | "remove"; pool: Pool } | undefined;

function Add(props: { done: () => void }) {
    const [poolid, setPoolid] = useState("");
    const [comment, setComment] = useState("");
    return (
        <Dialog title="Add a pool" submit="Add" done={props.done} onSubmit={() => api.post("/pools", { poolid, comment })}>
            {(errors) => (
                <>
                    <TextField label="Name" value={poolid} onInput={setPoolid} error={errors.poolid} required autofocus />
                    <TextField label="Notes" value={comment} onInput={setComment} error={errors.comment} />
                </>
            )}
        </Dialog>
    );
}

/** A guest is in one pool at most: one that is in another says so, and comes over. */
function Members(props: { poolid: string; before: Resource[]; done: () => void }) {
    const { poolid } = props;
    const [chosen, setChosen] = useState(new Set(props.before.map((one) => one.id)));
    const stores = resources.value.filter((one) => one.type === "storage");
    const toggle = (id: string, on: boolean) => {
        const next = new Set(chosen);
        if (on) next.add(id);
        else next.delete(id);
        setChosen(next);
    };
    const save = async () => {
        const was = new Set(props.before.map((one) => one.id));
        const named = (all: Resource[], has: Set<string>, lacks: Set<string>) => all.filter((one) => has.has(one.id) && !lacks.has(one.id)).map((one) => String(one.vmid ?? one.storage));
        for (const [has, lacks, gone] of [[chosen, was, false], [was, chosen, true]] as const) {
            const [vms, storage] = [named(guests.value, has, lacks), named(stores, has, lacks)];
            if (vms.length + storage.length > 0) await api.put("/pools/{poolid}", { poolid, vms: vms.join(",") || undefined, storage: storage.join(",") || undefined, delete: gone, "allow-move": !gone });
        }
    };
    const box = (one: Resource, label: string) => <Check key={one.id} label={label} value={chosen.has(one.id)} onInput={(on) => toggle(one.id, on)} />;
    return (
        <Dialog title={`Members of ${poolid}`} submit="Save" wide done={props.done} onSubmit={save}>
            {(errors) => (
                <>
                    <fieldset>
                        <legend>VMs and templates</legend>
                        <div class="columns narrow">{guests.value.map((one) => box(one, `${one.name ?? ""} (${one.vmid})${one.pool === undefined || one.pool === poolid ? "" : `, now in ${one.pool}`}`))}</div>
                    </fieldset>
                    <fieldset>
                        <legend>Datastores</legend>
                        <div class="columns narrow">{stores.map((one) => box(one, one.storage ?? ""))}</div>
                    </fieldset>
                    {Object.values(errors).map((error) => <p class="error" role="alert">{error}</p>)}
                </>
            )}
        </Dialog>
    );
}

/** The dialog, once it is known who is in the pool now. */
function MembersOf(props: { pool: Pool; done: () => void }) {
    const { poolid } = props.pool;
    const pool = useLoad("/pools/{poolid}", { poolid });
    if (pool.error !== undefined) return <Failure error={pool.error} retry={pool.again} />;
    return pool.data === undefined ? null : <Members poolid={poolid} before={pool.data.members as Resource[]} done={props.done} />;
}

export function Pools() {
    const list = useLoad("/pools", {}, 10000);
    const [open, setOpen] = useState<Open>();
    const done = () => {
        setOpen(undefined);
        list.again();
    };
    const names = (pool: Pool) => guests.value.filter((one) => one.pool === pool.poolid).map((one) => one.name ?? one.vmid).join(", ") || "–";
    if (list.error !== undefined && list.data === undefined) return <Failure error={list.error} retry={list.again} />;
    return (
        <>
            <div class="actions">
                <Button kind="main" onClick={() => setOpen({ what: "add" })}>
                    Add pool
                </Button>
            </div>
            <Table
                name="Pools"
                rows={list.data}
                id={(one) => one.poolid}
                empty="No pools. A right on /pool/NAME holds for all that is in the pool."
                columns={[
                    { title: "Pool", cell: (one) => one.poolid, by: (one) => one.poolid },
                    { title: "VMs", cell: (one) => <span class="short" title={names(one)}>{names(one)}</span> },
                    { title: "Notes", cell: (one) => one.comment ?? "" },
                    {
                        title: "",
                        cell: (pool) => (
                            <>
                                <Button kind="quiet" label={`Members of ${pool.poolid}`} onClick={() => setOpen({ what: "members", pool })}>
                                    Members
                                </Button>
                                <Button kind="quiet" label={`Remove ${pool.poolid}`} onClick={() => setOpen({ what: "remove", pool })}>
                                    Remove
                                </Button>
                            </>
                        ),
                    },
                ]}
            />
            {open?.what === "add" && <Add done={done} />}
            {open?.what === "members" && <MembersOf pool={open.pool} done={done} />}
            {open?.what === "remove" && (
                <Confirm title={`Remove the pool ${open.pool.poolid}?`} text="The rights on it go, too. One with members is not removed." submit="Remove" done={done} onSubmit={() => api.delete("/pools/{poolid}", { poolid: open.pool.poolid })} />
            )}
        </>
    );
}
