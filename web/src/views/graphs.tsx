// SPDX-License-Identifier: Apache-2.0
// Samples of a guest or a node as graphs. With fewer than two samples there is nothing to draw, and it says so.
import { useMemo } from "preact/hooks";
import type { Sample } from "../api/types";
import { Chart } from "../ui/chart";

export interface Graph {
    title: string;
    lines: [label: string, value: (sample: Sample) => number | undefined][];
    format: (value: number) => string;
    max?: number;
}

function OneGraph(props: { samples: Sample[]; times: number[]; graph: Graph }) {
    const lines = useMemo(
        () => props.graph.lines.map(([label, value]) => ({ label, values: props.samples.map((sample) => value(sample) ?? null) })),
        [props.samples],
    );
    return <Chart title={props.graph.title} times={props.times} lines={lines} format={props.graph.format} max={props.graph.max} />;
}

export function Graphs(props: { samples: Sample[]; graphs: Graph[] }) {
    const times = useMemo(() => props.samples.map((sample) => sample.time), [props.samples]);
    if (props.samples.length < 2) return <p class="empty">Graphs appear after some minutes of measurements.</p>;
    return (
        <section class="graphs" aria-label="Graphs">
            {props.graphs.map((graph) => (
                <OneGraph key={graph.title} graph={graph} samples={props.samples} times={times} />
            ))}
        </section>
    );
}
