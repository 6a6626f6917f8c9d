// SPDX-License-Identifier: Apache-2.0
// Tasks: what runs and ran, with each one's log, which grows while the task runs.
import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "../api/client";
import type { LogLine, Task, TaskStatus } from "../api/types";
import { nodeOf, run } from "../state";
import { duration, time } from "../ui/format";
import { useLoad } from "../ui/load";
import { Button, type Column, Failure, Table } from "../ui/parts";

const LOG_LINES_AT_ONCE = 5000;
const LOG_EVERY_MS = 1000;

function outcome(task: Task) {
    if (task.endtime === undefined) return <span class="state busy">running</span>;
    return <span class={task.status === "OK" ? "state good" : "state bad"}>{task.status}</span>;
}

function columns(open: (upid: string) => void): Column<Task>[] {
    return [
        { title: "Start", cell: (task) => time(task.starttime), by: (task) => task.starttime },
        { title: "Took", cell: (task) => duration((task.endtime ?? Date.now() / 1000) - task.starttime), by: (task) => (task.endtime ?? Infinity) - task.starttime, number: true },
        { title: "What", cell: (task) => task.type, by: (task) => task.type },
        { title: "Of", cell: (task) => task.id, by: (task) => task.id },
        { title: "User", cell: (task) => task.user, by: (task) => task.user },
        { title: "Result", cell: outcome, by: (task) => task.status ?? "" },
        {
            title: "Log",
            cell: (task) => (
                <Button kind="quiet" onClick={() => open(task.upid)}>
                    Log
                </Button>
            ),
        },
    ];
}

function TaskLog(props: { upid: string; done: () => void }) {
    const dialog = useRef<HTMLDialogElement>(null);
    const end = useRef<HTMLDivElement>(null);
    const path = `/nodes/${nodeOf(props.upid)}/tasks/${encodeURIComponent(props.upid)}`;
    const state = useLoad<TaskStatus>(`${path}/status`, {}, LOG_EVERY_MS);
    const log = useLoad<LogLine[]>(`${path}/log`, { limit: LOG_LINES_AT_ONCE }, LOG_EVERY_MS);
    useEffect(() => dialog.current?.showModal(), []);
    useEffect(() => end.current?.scrollIntoView(), [log.data?.length]);
    const running = state.data?.status === "running";
    return (
        <dialog ref={dialog} class="wide" aria-label="Task log" onClose={props.done}>
            <h2>
                {state.data?.type} {state.data?.id} <small>{running ? "running" : state.data?.exitstatus}</small>
            </h2>
            {log.error !== undefined && <Failure error={log.error} retry={log.again} />}
            <div class="log" role="log" tabIndex={0}>
                {log.data?.map((line) => (
                    <div key={line.n}>{line.t}</div>
                ))}
                <div ref={end} />
            </div>
            <footer>
                {running && (
                    <Button kind="danger" onClick={() => void run("Stop the task", () => api.delete(path))}>
                        Stop the task
                    </Button>
                )}
                <Button onClick={() => dialog.current?.close()}>Close</Button>
            </footer>
        </dialog>
    );
}

/** The tasks of a node, or of one guest. */
export function TaskList(props: { path: string; parameters?: Record<string, string | number>; name: string }) {
    const tasks = useLoad<Task[]>(props.path, props.parameters ?? {}, 2000);
    const [open, setOpen] = useState<string>();
    if (tasks.error !== undefined && tasks.data === undefined) return <Failure error={tasks.error} retry={tasks.again} />;
    return (
        <>
            <Table name={props.name} rows={tasks.data ?? []} columns={columns(setOpen)} id={(task) => task.upid} empty="No tasks yet." filter />
            {open !== undefined && <TaskLog upid={open} done={() => setOpen(undefined)} />}
        </>
    );
}

export function TasksView() {
    return (
        <>
            <h1>Tasks</h1>
            <TaskList name="Tasks" path="/cluster/tasks" />
        </>
    );
}

export function RecentTasks() {
    return (
        <>
            <h2>Recent tasks</h2>
            <TaskList name="Recent tasks" path="/cluster/tasks" parameters={{}} />
        </>
    );
}
