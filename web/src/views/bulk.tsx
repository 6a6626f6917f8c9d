// SPDX-License-Identifier: Apache-2.0
// What is done with several guests at once: one task of the node, whose log tells how it went with each.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { begin, run } from "../state";
import { Button, Confirm } from "../ui/parts";

const PATIENCE_SECONDS = 60;

/** Those of one node, as "101,102": a task belongs to one. */
function byNode(guests: Resource[]): [node: string, ids: string][] {
    const found = new Map<string, number[]>();
    for (const guest of guests) found.set(guest.node ?? "", [...(found.get(guest.node ?? "") ?? []), guest.vmid ?? 0]);
    return [...found].map(([node, ids]) => [node, ids.join(",")]);
}

export function BulkActions(props: { guests: Resource[]; done: () => void }) {
    const { guests, done } = props;
    const [stopping, setStopping] = useState(false);
    const count = guests.length === 1 ? "1 VM" : `${guests.length} VMs`;
    const each = (what: string, ask: (node: string, vms: string) => Promise<unknown>) => () => {
        for (const [node, vms] of byNode(guests)) void run(`${what} ${count}`, () => ask(node, vms));
        done();
    };
    const stop = async () => {
        for (const [node, vms] of byNode(guests)) await begin(`Stop ${count}`, () => api.post("/nodes/{node}/stopall", { node, vms, timeout: 1, "force-stop": true }));
        done();
    };
    return (
        <div class="actions bulk" role="group" aria-label="With those chosen">
            <b role="status">{count} chosen</b>
            <Button onClick={each("Start", (node, vms) => api.post("/nodes/{node}/startall", { node, vms, force: true }))}>Start</Button>
            <Button onClick={each("Shut down", (node, vms) => api.post("/nodes/{node}/stopall", { node, vms, timeout: PATIENCE_SECONDS, "force-stop": false }))}>Shut down</Button>
            <Button onClick={each("Pause", (node, vms) => api.post("/nodes/{node}/suspendall", { node, vms }))}>Pause</Button>
            <Button onClick={each("Back up", (node, vms) => api.post("/nodes/{node}/vzdump", { node, vmid: vms, mode: "snapshot", compress: "zstd" }))}>Back up</Button>
            <Button kind="danger" onClick={() => setStopping(true)} title="As pulling the plug: the guests are not asked">Stop</Button>
            <Button kind="quiet" onClick={done}>Choose none</Button>
            {stopping && (
                <Confirm title={`Stop ${count}?`} text={`${guests.map((guest) => guest.name ?? guest.vmid).join(", ")}: as pulling the plug. What is not written to their disks is lost.`} submit="Stop" done={() => setStopping(false)} onSubmit={stop} />
            )}
        </div>
    );
}
