// SPDX-License-Identifier: Apache-2.0
// A form over configuration keys: a table says what each key is, the form sends what was changed, and a
// key that was emptied is deleted. Options and cloud-init are such tables.
import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { fieldsOf, names, reason, say } from "../state";
import { useLoad } from "../ui/load";
import { Button, Check, Failure, TextArea, TextField } from "../ui/parts";

export interface Key {
    key: string;
    label: string;
    kind: "text" | "area" | "flag" | "password" | "number";
    hint?: string;
    /** How the value is kept where that is not as it is shown. */
    store?: (text: string) => string;
    show?: (stored: string) => string;
}

function stored(keys: Key[], config: Record<string, unknown>): Record<string, string> {
    return Object.fromEntries(keys.map(({ key, show }) => [key, config[key] === undefined ? "" : (show ?? String)(String(config[key]))]));
}

function changes(keys: Key[], before: Record<string, string>, now: Record<string, string>): Record<string, string> {
    const sent: Record<string, string> = {};
    const gone: string[] = [];
    for (const { key, store } of keys) {
        const value = now[key] ?? "";
        if (value === (before[key] ?? "")) continue;
        if (value === "") gone.push(key);
        else sent[key] = store === undefined ? value : store(value);
    }
    if (gone.length > 0) sent.delete = gone.join(",");
    return sent;
}

function Control(props: { entry: Key; value: string; set: (value: string) => void; error?: string }) {
    const { entry, value, set } = props;
    switch (entry.kind) {
        case "flag":
            return <Check label={entry.label} hint={entry.hint} value={value === "1"} onInput={(on) => set(on ? "1" : "0")} />;
        case "area":
            return <TextArea label={entry.label} hint={entry.hint} value={value} onInput={set} error={props.error} rows={5} />;
        default:
            return <TextField label={entry.label} hint={entry.hint} type={entry.kind} value={value} onInput={set} error={props.error} autocomplete={entry.kind === "password" ? "new-password" : "off"} />;
    }
}

export function ConfigForm(props: { guest: Resource; name: string; keys: Key[] }) {
    const path = "/nodes/{node}/qemu/{vmid}/config";
    const config = useLoad(path, names(props.guest));
    const [edits, setEdits] = useState<Record<string, string>>({}); // what was typed, over what is stored
    const [saved, setSaved] = useState<Record<string, string>>({}); // of these, what the next answer has in it
    const [errors, setErrors] = useState<Record<string, string>>({});
    const [refused, setRefused] = useState<string>();

    useEffect(() => {
        setEdits((all) => Object.fromEntries(Object.entries(all).filter(([key, value]) => saved[key] !== value)));
        setSaved({});
    }, [config.data]);

    const before = config.data === undefined ? {} : stored(props.keys, config.data);
    const now = { ...before, ...edits };
    const sent = changes(props.keys, before, now);
    const save = async (event: Event) => {
        event.preventDefault();
        setErrors({});
        setRefused(undefined);
        try {
            await api.put(path, { ...names(props.guest), ...sent, digest: config.data?.digest });
            say("good", `${props.name}: saved`);
            setSaved(edits);
            config.again();
        } catch (error) {
            const fields = fieldsOf(error);
            const shown = Object.keys(fields).length > 0 && Object.keys(fields).every((name) => props.keys.some(({ key }) => key === name));
            setErrors(fields);
            setRefused(shown ? "Nothing is saved yet: what is marked above is not accepted." : reason(error));
        }
    };
    if (config.error !== undefined && config.data === undefined) return <Failure error={config.error} retry={config.again} />;
    if (config.data === undefined) return <p class="empty">…</p>; // what is typed before it has come would be lost
    return (
        <form class="panel" onSubmit={save} aria-label={props.name}>
            {props.keys.map((entry) => (
                <Control key={entry.key} entry={entry} value={now[entry.key] ?? ""} set={(value) => setEdits((all) => ({ ...all, [entry.key]: value }))} error={errors[entry.key]} />
            ))}
            {refused !== undefined && <p class="error" role="alert">{refused}</p>}
            <div class="footer">
                <Button type="submit" kind="main" disabled={Object.keys(sent).length === 0}>Save</Button>
            </div>
        </form>
    );
}
