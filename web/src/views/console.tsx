// SPDX-License-Identifier: Apache-2.0
// The guest's serial console in the page: xterm.js over a WebSocket. The first message carries who and the
// single-use ticket; afterwards "0:LENGTH:bytes" is what was typed, "1:COLUMNS:ROWS:" the terminal's
// size, "2" says that we are still here, and what comes back is the console as it is.
import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { reason } from "../state";
import { Button } from "../ui/parts";
import { pathOf } from "./guest";

const ALIVE_EVERY_MS = 30000;

interface Proxy {
    port: number | string;
    ticket: string;
    user: string;
}

async function connect(guest: Resource): Promise<{ socket: WebSocket; proxy: Proxy }> {
    const proxy = await api.post<Proxy>(`${pathOf(guest)}/termproxy`);
    const query = new URLSearchParams({ port: String(proxy.port), vncticket: proxy.ticket });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api2/json${pathOf(guest)}/vncwebsocket?${query}`, "binary");
    socket.binaryType = "arraybuffer";
    return { socket, proxy };
}

/** Joins a terminal to a socket; what it returns takes them apart again. */
function join(terminal: Terminal, socket: WebSocket, proxy: Proxy, ended: (why: string) => void): () => void {
    const bytes = new TextEncoder();
    const send = (text: string) => socket.readyState === WebSocket.OPEN && socket.send(bytes.encode(text));
    const size = () => send(`1:${terminal.cols}:${terminal.rows}:`);
    let greeted = false;
    socket.onopen = () => send(`${proxy.user}:${proxy.ticket}\n`);
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => {
        let data = new Uint8Array(event.data);
        if (!greeted) {
            greeted = true; // The first answer is "OK", what follows it is the console's.
            data = data.subarray(2);
            size();
        }
        terminal.write(data);
    };
    socket.onclose = (event) => ended(event.reason || "the console is closed");
    const typed = terminal.onData((text) => send(`0:${bytes.encode(text).length}:${text}`));
    const resized = terminal.onResize(size);
    const alive = window.setInterval(() => send("2"), ALIVE_EVERY_MS);
    return () => {
        clearInterval(alive);
        typed.dispose();
        resized.dispose();
        socket.onclose = null;
        socket.close();
    };
}

export function ConsoleView(props: { guest: Resource }) {
    const place = useRef<HTMLDivElement>(null);
    const [ended, setEnded] = useState<string>();
    const [turn, setTurn] = useState(0);
    const running = props.guest.status === "running";

    useEffect(() => {
        if (!running) return;
        setEnded(undefined);
        const terminal = new Terminal({ cursorBlink: true, fontSize: 14, scrollback: 5000, screenReaderMode: false });
        const fit = new FitAddon();
        terminal.loadAddon(fit);
        terminal.open(place.current!);
        fit.fit();
        terminal.focus();
        const resize = new ResizeObserver(() => fit.fit());
        resize.observe(place.current!);
        let gone = false;
        let part = () => {};
        connect(props.guest)
            .then(({ socket, proxy }) => {
                if (gone) socket.close();
                else part = join(terminal, socket, proxy, setEnded);
            })
            .catch((error) => setEnded(reason(error)));
        return () => {
            gone = true;
            part();
            resize.disconnect();
            terminal.dispose();
        };
    }, [running, turn, props.guest.vmid]);

    if (!running) return <p class="empty">The VM does not run. Start it, and its console appears here.</p>;
    return (
        <>
            {ended !== undefined && (
                <div class="failure" role="alert">
                    <p>{ended}</p>
                    <Button onClick={() => setTurn(turn + 1)}>Connect again</Button>
                </div>
            )}
            <div class="terminal" ref={place} role="application" aria-label="Serial console" />
        </>
    );
}
