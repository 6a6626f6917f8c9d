// SPDX-License-Identifier: Apache-2.0
// What the API answers where its table leaves the end open, as far as the page reads it. Sizes are bytes, times are seconds.
import type { Endpoints } from "./endpoints";

export interface Resource {
    id: string;
    type: string;
    node?: string;
    status: string;
    /** "paused", of what runs and stands still; else not given. */
    qmpstatus?: string;
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
    /** Bytes since the guest started. */
    netin?: number;
    netout?: number;
    diskread?: number;
    diskwrite?: number;
}

export type Config = { digest: string; [key: string]: string | number };

export interface StorageInfo {
    type: string;
    content: string;
    active: number;
    total: number;
    used: number;
    avail: number;
}

export interface User {
    userid: string;
    enable: number;
    expire: number;
    firstname?: string;
    lastname?: string;
    email?: string;
    comment?: string;
    groups?: string;
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

export interface AgentInterface {
    name: string;
    "ip-addresses"?: { "ip-address": string; "ip-address-type": string }[];
}

export interface Iface {
    iface: string;
    type: string;
    address?: string;
    cidr?: string;
    active?: number;
    comments?: string;
}

type Row<K extends keyof Endpoints> = Endpoints[K]["answer"] extends (infer R)[] ? R : never;
export type Task = Row<"GET /nodes/{node}/tasks">;
export type Snapshot = Row<"GET /nodes/{node}/qemu/{vmid}/snapshot">;
export type Volume = Row<"GET /nodes/{node}/storage/{storage}/content">;
export type Token = Row<"GET /access/users/{userid}/token">;
export type AclEntry = Row<"GET /access/acl">;
export type Role = Row<"GET /access/roles">;
export type Pending = Row<"GET /nodes/{node}/qemu/{vmid}/pending">;
export type Group = Row<"GET /access/groups">;

/** Path to what the logged-in user may do there. */
export type Permissions = Record<string, Record<string, number>>;

export interface Answers {
    "GET /cluster/resources": Resource[];
    "GET /cluster/tasks": Task[];
    "GET /access/users": User[];
    "GET /access/users/{userid}": Omit<User, "userid" | "groups"> & { groups?: string[] | string };
    "GET /access/permissions": Permissions;
    "GET /nodes/{node}/status": NodeStatus;
    "GET /nodes/{node}/network": Iface[];
    "GET /nodes/{node}/rrddata": Sample[];
    "GET /nodes/{node}/qemu/{vmid}/rrddata": Sample[];
    "GET /nodes/{node}/qemu/{vmid}/config": Config;
    "GET /nodes/{node}/qemu/{vmid}/agent/network-get-interfaces": { result: AgentInterface[] };
    "GET /nodes/{node}/storage/{storage}/status": StorageInfo;
}

/** Fails to compile where what stands above is not what the table says. */
type Wrong = { [K in keyof Answers & keyof Endpoints]: Answers[K] extends Endpoints[K]["answer"] ? never : K }[keyof Answers & keyof Endpoints];
export const agrees: [Wrong] extends [never] ? true : Wrong = true;
