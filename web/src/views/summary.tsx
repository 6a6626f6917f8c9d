// SPDX-License-Identifier: Apache-2.0
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { history } from "../history";
import { names, reason } from "../state";
import { useEffect, useState } from "preact/hooks";
import { duration, percent, rate, size } from "../ui/format";
import { useLoad } from "../ui/load";
import { Facts, Failure, Meter, Tags } from "../ui/parts";
import { Graphs, useTimeframe } from "./graphs";

/** Addresses as the guest's agent tells them; where it does not answer those that the network keeps for its cards. */
function useAddresses(guest: Resource): string {
    const [text, setText] = useState("–");
    useEffect(() => {
        const { node, vmid } = names(guest);
        const abort = new AbortController();
        const told = async () => {
            const { result } = await api.get("/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces", { node, vmid }, abort.signal);
            return result.filter((one) => one.name !== "lo").flatMap((one) => one["ip-addresses"] ?? []).map((one) => one["ip-address"]);
        };
        const kept = async () => (await api.get("/nodes/{node}/cards", { node, vmid }, abort.signal)).flatMap((card) => (card.address === undefined ? [] : [`${card.address} (${card.card})`]));
        (guest.status === "running" ? told().catch(kept) : kept())
            .then((all) => setText(all.join(", ") || "none known"))
            .catch((error) => !abort.signal.aborted && setText(reason(error)));
        return () => abort.abort();
    }, [guest.status, guest.vmid]);
    return text;
}

export function Summary(props: { guest: Resource }) {
    const { guest } = props;
    const config = useLoad("/nodes/{node}/qemu/{vmid}/config", names(guest));
    const [timeframe, chooseTimeframe] = useTimeframe();
    const averages = useLoad("/nodes/{node}/qemu/{vmid}/rrddata", { ...names(guest), timeframe, cf: "AVERAGE" }, 60000);
    const running = guest.status !== "stopped";
    const samples = history(guest.id, averages.data ?? []);
    const addresses = useAddresses(guest);
    if (config.error !== undefined) return <Failure error={config.error} retry={config.again} />;
    return (
        <>
            <section class="cards">
                <div class="card">
                    <Meter label="CPU" used={running ? guest.cpu : undefined} total={1} text={guest.maxcpu === 1 ? "1 vCPU" : `${guest.maxcpu ?? "?"} vCPUs`} />
                    <Facts
                        rows={[
                            ["Memory", size(guest.maxmem)],
                            ["On the node", running ? `${size(guest.mem)}, with what the machine itself needs` : "none while it does not run"],
                            ["First disk", size(guest.maxdisk)],
                        ]}
                    />
                </div>
                <div class="card">
                    <Facts
                        rows={[
                            ["State", guest.status],
                            ["Up", guest.uptime ? duration(guest.uptime) : "–"],
                            ["Node", guest.node],
                            ["Addresses", addresses],
                            ["Pool", guest.pool ?? "–"],
                            ["Tags", <Tags of={guest} />],
                        ]}
                    />
                </div>
                {config.data?.description !== undefined && (
                    <div class="card">
                        <h2>Notes</h2>
                        <p class="notes">{config.data.description}</p>
                    </div>
                )}
            </section>
            {running && chooseTimeframe}
            <Graphs
                samples={samples}
                none={running ? undefined : "The VM does not run: there is nothing to measure."}
                graphs={[
                    { title: "CPU", lines: [["used", (one) => one.cpu]], format: percent, max: 1 },
                    { title: "Memory on the node", lines: [["used", (one) => one.mem]], format: size },
                    { title: "Network", lines: [["in", (one) => one.netin], ["out", (one) => one.netout]], format: rate },
                    { title: "Disk", lines: [["read", (one) => one.diskread], ["written", (one) => one.diskwrite]], format: rate },
                ]}
            />
        </>
    );
}
