// SPDX-License-Identifier: Apache-2.0
import type { Iface, NodeStatus } from "../api/types";
import { history } from "../history";
import { duration, percent, rate, size } from "../ui/format";
import { useLoad } from "../ui/load";
import { type Column, Dot, Facts, Failure, Meter, Table } from "../ui/parts";
import { Graphs, useTimeframe } from "./graphs";
import { TaskList } from "./tasks";

const networks: Column<Iface>[] = [
    { title: "Name", cell: (one) => <><Dot status={one.active ? "online" : "offline"} /> {one.iface}</>, by: (one) => one.iface },
    { title: "Kind", cell: (one) => one.type, by: (one) => one.type },
    { title: "Address", cell: (one) => one.cidr ?? one.address ?? "–", by: (one) => one.cidr ?? "" },
    { title: "Note", cell: (one) => one.comments ?? "" },
];

function Status(props: { status: NodeStatus }) {
    const { status } = props;
    return (
        <section class="cards">
            <div class="card">
                <Meter label="CPU" used={status.cpu} total={1} text={`${status.cpuinfo.cpus} CPUs`} />
                <Meter label="Memory" used={status.memory.used} total={status.memory.total} text={`${size(status.memory.used)} of ${size(status.memory.total)}`} />
                <Meter label="Root file system" used={status.rootfs.used} total={status.rootfs.total} text={`${size(status.rootfs.used)} of ${size(status.rootfs.total)}`} />
            </div>
            <div class="card">
                <Facts
                    rows={[
                        ["Processor", status.cpuinfo.model],
                        ["Load", status.loadavg.join(" ")],
                        ["Up", duration(status.uptime)],
                        ["Kernel", status.kversion],
                        ["Version", status.pveversion],
                    ]}
                />
            </div>
        </section>
    );
}

export function NodeView(props: { node: string }) {
    const { node } = props;
    const status = useLoad("/nodes/{node}/status", { node }, 3000);
    const [timeframe, chooseTimeframe] = useTimeframe();
    const averages = useLoad("/nodes/{node}/rrddata", { node, timeframe, cf: "AVERAGE" }, 60000);
    const network = useLoad("/nodes/{node}/network", { node });
    const samples = history(`node/${node}`, averages.data ?? []);
    return (
        <>
            <h1>Node {props.node}</h1>
            {status.error !== undefined && <Failure error={status.error} retry={status.again} />}
            {status.data !== undefined && <Status status={status.data} />}
            {chooseTimeframe}
            <Graphs
                samples={samples}
                graphs={[
                    { title: "CPU", lines: [["used", (one) => one.cpu]], format: percent, max: 1 },
                    { title: "Memory", lines: [["used", (one) => one.memused ?? one.mem]], format: size },
                    { title: "Network", lines: [["in", (one) => one.netin], ["out", (one) => one.netout]], format: rate },
                ]}
            />
            <h2>Network</h2>
            {network.error !== undefined && <Failure error={network.error} retry={network.again} />}
            <Table name="Networks" rows={network.data} columns={networks} id={(one) => one.iface} empty={network.data === undefined ? "…" : "No interface is listed."} />
            <h2>Tasks</h2>
            <TaskList name="Tasks of the node" parameters={{ node, limit: 100, source: "all" }} />
        </>
    );
}
