// SPDX-License-Identifier: Apache-2.0
// The small parts that every view is made of. Each has an accessible name, works with the keyboard, and
// takes its colours from style.css.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Resource } from "../api/types";
import { fieldsOf, reason } from "../state";
import { percent } from "./format";
import { useWindow } from "./window";

export function Button(props: {
    children: ComponentChildren;
    onClick?: () => void;
    kind?: "plain" | "main" | "danger" | "quiet";
    type?: "button" | "submit";
    disabled?: boolean;
    /** Why it is disabled, or what it does, where the text alone does not say. */
    title?: string;
    /** The accessible name, where the text alone does not say of what. */
    label?: string;
}) {
    return (
        <button
            type={props.type ?? "button"}
            class={`button ${props.kind ?? "plain"}`}
            disabled={props.disabled}
            title={props.title}
            aria-label={props.label}
            onClick={props.onClick}
        >
            {props.children}
        </button>
    );
}

/** A labelled control; the error of the field stands under it and is announced with it. */
export function Field(props: { label: string; error?: string; hint?: string; children: (id: string, described: string | undefined) => JSX.Element }) {
    const id = useId();
    const note = props.error ?? props.hint;
    return (
        <div class={props.error === undefined ? "field" : "field wrong"}>
            <label for={id}>{props.label}</label>
            {props.children(id, note === undefined ? undefined : `${id}-note`)}
            {note !== undefined && (
                <p id={`${id}-note`} class="note" role={props.error === undefined ? undefined : "alert"}>
                    {note}
                </p>
            )}
        </div>
    );
}

interface TextProps {
    label: string;
    value: string;
    onInput: (value: string) => void;
    type?: string;
    error?: string;
    hint?: string;
    required?: boolean;
    autofocus?: boolean;
    autocomplete?: string;
    pattern?: string;
    min?: number;
    max?: number;
    step?: number | "any";
    placeholder?: string;
}

export function TextField(props: TextProps) {
    const input = useRef<HTMLInputElement>(null);
    useEffect(() => {
        if (props.autofocus) input.current?.focus();
    }, []);
    return (
        <Field label={props.label} error={props.error} hint={props.hint}>
            {(id, described) => (
                <input
                    ref={input}
                    id={id}
                    aria-describedby={described}
                    aria-invalid={props.error !== undefined}
                    type={props.type ?? "text"}
                    value={props.value}
                    required={props.required}
                    autocomplete={props.autocomplete ?? "off"}
                    pattern={props.pattern}
                    min={props.min}
                    max={props.max}
                    step={props.step}
                    placeholder={props.placeholder}
                    spellcheck={false}
                    onInput={(event) => props.onInput(event.currentTarget.value)}
                />
            )}
        </Field>
    );
}

export function TextArea(props: { label: string; value: string; onInput: (value: string) => void; rows?: number; hint?: string; error?: string }) {
    return (
        <Field label={props.label} hint={props.hint} error={props.error}>
            {(id, described) => (
                <textarea
                    id={id}
                    aria-describedby={described}
                    rows={props.rows ?? 3}
                    value={props.value}
                    spellcheck={false}
                    onInput={(event) => props.onInput(event.currentTarget.value)}
                />
            )}
        </Field>
    );
}

export function Choice(props: {
    label: string;
    value: string;
    options: [value: string, text: string][];
    onInput: (value: string) => void;
    hint?: string;
    error?: string;
}) {
    return (
        <Field label={props.label} hint={props.hint} error={props.error}>
            {(id, described) => (
                <select id={id} aria-describedby={described} value={props.value} onInput={(event) => props.onInput(event.currentTarget.value)}>
                    {props.options.map(([value, text]) => (
                        <option key={value} value={value}>
                            {text}
                        </option>
                    ))}
                </select>
            )}
        </Field>
    );
}

export function Check(props: { label: string; value: boolean; onInput: (value: boolean) => void; hint?: string }) {
    const id = useId();
    return (
        <div class="field check">
            <input id={id} type="checkbox" checked={props.value} onInput={(event) => props.onInput(event.currentTarget.checked)} />
            <label for={id}>{props.label}</label>
            {props.hint !== undefined && <p class="note">{props.hint}</p>}
        </div>
    );
}

/** Where the keyboard was before a dialog opened, it is again after; a dialog that is drawn no more does not see to that itself. */
export function useModal(): { current: HTMLDialogElement | null } {
    const dialog = useRef<HTMLDialogElement>(null);
    useEffect(() => {
        const before = document.activeElement;
        dialog.current?.showModal();
        return () => before instanceof HTMLElement && before.isConnected && before.focus();
    }, []);
    return dialog;
}

/** The reasons by field, and which of them the form has asked for: those stand beside their fields. */
function watched(fields: Record<string, string>): [Record<string, string>, () => boolean] {
    const asked = new Set<string | symbol>();
    const watching = new Proxy(fields, { get: (all, name) => (asked.add(name), Reflect.get(all, name) as string) });
    return [watching, () => Object.keys(fields).length > 0 && Object.keys(fields).every((name) => asked.has(name))];
}

/** Why a form was not taken: beside its fields where it is about them, whole where a reason has no field here. */
function Refusal(props: { error: unknown; shown: () => boolean }) {
    return (
        <p class="error" role="alert">
            {props.shown() ? "Nothing is done yet: what is marked above is not accepted." : reason(props.error)}
        </p>
    );
}

/** A modal form. It closes when the work is done, or stays with the reason when it was refused. */
export function Dialog(props: {
    title: string;
    done: () => void;
    submit: string;
    danger?: boolean;
    /** Throws when refused; may tell field errors by ApiError. "stay" keeps the dialog open. */
    onSubmit: () => Promise<unknown>;
    children: (errors: Record<string, string>) => ComponentChildren;
    wide?: boolean;
}) {
    const dialog = useModal();
    const title = useId();
    const [error, setError] = useState<unknown>();
    const [busy, setBusy] = useState(false);

    const submit = async (event: Event) => {
        event.preventDefault();
        setBusy(true);
        try {
            setError(undefined);
            if ((await props.onSubmit()) !== "stay") props.done();
        } catch (refused) {
            setError(refused);
        } finally {
            setBusy(false);
        }
    };

    const [fields, shown] = watched(fieldsOf(error));
    return (
        <dialog ref={dialog} aria-labelledby={title} class={props.wide ? "wide" : ""} onClose={props.done}>
            <form onSubmit={submit} onInput={() => setError(undefined)}>
                <h2 id={title}>{props.title}</h2>
                <div class="body">{props.children(fields)}</div>
                {error !== undefined && <Refusal error={error} shown={shown} />}
                <div class="footer">
                    <Button kind="quiet" onClick={() => dialog.current?.close()}>
                        Cancel
                    </Button>
                    <Button type="submit" kind={props.danger ? "danger" : "main"} disabled={busy}>
                        {busy ? "…" : props.submit}
                    </Button>
                </div>
            </form>
        </dialog>
    );
}

/** Asks before what cannot be undone; where `typed` is given, it has to be typed first. */
export function Confirm(props: { title: string; text: ComponentChildren; submit: string; typed?: string; done: () => void; onSubmit: () => Promise<unknown> }) {
    const [typed, setTyped] = useState("");
    const submit = async () => {
        if (props.typed !== undefined && typed !== props.typed) throw new Error(`type ${props.typed} to go on`);
        await props.onSubmit();
    };
    return (
        <Dialog title={props.title} submit={props.submit} danger done={props.done} onSubmit={submit}>
            {() => (
                <>
                    <p>{props.text}</p>
                    {props.typed !== undefined && <TextField label={`Type ${props.typed} to confirm`} value={typed} onInput={setTyped} autofocus />}
                </>
            )}
        </Dialog>
    );
}

export function Meter(props: { label: string; used: number | undefined; total: number | undefined; text: string }) {
    const known = props.used !== undefined && props.total !== undefined && props.total > 0;
    const fraction = known ? Math.min(1, props.used! / props.total!) : 0;
    const level = fraction > 0.9 ? "high" : fraction > 0.75 ? "warm" : "";
    return (
        <div class="meter">
            <span class="name">{props.label}</span>
            <span class="value">
                {props.text} {known && <small>({percent(fraction)})</small>}
            </span>
            <div class="bar" role="meter" aria-label={props.label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(fraction * 100)}>
                <i class={level} style={{ width: `${fraction * 100}%` }} />
            </div>
        </div>
    );
}

const ROW_PX = 37; // as style.css has it
const DRAWN_WHOLE = 100;

/** Rows that can be chosen, to do something with all of them. */
export interface Choosing<T> {
    chosen: Set<string>;
    choose: (chosen: Set<string>) => void;
    /** How a row is called. */
    name: (row: T) => string;
    /** Rows that cannot be chosen. */
    not?: (row: T) => boolean;
}

export interface Column<T> {
    title: string;
    cell: (row: T) => ComponentChildren;
    /** What to sort by; a column without it cannot be sorted. */
    by?: (row: T) => string | number;
    number?: boolean;
    /** Takes what room the others leave: what does not fit is cut, so that these stay in sight. */
    rest?: boolean;
}

const classOf = (column: Column<never>) => (column.number ? "number" : column.rest ? "rest" : "");

export function Table<T>(props: { name: string; /** Undefined: they are on their way. */ rows: T[] | undefined; columns: Column<T>[]; id: (row: T) => string; empty: ComponentChildren; filter?: boolean; choosing?: Choosing<T> }) {
    const [sort, setSort] = useState<{ column: number; down: boolean }>();
    const [filter, setFilter] = useState("");
    const text = (row: T) => props.columns.map((column) => String(column.by?.(row) ?? "")).join(" ").toLowerCase();
    const known = props.rows ?? [];
    let rows = filter === "" ? known : known.filter((row) => text(row).includes(filter.toLowerCase()));
    const by = sort === undefined ? undefined : props.columns[sort.column]?.by;
    if (sort !== undefined && by !== undefined) {
        const order = (a: T, b: T) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0) * (sort.down ? -1 : 1);
        rows = [...rows].sort(order);
    }
    const shown = useWindow<HTMLDivElement>(rows.length, ROW_PX, DRAWN_WHOLE);
    const { choosing } = props;
    const choosable = choosing === undefined ? [] : rows.filter((row) => !choosing.not?.(row)).map(props.id);
    const all = choosable.length > 0 && choosable.every((id) => choosing!.chosen.has(id));
    const toggle = (id: string) => {
        const next = new Set(choosing!.chosen);
        if (!next.delete(id)) next.add(id);
        choosing!.choose(next);
    };
    const direction = (index: number) => (sort?.column !== index ? "none" : sort.down ? "descending" : "ascending");
    return (
        <div>
            {props.filter && known.length > 8 && (
                <input class="filter" type="search" placeholder="Filter" aria-label={`Filter ${props.name}`} value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
            )}
            {rows.length === 0 ? (
                <p class="empty">{props.rows === undefined ? "…" : known.length === 0 ? props.empty : "Nothing matches the filter."}</p>
            ) : (
                <div ref={shown.place} class={shown.large ? "table tall" : "table"} tabIndex={shown.large ? 0 : undefined}>
                <table aria-label={props.name} aria-rowcount={rows.length + 1}>
                    <thead>
                        <tr>
                            {choosing !== undefined && (
                                <th class="choose">
                                    <input type="checkbox" aria-label={`Choose all of ${props.name}`} checked={all} onInput={() => choosing.choose(new Set(all ? [] : choosable))} />
                                </th>
                            )}
                            {props.columns.map((column, index) => (
                                <th key={column.title} scope="col" class={classOf(column)} aria-sort={direction(index)}>
                                    {column.by === undefined ? (
                                        column.title || <span class="hidden">Actions</span>
                                    ) : (
                                        <button type="button" onClick={() => setSort({ column: index, down: sort?.column === index && !sort.down })}>
                                            {column.title}
                                        </button>
                                    )}
                                </th>
                            ))}
                        </tr>
                    </thead>
                    <tbody>
                        {shown.first > 0 && <tr aria-hidden="true" style={{ height: `${shown.first * ROW_PX}px` }} />}
                        {rows.slice(shown.first, shown.last).map((row) => (
                            <tr key={props.id(row)} class={choosing?.chosen.has(props.id(row)) ? "chosen" : undefined}>
                                {choosing !== undefined && (
                                    <td class="choose">
                                        <input type="checkbox" aria-label={`Choose ${choosing.name(row)}`} disabled={choosing.not?.(row)} checked={choosing.chosen.has(props.id(row))} onInput={() => toggle(props.id(row))} />
                                    </td>
                                )}
                                {props.columns.map((column) => (
                                    <td key={column.title} class={classOf(column)}>
                                        {column.cell(row)}
                                    </td>
                                ))}
                            </tr>
                        ))}
                        {shown.last < rows.length && <tr aria-hidden="true" style={{ height: `${(rows.length - shown.last) * ROW_PX}px` }} />}
                    </tbody>
                </table>
                </div>
            )}
        </div>
    );
}

export function Tabs(props: { name: string; tabs: [id: string, title: string, href: string][]; current: string }) {
    return (
        <nav class="tabs" aria-label={props.name}>
            {props.tabs.map(([id, title, link]) => (
                <a key={id} href={link} aria-current={id === props.current ? "page" : undefined}>
                    {title}
                </a>
            ))}
        </nav>
    );
}

export function Tags(props: { of: Resource }) {
    const tags = props.of.tags?.split(";").filter((tag) => tag !== "") ?? [];
    return <>{tags.length === 0 ? "–" : tags.map((tag) => <span class="tag" key={tag}>{tag}</span>)}</>;
}

export function Dot(props: { status: string | undefined }) {
    const kind = props.status === "running" || props.status === "online" || props.status === "available" ? "on" : props.status === "paused" || props.status === "suspended" ? "half" : "off";
    return <span class={`dot ${kind}`} role="img" aria-label={props.status ?? "unknown"} />;
}

export function Failure(props: { error: unknown; retry?: () => void }) {
    return (
        <div class="failure" role="alert">
            <p>{reason(props.error)}</p>
            {props.retry !== undefined && <Button onClick={props.retry}>Try again</Button>}
        </div>
    );
}

export function Facts(props: { rows: [ComponentChildren, ComponentChildren][] }) {
    return (
        <dl class="facts">
            {props.rows.map(([name, value], index) => (
                <div key={index}>
                    <dt>{name}</dt>
                    <dd>{value}</dd>
                </div>
            ))}
        </dl>
    );
}
