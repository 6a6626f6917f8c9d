// SPDX-License-Identifier: Apache-2.0
// One VM: its name and state, what can be done with it, and a tab for each side of it.
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Resource } from "../api/types";
import { begin, go, guests, href, lacks, listed, names, run } from "../state";
import { Button, Confirm, Dot, Tabs } from "../ui/parts";
import { Backups } from "./backups";
import { CloneGuest } from "./clone";
import { CloudInit } from "./cloudinit";
import { ConsoleView } from "./console";
import { Hardware } from "./hardware";
import { Options } from "./options";
import { Snapshots } from "./snapshots";
import { Summary } from "./summary";
import { TaskList } from "./tasks";

const TABS = [
    ["summary", "Summary"],
    ["console", "Console"],
    ["hardware", "Hardware"],
    ["cloudinit", "Cloud-init"],
    ["options", "Options"],
    ["snapshots", "Snapshots"],
    ["backups", "Backups"],
    ["tasks", "Tasks"],
] as const;

function Tab(props: { guest: Resource; tab: string }) {
    const { guest } = props;
    switch (props.tab) {
        case "console":
            return <ConsoleView guest={guest} />;
        case "hardware":
            return <Hardware guest={guest} />;
        case "cloudinit":
            return <CloudInit guest={guest} />;
        case "options":
            return <Options guest={guest} />;
        case "snapshots":
            return <Snapshots guest={guest} />;
        case "backups":
            return <Backups guest={guest} />;
        case "tasks":
            return <TaskList name="Tasks of this VM" parameters={{ node: guest.node ?? "", vmid: guest.vmid, source: "all", limit: 200 }} />;
        default:
            return <Summary guest={guest} />;
    }
}

type Asked = "stop" | "reset" | "remove" | "template" | "clone" | undefined;

function Power(props: { guest: Resource; ask: (what: Asked) => void }) {
    const { guest } = props;
    const name = guest.name ?? `VM ${guest.vmid}`;
    const lacking = lacks("VM.PowerMgmt", `/vms/${guest.vmid}`);
    const able = { disabled: lacking !== undefined, title: lacking };
    const act = (verb: "start" | "shutdown" | "reboot" | "suspend" | "resume", text: string) => () => void run(`${text} ${name}`, () => api.post(`/nodes/{node}/qemu/{vmid}/status/${verb}`, names(guest)));
    const stop = <Button kind="danger" disabled={able.disabled} onClick={() => props.ask("stop")} title={lacking ?? "As pulling the plug: the guest is not asked"}>Stop</Button>;
    if (guest.status === "paused")
        return (
            <>
                <Button kind="main" {...able} onClick={act("resume", "Resume")}>Resume</Button>
                {stop}
            </>
        );
    if (guest.status !== "running") return <Button kind="main" {...able} onClick={act("start", "Start")}>Start</Button>;
    return (
        <>
            <Button {...able} onClick={act("shutdown", "Shut down")}>Shut down</Button>
            <Button {...able} onClick={act("reboot", "Restart")}>Restart</Button>
            <Button {...able} onClick={act("suspend", "Pause")}>Pause</Button>
            <Button kind="danger" disabled={able.disabled} onClick={() => props.ask("reset")} title={lacking ?? "As the reset button of a PC: the guest is not asked"}>Reset</Button>
            {stop}
        </>
    );
}

function Asked(props: { guest: Resource; asked: Asked; done: () => void }) {
    const { guest, done } = props;
    const name = guest.name ?? `VM ${guest.vmid}`;
    const task = (what: string, ask: () => Promise<unknown>) => () => begin(what, ask);
    switch (props.asked) {
        case "stop":
            return <Confirm title={`Stop ${name}?`} text="What the guest has not written to its disks is lost." submit="Stop" done={done} onSubmit={task(`Stop ${name}`, () => api.post("/nodes/{node}/qemu/{vmid}/status/stop", names(guest)))} />;
        case "reset":
            return <Confirm title={`Reset ${name}?`} text="What the guest has not written to its disks is lost." submit="Reset" done={done} onSubmit={task(`Reset ${name}`, () => api.post("/nodes/{node}/qemu/{vmid}/status/reset", names(guest)))} />;
        case "template":
            return <Confirm title={`Make ${name} a template?`} text="A template cannot be started, only cloned. This cannot be undone." submit="Make a template" done={done} onSubmit={task(`Make ${name} a template`, () => api.post("/nodes/{node}/qemu/{vmid}/template", names(guest)))} />;
        case "remove":
            return (
                <Confirm
                    title={`Remove ${name}?`}
                    text="Its configuration, disks and snapshots are deleted. Backups stay."
                    typed={String(guest.vmid)}
                    submit="Remove"
                    done={done}
                    onSubmit={() => begin(`Remove ${name}`, () => api.delete("/nodes/{node}/qemu/{vmid}", { ...names(guest), purge: true }), (gone) => gone && go())}
                />
            );
        case "clone":
            return <CloneGuest guest={guest} done={done} />;
        default:
            return null;
    }
}

export function GuestView(props: { vmid: number; tab: string }) {
    const [asked, setAsked] = useState<Asked>();
    const guest = guests.value.find((one) => one.vmid === props.vmid);
    if (guest === undefined)
        return (
            <>
                <h1>VM {props.vmid}</h1>
                <p class="empty">{listed.value ? `There is no VM ${props.vmid}, or you may not see it. The list at the side has those that you may.` : "…"}</p>
            </>
        );
    const path = `/vms/${props.vmid}`;
    const noClone = lacks("VM.Clone", path);
    const lacking = lacks("VM.Allocate", path) ?? (guest.status === "stopped" ? undefined : "Stop it first");
    return (
        <>
            <div class="title">
                <h1>
                    <Dot status={guest.status} /> {guest.name ?? "VM"} <small>{guest.vmid}</small>
                </h1>
                <span class="state">{guest.lock !== undefined ? `locked: ${guest.lock}` : guest.template === 1 ? "template" : guest.status}</span>
                <div class="actions">
                    {guest.template !== 1 && <Power guest={guest} ask={setAsked} />}
                    <Button disabled={noClone !== undefined} title={noClone} onClick={() => setAsked("clone")}>Clone</Button>
                    {guest.template !== 1 && (
                        <Button disabled={lacking !== undefined} title={lacking} onClick={() => setAsked("template")}>
                            Make template
                        </Button>
                    )}
                    <Button kind="danger" disabled={lacking !== undefined} title={lacking} onClick={() => setAsked("remove")}>
                        Remove
                    </Button>
                </div>
            </div>
            <Tabs name="Sides of this VM" current={props.tab} tabs={TABS.map(([id, title]) => [id, title, href("guest", props.vmid, id)])} />
            <Tab guest={guest} tab={props.tab} />
            <Asked guest={guest} asked={asked} done={() => setAsked(undefined)} />
        </>
    );
}
