// SPDX-License-Identifier: Apache-2.0
// A guest's serial console in a terminal: xterm.js over a WebSocket. The first message carries who and the
// single-use ticket; afterwards "0:LENGTH:bytes" is what was typed, "1:COLUMNS:ROWS:" the terminal's
// size, "2" says that we are still here, and what comes back is the console as it is.
// This file and xterm.js are fetched when the first console is opened.
import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { type AnswerOf, api, fill } from "../api/client";
import type { Resource } from "../api/types";
import { names, reason } from "../state";

const ALIVE_EVERY_MS = 30000;

type Proxy = AnswerOf<"POST", "/nodes/{node}/qemu/{vmid}/termproxy">;

async function connect(guest: Resource): Promise<{ socket: WebSocket; proxy: Proxy }> {
    const proxy = await api.post("/nodes/{node}/qemu/{vmid}/termproxy", names(guest));
    const query = new URLSearchParams({ port: String(proxy.port), vncticket: proxy.ticket });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const [path] = fill("/nodes/{node}/qemu/{vmid}/vncwebsocket", names(guest));
    const socket = new WebSocket(`${scheme}://${location.host}/api2/json${path}?${query}`, "binary");
    socket.binaryType = "arraybuffer";
    return { socket, proxy };
}

/** Joins a terminal to a socket; what it returns takes them apart again. */
function join(terminal: Terminal, socket: WebSocket, proxy: Proxy, told: (state: string | undefined) => void): () => void {
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
            told(undefined);
        }
        terminal.write(data);
    };
    socket.onclose = (event) => told(event.reason ? `${event.reason}.` : "The connection to the console broke.");
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

/** Keys that are the page's and not the guest's. False: the terminal leaves it alone. */
function ownKeys(terminal: Terminal, event: KeyboardEvent): boolean {
    if (event.key === "Tab" && event.shiftKey) return false; // the browser goes to what is before the terminal
    if (!event.ctrlKey || !event.shiftKey) return true;
    const key = event.key.toLowerCase();
    if (key === "v") return false; // the browser pastes
    if (key !== "c") return true;
    event.preventDefault(); // where the browser has a use for it, too
    if (event.type === "keydown" && terminal.hasSelection()) void navigator.clipboard.writeText(terminal.getSelection());
    return false;
}

/** Opens a terminal in `place`. `told` gets why it is closed, or undefined when it is open. Returns what closes it. */
export function openTerminal(place: HTMLElement, guest: Resource, told: (state: string | undefined) => void): () => void {
    const terminal = new Terminal({ cursorBlink: true, fontSize: 14, fontFamily: "DejaVu Sans Mono, ui-monospace, monospace", scrollback: 5000, theme: { background: "#0d1212" } });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(place);
    terminal.textarea?.setAttribute("aria-label", `Console of ${guest.name ?? guest.vmid}`);
    fit.fit();
    terminal.focus();
    place.querySelector(".xterm-viewport")?.setAttribute("tabindex", "-1"); // what scrolls would be one more stop on the way out
    terminal.attachCustomKeyEventHandler((event) => ownKeys(terminal, event));
    const resize = new ResizeObserver(() => fit.fit());
    resize.observe(place);
    let gone = false;
    let part = () => {};
    connect(guest)
        .then(({ socket, proxy }) => {
            if (gone) socket.close();
            else part = join(terminal, socket, proxy, told);
        })
        .catch((error) => told(reason(error)));
    return () => {
        gone = true;
        part();
        resize.disconnect();
        terminal.dispose();
    };
}
