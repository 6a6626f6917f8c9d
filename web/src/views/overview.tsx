// SPDX-License-Identifier: Apache-2.0
// The first view: what runs, how full the nodes and datastores are, what happened last.
import { useState } from "preact/hooks";
import type { Resource } from "../api/types";
import { guests, href, listed, nodes, storages } from "../state";
import { duration, percent, size } from "../ui/format";
import { type Column, Dot, Meter, Table, Tags } from "../ui/parts";
import { BulkActions } from "./bulk";
import { RecentTasks } from "./tasks";

const columns: Column<Resource>[] = [
    { title: "ID", cell: (guest) => guest.vmid, by: (guest) => guest.vmid ?? 0, number: true },
    {
        title: "Name",
        cell: (guest) => (
            <a class="short" href={href("guest", guest.vmid!)} title={guest.name}>
                <Dot status={guest.status} /> {guest.name ?? `VM ${guest.vmid}`}
            </a>
        ),
        by: (guest) => guest.name ?? "",
    },
    { title: "State", cell: (guest) => (guest.template === 1 ? "template" : (guest.lock ?? guest.status)), by: (guest) => guest.status ?? "" },
    { title: "Node", cell: (guest) => guest.node, by: (guest) => guest.node ?? "" },
    { title: "CPU", cell: (guest) => (guest.status === "running" ? `${percent(guest.cpu)} of ${guest.maxcpu}` : "–"), by: (guest) => guest.cpu ?? 0, number: true },
    { title: "Memory", cell: (guest) => (guest.status === "running" ? `${size(guest.maxmem)}, ${size(guest.mem)} in use` : size(guest.maxmem)), by: (guest) => guest.maxmem ?? 0, number: true },
    { title: "Up", cell: (guest) => (guest.uptime ? duration(guest.uptime) : "–"), by: (guest) => guest.uptime ?? 0, number: true },
    { title: "Tags", cell: (guest) => <Tags of={guest} />, by: (guest) => guest.tags ?? "" },
];

function Count(props: { text: string; count: number }) {
    return (
        <div class="count">
            <b>{props.count}</b>
            <span>{props.text}</span>
        </div>
    );
}

export function Overview() {
    const [chosen, choose] = useState(new Set<string>());
    const machines = guests.value.filter((guest) => guest.template !== 1);
    const picked = machines.filter((guest) => chosen.has(guest.id));
    return (
        <>
            <h1>Overview</h1>
            <section class="cards" aria-label="Totals">
                <div class="card counts">
                    <Count text="running" count={machines.filter((guest) => guest.status === "running").length} />
                    <Count text="paused" count={machines.filter((guest) => guest.status === "paused").length} />
                    <Count text="stopped" count={machines.filter((guest) => guest.status === "stopped").length} />
                    <Count text="templates" count={guests.value.length - machines.length} />
                </div>
                {nodes.value.map((node) => (
                    <div class="card" key={node.id}>
                        <h2>
                            <a href={href("node", node.node!)}>{node.node}</a>
                        </h2>
                        <Meter label="CPU" used={node.cpu} total={1} text={`${node.maxcpu ?? "?"} CPUs`} />
                        <Meter label="Memory" used={node.mem} total={node.maxmem} text={`${size(node.mem)} of ${size(node.maxmem)}`} />
                    </div>
                ))}
                {storages.value.map((one) => (
                    <div class="card" key={one.id}>
                        <h2>
                            <a href={href("storage", one.node!, one.storage!)}>{one.storage}</a>
                        </h2>
                        <Meter label="Space" used={one.disk} total={one.maxdisk} text={`${size(one.disk)} of ${size(one.maxdisk)}`} />
                    </div>
                ))}
            </section>
            <h2>Guests</h2>
            {picked.length > 0 && <BulkActions guests={picked} done={() => choose(new Set())} />}
            <Table
                name="Guests"
                rows={listed.value ? guests.value : undefined}
                columns={columns}
                id={(guest) => guest.id}
                empty="No guests yet. Create VM, above, makes the first one."
                filter
                choosing={{ chosen, choose, name: (guest) => guest.name ?? String(guest.vmid), not: (guest) => guest.template === 1 }}
            />
            <RecentTasks />
        </>
    );
}
