// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them. Sizes are binary (KiB, MiB, GiB), as everywhere in wirt.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function size(bytes: number | undefined): string {
    if (bytes === undefined) return "–";
    let unit = 0;
    let value = bytes;
    while (value >= 1024 && unit < UNITS.length - 1) {
        value /= 1024;
        unit++;
    }
    const digits = unit === 0 || value >= 100 ? 0 : 1;
    return `${value.toFixed(digits).replace(/\.0$/, "")} ${UNITS[unit]}`;
}

export const rate = (bytesPerSecond: number | undefined): string => `${size(bytesPerSecond)}/s`;

export function percent(fraction: number | undefined): string {
    return fraction === undefined ? "–" : `${(fraction * 100).toFixed(fraction < 0.1 ? 1 : 0)} %`;
}

/** 93784 is "1 d 2 h", 75 is "1 min 15 s": the two largest units. */
export function duration(seconds: number | undefined): string {
    if (seconds === undefined) return "–";
    const units: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const parts: string[] = [];
    let left = Math.floor(seconds);
    for (const [length, name] of units) {
        const count = Math.floor(left / length);
        left -= count * length;
        if (count > 0) parts.push(`${count} ${name}`);
        if (parts.length === 2) break;
    }
    return parts.length === 0 ? "0 s" : parts.join(" ");
}

export function time(seconds: number | undefined): string {
    return seconds === undefined || seconds === 0 ? "–" : new Date(seconds * 1000).toLocaleString();
}

/** "virtio=52:54:00:…,bridge=vmbr0" as pairs in order; the first may have no name ("local:vm-1-disk-0,size=2G"). */
export function pairs(property: string): [string, string][] {
    return property.split(",").filter((part) => part !== "").map((part) => {
        const at = part.indexOf("=");
        return at < 0 ? ["", part] : [part.slice(0, at), part.slice(at + 1)];
    });
}

const TASKS: Record<string, string> = {
    qmcreate: "Create",
    qmclone: "Clone",
    qmconfig: "Configure",
    qmdestroy: "Remove",
    qmreboot: "Restart",
    qmreset: "Reset",
    resize: "Grow a disk",
    qmrestore: "Restore",
    qmresume: "Resume",
    qmrollback: "Go back to a snapshot",
    qmshutdown: "Shut down",
    qmsnapshot: "Snapshot",
    qmdelsnapshot: "Remove a snapshot",
    qmstart: "Start",
    qmstop: "Stop",
    qmsuspend: "Pause",
    qmtemplate: "Make a template",
    qmmove: "Move a disk",
    qmmerge: "Merge dropped snapshots",
    vzdump: "Back up",
    imgcopy: "Copy a volume",
    imgdel: "Remove a volume",
    download: "Download",
    startall: "Start several",
    stopall: "Shut down several",
    suspendall: "Pause several",
    qmpause: "Pause",
    qmigrate: "Migrate",
    vncproxy: "Console",
    termproxy: "Console",
};

/** What a kind of task does, in words; a kind that is not known by its own name. */
export const taskName = (type: string): string => TASKS[type] ?? type;
