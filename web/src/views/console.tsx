// SPDX-License-Identifier: Apache-2.0
// The tab with the guest's serial console: its state above, the terminal (terminal.ts) below.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Resource } from "../api/types";
import { reason } from "../state";
import { Button } from "../ui/parts";

export function ConsoleView(props: { guest: Resource }) {
    const place = useRef<HTMLDivElement>(null);
    const [state, setState] = useState<"opening" | "open" | { ended: string }>("opening");
    const [turn, setTurn] = useState(0);
    const running = props.guest.status === "running";

    useEffect(() => {
        if (!running) return;
        setState("opening");
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
                    <p>{state.ended}</p>
                    <Button onClick={() => setTurn(turn + 1)}>Connect again</Button>
                </div>
            ) : (
                <p class="note" role="status">
                    {state === "opening" ? "Connecting …" : "Connected to the first serial port. Press Enter if nothing is shown; Shift+Tab leaves the terminal."}
                </p>
            )}
            <div class="console">
                <div ref={place} />
            </div>
        </>
    );
}
