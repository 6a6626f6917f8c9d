// SPDX-License-Identifier: Apache-2.0
// A graph over time by uPlot. Colours follow the page's theme; a summary of the last value stands in the
// caption, so that the graph's content is not for the eye only.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef } from "preact/hooks";

export interface Line {
    label: string;
    values: (number | null)[];
}

const HEIGHT = 150;
const LEAST_BYTES = 1024; // the scale of a line that lies at nothing
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function Chart(props: { title: string; times: number[]; lines: Line[]; format: (value: number) => string; max?: number; /** Bytes: ticks at powers of two. */ binary?: boolean }) {
    const place = useRef<HTMLDivElement>(null);
    const plot = useRef<uPlot>();
    const data = [props.times, ...props.lines.map((line) => line.values)] as uPlot.AlignedData;

    useEffect(() => {
        const element = place.current!;
        const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
        const strokes = [colour("--accent"), colour("--second")];
        plot.current = new uPlot(
            {
                width: element.clientWidth,
                height: HEIGHT,
                legend: { show: false },
                cursor: { y: false },
                scales: { y: { range: (_, __, high) => [0, props.max ?? Math.max((high ?? 0) * 1.15, props.binary ? LEAST_BYTES : 1e-9)] } },
                series: [{}, ...props.lines.map((line, index) => ({ label: line.label, stroke: strokes[index]!, width: 1.5, spanGaps: true, points: { show: false }, fill: index === 0 ? `${strokes[0]}22` : undefined }))],
                axes: [{ ...axis, space: 70 }, { ...axis, size: 70, incrs: props.binary ? POWERS : undefined, values: (_: uPlot, ticks: number[]) => ticks.map(props.format) }],
            },
            data,
            element,
        );
        const resize = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
        resize.observe(element);
        return () => {
            resize.disconnect();
            plot.current?.destroy();
        };
    }, []);
    useEffect(() => plot.current?.setData(data), [props.times, props.lines]);

    const last = props.lines.map((line) => {
        const value = line.values.findLast((one) => one !== null);
        return `${line.label} ${value === null || value === undefined ? "–" : props.format(value)}`;
    });
    return (
        <figure class="chart">
            <figcaption>
                {props.title}{" "}
                <small>
                    {last.map((text, index) => (
                        <span key={index} class={`key key${index}`}>
                            {text}
                        </span>
                    ))}
                </small>
            </figcaption>
            <div ref={place} />
        </figure>
    );
}
