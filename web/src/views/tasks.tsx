// SPDX-License-Identifier: Apache-2.0
// Tasks: what runs and ran, with each one's log, which grows while the task runs.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type ParametersOf } from "../api/client";
import type { Task } from "../api/types";
import { guests, nodeOf, run } from "../state";
import { duration, percent, taskName, time } from "../ui/format";
import { type Loaded, useLoad } from "../ui/load";
import { Button, type Column, Failure, Table, useModal } from "../ui/parts";

const LOG_LINES_AT_ONCE = 5000;
const LOG_EVERY_MS = 1000;

function outcome(task: Task) {
    if (task.endtime === undefined) return <span class="state busy">running{task.progress === undefined ? "" : `, ${percent(task.progress)}`}</span>;
    return <span class={task.status === "OK" ? "state good" : "state bad"} title={task.status}>{task.status}</span>;
}

/** A guest is called by its name, where it still is there. */
function object(task: Task): string {
    const guest = guests.value.find((one) => String(one.vmid) === task.id);
    return guest?.name === undefined ? task.id || "–" : `${guest.name} (${task.id})`;
}

function columns(open: (upid: string) => void): Column<Task>[] {
    return [
        { title: "Start", cell: (task) => time(task.starttime), by: (task) => task.starttime },
        { title: "Took", cell: (task) => duration(Math.max(0, (task.endtime ?? Date.now() / 1000) - task.starttime)), by: (task) => (task.endtime ?? Infinity) - task.starttime, number: true },
        { title: "What", cell: (task) => taskName(task.type), by: (task) => taskName(task.type) },
        { title: "Of", cell: (task) => <span class="short" title={object(task)}>{object(task)}</span>, by: (task) => task.id },
        { title: "User", cell: (task) => task.user, by: (task) => task.user },
        { title: "Result", cell: outcome, by: (task) => task.status ?? "", rest: true },
        {
            title: "Log",
            cell: (task) => (
                <Button kind="quiet" label={`Log of ${taskName(task.type)} ${task.id}`} onClick={() => open(task.upid)}>
                    Log
                </Button>
            ),
        },
    ];
}

function TaskLog(props: { upid: string; done: () => void }) {
    const dialog = useModal();
    const end = useRef<HTMLDivElement>(null);
    const which = { node: nodeOf(props.upid), upid: props.upid };
    const state = useLoad("/nodes/{node}/tasks/{upid}/status", which, LOG_EVERY_MS);
    const log = useLoad("/nodes/{node}/tasks/{upid}/log", { ...which, limit: LOG_LINES_AT_ONCE }, LOG_EVERY_MS);
    useEffect(() => end.current?.scrollIntoView(), [log.data?.length]);
    const running = state.data?.status === "running";
    return (
        <dialog ref={dialog} class="wide" aria-label="Task log" onClose={props.done}>
            <h2>
                {state.data === undefined ? "Task" : taskName(state.data.type)} {state.data?.id} <small>{running ? "running" : state.data?.exitstatus}</small>
            </h2>
            {log.error !== undefined && <Failure error={log.error} retry={log.again} />}
            <div class="log" role="log" tabIndex={0}>
                {log.data?.map((line) => (
                    <div key={line.n}>{line.t}</div>
                ))}
                <div ref={end} />
            </div>
            <div class="footer">
                {running && (
                    <Button kind="danger" onClick={() => void run("Stop the task", () => api.delete("/nodes/{node}/tasks/{upid}", which))}>
                        Stop the task
                    </Button>
                )}
                <Button onClick={() => dialog.current?.close()}>Close</Button>
            </div>
        </dialog>
    );
}

function Tasks(props: { name: string; tasks: Loaded<Task[]>; most?: number }) {
    const { tasks } = props;
    const [open, setOpen] = useState<string>();
    if (tasks.error !== undefined && tasks.data === undefined) return <Failure error={tasks.error} retry={tasks.again} />;
    const rows = props.most === undefined ? tasks.data : tasks.data?.slice(0, props.most);
    return (
        <>
            <Table name={props.name} rows={rows} columns={columns(setOpen)} id={(task) => task.upid} empty="No tasks yet." filter />
            {open !== undefined && <TaskLog upid={open} done={() => setOpen(undefined)} />}
        </>
    );
}

/** The tasks of a node, or of one guest. */
export function TaskList(props: { name: string; parameters: ParametersOf<"GET", "/nodes/{node}/tasks"> }) {
    return <Tasks name={props.name} tasks={useLoad("/nodes/{node}/tasks", props.parameters, 2000)} />;
}

export function TasksView() {
    return (
        <>
            <h1>Tasks</h1>
            <Tasks name="Tasks" tasks={useLoad("/cluster/tasks", {}, 2000)} />
        </>
    );
}

export function RecentTasks() {
    return (
        <>
            <h2>Recent tasks</h2>
            <Tasks name="Recent tasks" tasks={useLoad("/cluster/tasks", {}, 2000)} most={8} />
        </>
    );
}
