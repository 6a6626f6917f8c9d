// SPDX-License-Identifier: Apache-2.0
// What the API answers, as far as the page reads it. Sizes are bytes, times are seconds.

export interface Resource {
    id: string;
    type: "qemu" | "lxc" | "node" | "storage" | "pool";
    node?: string;
    status?: string;
    vmid?: number;
    name?: string;
    template?: number;
    tags?: string;
    pool?: string;
    lock?: string;
    storage?: string;
    plugintype?: string;
    content?: string;
    uptime?: number;
    cpu?: number;
    maxcpu?: number;
    mem?: number;
    maxmem?: number;
    disk?: number;
    maxdisk?: number;
}

export interface Task {
    upid: string;
    node: string;
    type: string;
    id: string;
    user: string;
    starttime: number;
    endtime?: number;
    /** "running" or the exit status; "OK" when it went well. */
    status?: string;
}

export interface TaskStatus {
    status: "running" | "stopped";
    exitstatus?: string;
    type: string;
    id: string;
    user: string;
    starttime: number;
    progress?: number;
}

export interface LogLine {
    n: number;
    t: string;
}

export type Config = Record<string, string | number>;

export interface Snapshot {
    name: string;
    description?: string;
    parent?: string;
    snaptime?: number;
    running?: number;
}

export interface Volume {
    volid: string;
    content: string;
    format: string;
    size: number;
    used?: number;
    ctime?: number;
    vmid?: number;
    notes?: string;
}

export interface StorageInfo {
    storage: string;
    type: string;
    content: string;
    active?: number;
    total?: number;
    used?: number;
    avail?: number;
}

export interface User {
    userid: string;
    enable?: number;
    expire?: number;
    firstname?: string;
    lastname?: string;
    email?: string;
    comment?: string;
    groups?: string;
}

export interface Token {
    tokenid: string;
    privsep?: number;
    expire?: number;
    comment?: string;
}

export interface AclEntry {
    path: string;
    roleid: string;
    ugid: string;
    type: "user" | "group" | "token";
    propagate?: number;
}

export interface NodeStatus {
    uptime: number;
    loadavg: string[];
    kversion: string;
    pveversion: string;
    cpu: number;
    cpuinfo: { cpus: number; cores: number; sockets: number; model: string; mhz?: number | string };
    memory: { total: number; used: number; free: number };
    rootfs: { total: number; used: number; avail: number };
}

export interface Sample {
    time: number;
    cpu?: number;
    maxcpu?: number;
    mem?: number;
    maxmem?: number;
    memused?: number;
    memtotal?: number;
    netin?: number;
    netout?: number;
    diskread?: number;
    diskwrite?: number;
}

export interface Iface {
    iface: string;
    type: string;
    address?: string;
    cidr?: string;
    active?: number;
    comments?: string;
}

/** Path to what the logged-in user may do there. */
export type Permissions = Record<string, Record<string, number>>;
