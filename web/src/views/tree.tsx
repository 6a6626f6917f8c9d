// SPDX-License-Identifier: Apache-2.0
// Guests, nodes and datastores at the side, narrowed by what is typed above them: part of a name, a
// number, a tag or a state. "/" from anywhere goes to the search.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Resource } from "../api/types";
import { go, guests, href, nodes, place, storages } from "../state";
import { Dot } from "../ui/parts";

const SHOWN_AT_MOST = 500;

function matches(guest: Resource, words: string[]): boolean {
    const text = [guest.vmid, guest.name, guest.tags, guest.status, guest.pool].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
}

function Entry(props: { to: (string | number)[]; status: string | undefined; text: string; note?: string }) {
    const current = props.to.every((part, index) => String(part) === place.value[index]);
    return (
        <li>
            <a href={href(...props.to)} aria-current={current ? "page" : undefined}>
                <Dot status={props.status} />
                <span>{props.text}</span>
                {props.note !== undefined && <small>{props.note}</small>}
            </a>
        </li>
    );
}

function useSlash(element: { current: HTMLInputElement | null }): void {
    useEffect(() => {
        const key = (event: KeyboardEvent) => {
            const target = event.target as HTMLElement;
            if (event.key !== "/" || target.closest("input, textarea, select, dialog, .terminal") !== null) return;
            event.preventDefault();
            element.current?.focus();
        };
        window.addEventListener("keydown", key);
        return () => window.removeEventListener("keydown", key);
    }, []);
}

export function Tree() {
    const [search, setSearch] = useState("");
    const input = useRef<HTMLInputElement>(null);
    useSlash(input);
    const words = search.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const found = guests.value.filter((guest) => matches(guest, words));
    const machines = found.filter((guest) => guest.template !== 1);
    const templates = found.filter((guest) => guest.template === 1);
    const entry = (guest: Resource) => (
        <Entry key={guest.id} to={["guest", guest.vmid!]} status={guest.status} text={guest.name ?? `VM ${guest.vmid}`} note={String(guest.vmid)} />
    );
    const first = (event: KeyboardEvent) => {
        if (event.key === "Enter" && found[0] !== undefined) go("guest", found[0].vmid!);
    };
    return (
        <aside class="tree" aria-label="Resources">
            <input ref={input} type="search" placeholder="Search ( / )" aria-label="Search guests" value={search} onInput={(event) => setSearch(event.currentTarget.value)} onKeyDown={first} />
            <h2>Virtual machines</h2>
            <ul>{machines.slice(0, SHOWN_AT_MOST).map(entry)}</ul>
            {machines.length > SHOWN_AT_MOST && <p class="note">and {machines.length - SHOWN_AT_MOST} more: search narrows the list</p>}
            {machines.length === 0 && <p class="note">{search === "" ? "None yet: Create VM makes one." : "None matches."}</p>}
            {templates.length > 0 && (
                <>
                    <h2>Templates</h2>
                    <ul>{templates.slice(0, SHOWN_AT_MOST).map(entry)}</ul>
                </>
            )}
            <h2>Nodes</h2>
            <ul>
                {nodes.value.map((node) => (
                    <Entry key={node.id} to={["node", node.node!]} status={node.status} text={node.node!} />
                ))}
            </ul>
            <h2>Datastores</h2>
            <ul>
                {storages.value.map((one) => (
                    <Entry key={one.id} to={["storage", one.node!, one.storage!]} status={one.status} text={one.storage!} note={nodes.value.length > 1 ? one.node : undefined} />
                ))}
            </ul>
        </aside>
    );
}
