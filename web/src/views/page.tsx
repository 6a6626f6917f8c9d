// SPDX-License-Identifier: Apache-2.0
// The frame: who is logged in and what can be made above, the tree of guests and datastores at the side,
// the current view in the middle, messages in the corner.
import { useState } from "preact/hooks";
import { href, logOut, messages, place, resourcesError, unsay, user } from "../state";
import { Button } from "../ui/parts";
import { Access } from "./access";
import { CreateGuest } from "./create";
import { GuestView } from "./guest";
import { Help } from "./help";
import { Login } from "./login";
import { NodeView } from "./node";
import { Overview } from "./overview";
import { StorageView } from "./storage";
import { TasksView } from "./tasks";
import { Theme } from "./theme";
import { Tree } from "./tree";

function View() {
    const [kind, id, tab] = place.value;
    switch (kind) {
        case "guest":
            return <GuestView key={id} vmid={Number(id)} tab={tab ?? "summary"} />;
        case "node":
            return <NodeView key={id} node={id ?? ""} />;
        case "storage":
            return <StorageView key={`${id}/${tab}`} node={id ?? ""} storage={tab ?? ""} />;
        case "tasks":
            return <TasksView />;
        case "access":
            return <Access tab={id ?? "users"} />;
        default:
            return <Overview />;
    }
}

function Messages() {
    return (
        <div class="messages" aria-live="polite">
            {messages.value.map((message) => (
                <div key={message.key} class={`message ${message.kind}`} role={message.kind === "bad" ? "alert" : "status"}>
                    <span>{message.text}</span>
                    {message.kind !== "busy" && (
                        <button type="button" aria-label="Dismiss" onClick={() => unsay(message.key)}>
                            ×
                        </button>
                    )}
                </div>
            ))}
        </div>
    );
}

function Header() {
    const [open, setOpen] = useState<"create" | "help">();
    const done = () => setOpen(undefined);
    const at = place.value[0];
    const link = (to: string, text: string) => (
        <a href={href(to)} aria-current={at === to ? "page" : undefined}>
            {text}
        </a>
    );
    return (
        <header class="top">
            <a class="home" href={href()}>
                <img src="/icon.svg" alt="" width="24" height="24" /> wirt
            </a>
            <nav aria-label="Main">
                <a href={href()} aria-current={at === undefined ? "page" : undefined}>
                    Overview
                </a>
                {link("tasks", "Tasks")}
                {link("access", "Users and rights")}
            </nav>
            <Button kind="main" onClick={() => setOpen("create")}>
                Create VM
            </Button>
            <Theme />
            <Button kind="quiet" onClick={() => setOpen("help")}>
                Help
            </Button>
            <span class="who">{user.value}</span>
            <Button kind="quiet" onClick={logOut}>
                Log out
            </Button>
            {open === "create" && <CreateGuest done={done} />}
            {open === "help" && <Help done={done} />}
        </header>
    );
}

export function Page() {
    if (user.value === undefined) return <Login />;
    return (
        <div class="page">
            <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
                Skip to content
            </a>
            <Header />
            <Tree />
            <main id="main" tabIndex={-1}>
                {resourcesError.value !== undefined && (
                    <p class="error" role="alert">
                        {resourcesError.value}
                    </p>
                )}
                <View />
            </main>
            <Messages />
        </div>
    );
}
