// SPDX-License-Identifier: Apache-2.0
// What each running guest and each node used while the page was open: the list of resources is asked for every few seconds anyway, and
// graphs go on with it where the node's own averages (rrddata) end.
import type { Resource, Sample } from "./api/types";

const KEPT = 400;

interface Kept {
    last: Resource;
    at: number;
    samples: Sample[];
}

const kept = new Map<string, Kept>();

/** Counters become rates; one that went back was started anew. */
function rate(now: number | undefined, before: number | undefined, seconds: number): number | undefined {
    if (now === undefined || before === undefined || now < before || seconds <= 0) return undefined;
    return (now - before) / seconds;
}

function sample(now: Resource, before: Kept, time: number): Sample {
    const seconds = time - before.at;
    return {
        time,
        cpu: now.cpu,
        mem: now.mem,
        maxmem: now.maxmem,
        netin: rate(now.netin, before.last.netin, seconds),
        netout: rate(now.netout, before.last.netout, seconds),
        diskread: rate(now.diskread, before.last.diskread, seconds),
        diskwrite: rate(now.diskwrite, before.last.diskwrite, seconds),
    };
}

/** Takes the present state of everything into the history. */
export function note(all: Resource[]): void {
    const time = Date.now() / 1000;
    for (const one of all) {
        if (one.type === "storage") continue;
        if (one.status !== "running" && one.status !== "online") {
            kept.delete(one.id);
            continue;
        }
        const before = kept.get(one.id);
        const samples = before?.samples ?? [];
        if (before !== undefined) samples.push(sample(one, before, time));
        if (samples.length > KEPT) samples.shift();
        kept.set(one.id, { last: one, at: time, samples });
    }
}

/** The node's averages, and what was seen since their last. */
export function history(id: string, averages: Sample[]): Sample[] {
    const known = averages.filter((one) => one.cpu !== undefined);
    const end = known.at(-1)?.time ?? 0;
    return [...known, ...(kept.get(id)?.samples ?? []).filter((one) => one.time > end)];
}
