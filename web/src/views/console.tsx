// SPDX-License-Identifier: Apache-2.0
// The tab with the guest's serial console: its state above, the terminal (terminal.ts) below.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Resource } from "../api/types";
import { reason } from "../state";
import { Button } from "../ui/parts";

const AGAIN_FIRST_MS = 500;
const AGAIN_LAST_MS = 10_000;

export function ConsoleView(props: { guest: Resource }) {
    const place = useRef<HTMLDivElement>(null);
    const [state, setState] = useState<"opening" | "open" | { ended: string }>("opening");
    const [turn, setTurn] = useState(0);
    const tries = useRef(0);
    const running = props.guest.status !== "stopped";

    // A connection that broke, as when the node's daemon is started anew, is made again: soon at first, then less often.
    useEffect(() => {
        if (state === "open") tries.current = 0;
        if (typeof state !== "object" || !running) return;
        const timer = window.setTimeout(() => setTurn((count) => count + 1), Math.min(AGAIN_FIRST_MS * 2 ** tries.current++, AGAIN_LAST_MS));
        return () => clearTimeout(timer);
    }, [state, running]);

    useEffect(() => {
        if (!running) return;
        setState((old) => (typeof old === "object" ? old : "opening")); // why it broke stays to be read until it is mended
        let gone = false;
        let close = () => {};
        import("./terminal")
            .then(({ openTerminal }) => {
                if (gone || place.current === null) return;
                close = openTerminal(place.current, props.guest, (ended) => setState(ended === undefined ? "open" : { ended }));
            })
            .catch((error) => setState({ ended: reason(error) }));
        return () => {
            gone = true;
            close();
        };
    }, [running, turn, props.guest.vmid]);

    if (!running) return <p class="empty">The VM does not run. Start it, and its console appears here.</p>;
    return (
        <>
            {typeof state === "object" ? (
                <div class="failure" role="alert">
                    <p>{state.ended} Trying again …</p>
                    <Button onClick={() => setTurn(turn + 1)}>Connect now</Button>
                </div>
            ) : (
                <p class="note" role="status">
                    {state === "opening" ? "Connecting …" : "Connected to the first serial port. Press Enter if nothing is shown; Shift+Tab leaves the terminal; Ctrl+Shift+C copies what is marked."}
                </p>
            )}
            <div class="console">
                <div ref={place} />
            </div>
        </>
    );
}
