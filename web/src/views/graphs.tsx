// SPDX-License-Identifier: Apache-2.0
// Samples of a guest or a node as graphs. With fewer than two samples there is nothing to draw, and it says so.
import { useMemo, useState } from "preact/hooks";
import type { JSX } from "preact";
import type { Sample } from "../api/types";
import { Chart } from "../ui/chart";
import { percent } from "../ui/format";

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
    return <Chart title={props.graph.title} times={props.times} lines={lines} format={props.graph.format} max={props.graph.max} binary={props.graph.format !== percent} />;
}

export type Timeframe = "hour" | "day" | "week" | "month" | "year";
const TIMEFRAMES: Timeframe[] = ["hour", "day", "week", "month", "year"];

/** How far back the graphs go, and what it is chosen with. */
export function useTimeframe(): [Timeframe, JSX.Element] {
    const [frame, setFrame] = useState<Timeframe>("hour");
    const choose = (
        <label class="timeframe">
            The last{" "}
            <select value={frame} onInput={(event) => setFrame(event.currentTarget.value as Timeframe)}>
                {TIMEFRAMES.map((one) => (
                    <option key={one}>{one}</option>
                ))}
            </select>
        </label>
    );
    return [frame, choose];
}

/** A graph of what nobody measures is left out. */
const known = (samples: Sample[], graph: Graph) => samples.some((sample) => graph.lines.some(([, value]) => value(sample) !== undefined));

export function Graphs(props: { samples: Sample[]; graphs: Graph[]; none?: string }) {
    const times = useMemo(() => props.samples.map((sample) => sample.time), [props.samples]);
    if (props.samples.length < 2) return <p class="empty">{props.none ?? "Graphs appear after a few seconds."}</p>;
    return (
        <section class="graphs" aria-label="Graphs">
            {props.graphs.filter((graph) => known(props.samples, graph)).map((graph) => (
                <OneGraph key={graph.title} graph={graph} samples={props.samples} times={times} />
            ))}
        </section>
    );
}
