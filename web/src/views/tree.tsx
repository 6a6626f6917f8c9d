// SPDX-License-Identifier: Apache-2.0
// Guests, nodes and datastores at the side, narrowed by what is typed above them: part of a name, a
// number, a tag or a state. "/" from anywhere goes to the search.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Resource } from "../api/types";
import { go, guests, href, listed, nodes, place, storages } from "../state";
import { Dot } from "../ui/parts";
import { useWindow } from "../ui/window";
import { AddDatastore } from "./datastore";

const ROW_PX = 30; // as style.css has it
const DRAWN_WHOLE = 100;

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
            if (event.key !== "/" || target.closest("input, textarea, select, dialog, .console") !== null) return;
            event.preventDefault();
            element.current?.focus();
        };
        window.addEventListener("keydown", key);
        return () => window.removeEventListener("keydown", key);
    }, []);
}

/** A list of guests, of which only those in sight are drawn when they are many. */
function Guests(props: { name: string; guests: Resource[] }) {
    const shown = useWindow<HTMLUListElement>(props.guests.length, ROW_PX, DRAWN_WHOLE);
    return (
        <ul ref={shown.place} class="guests" aria-label={props.name}>
            {shown.first > 0 && <li aria-hidden="true" style={{ height: `${shown.first * ROW_PX}px` }} />}
            {props.guests.slice(shown.first, shown.last).map((guest) => (
                <Entry key={guest.id} to={["guest", guest.vmid!]} status={guest.status} text={guest.name ?? `VM ${guest.vmid}`} note={String(guest.vmid)} />
            ))}
            {shown.last < props.guests.length && <li aria-hidden="true" style={{ height: `${(props.guests.length - shown.last) * ROW_PX}px` }} />}
        </ul>
    );
}

/** Up and down go from one entry to the next, over the lists. */
function arrows(event: KeyboardEvent): void {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const all = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("input, a")];
    const at = all.indexOf(document.activeElement as HTMLElement);
    all[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    event.preventDefault();
}

export function Tree() {
    const [search, setSearch] = useState("");
    const input = useRef<HTMLInputElement>(null);
    useSlash(input);
    const words = search.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const found = guests.value.filter((guest) => matches(guest, words));
    const machines = found.filter((guest) => guest.template !== 1);
    const templates = found.filter((guest) => guest.template === 1);
    // Where the window is narrow, the lists are folded away until they are asked for, or something is searched.
    const [unfolded, unfold] = useState(false);
    useEffect(() => unfold(false), [place.value]);
    const first = (event: KeyboardEvent) => {
        if (event.key === "Enter" && found[0] !== undefined) go("guest", found[0].vmid!);
    };
    return (
        <aside class={unfolded || search !== "" ? "tree unfolded" : "tree"} aria-label="Resources" onKeyDown={arrows}>
            <input ref={input} type="search" placeholder="Search ( / )" aria-label="Search guests" value={search} onInput={(event) => setSearch(event.currentTarget.value)} onKeyDown={first} />
            <button type="button" class="button unfold" aria-expanded={unfolded} onClick={() => unfold(!unfolded)}>
                {unfolded ? "Fold the lists" : "Machines, nodes, datastores"}
            </button>
            <h2>
                Virtual machines <small>{machines.length}</small>
            </h2>
            <Guests name="Virtual machines" guests={machines} />
            {listed.value && machines.length === 0 && <p class="note">{search === "" ? "None yet: Create VM makes one." : "None matches."}</p>}
            {templates.length > 0 && (
                <>
                    <h2>
                        Templates <small>{templates.length}</small>
                    </h2>
                    <Guests name="Templates" guests={templates} />
                </>
            )}
            <h2>Nodes</h2>
            <ul aria-label="Nodes">
                {nodes.value.map((node) => (
                    <Entry key={node.id} to={["node", node.node!]} status={node.status} text={node.node!} />
                ))}
            </ul>
            <h2>Datastores</h2>
            <ul aria-label="Datastores">
                {storages.value.map((one) => (
                    <Entry key={one.id} to={["storage", one.node!, one.storage!]} status={one.status} text={one.storage!} note={nodes.value.length > 1 ? one.node : undefined} />
                ))}
            </ul>
            {listed.value && storages.value.length === 0 && <p class="note">None that you may see.</p>}
            <AddDatastore />
        </aside>
    );
}
