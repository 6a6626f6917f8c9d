// SPDX-License-Identifier: Apache-2.0
// What the page's keys are, where the interface is described, and which version this is.
import { api } from "../api/client";
import { useEffect, useState } from "preact/hooks";
import { Button, Facts, useModal } from "../ui/parts";

/** Described by the node itself, from the table that it answers by. */
const API_PAGE = "/api.html";

export function Help(props: { done: () => void }) {
    const dialog = useModal();
    const [version, setVersion] = useState("…");
    useEffect(() => void api.get("/version").then((one) => setVersion(`${one.wirt}, with the interface of Proxmox VE ${one.version}`), () => setVersion("unknown: the node does not answer")), []);
    return (
        <dialog ref={dialog} aria-label="Help" onClose={props.done}>
            <h2>Help</h2>
            <Facts
                rows={[
                    [<kbd>/</kbd>, "goes to the search of guests"],
                    [<><kbd>↑</kbd> <kbd>↓</kbd></>, "go through what it found; Enter opens"],
                    [<kbd>Esc</kbd>, "closes a dialog"],
                    [<kbd>Shift+Tab</kbd>, "leaves the console"],
                    [<kbd>Ctrl+Shift+C</kbd>, "copies what is marked in the console; Ctrl+Shift+V pastes"],
                ]}
            />
            <p>
                <a href={API_PAGE} target="_blank" rel="noopener">
                    The interface (API) of this node
                </a>
            </p>
            <p class="note">
                On the command line <code>wirt help</code> lists the same things to do. This node: wirt {version}.
            </p>
            <div class="footer">
                <Button onClick={() => dialog.current?.close()}>Close</Button>
            </div>
        </dialog>
    );
}
