// SPDX-License-Identifier: Apache-2.0
// What the page knows: who is logged in, the list of resources (asked for again and again while the page
// is visible), the place it shows (in the address's fragment, so that a link leads back), and the short
// messages in its corner. Views read these signals and redraw themselves.
import { computed, effect, signal } from "@preact/signals";
import { ApiError, api, dropTicket, keepTicket, onUnauthorized, ticketFromCookie } from "./api/client";
import type { Permissions, Resource, TaskStatus } from "./api/types";

const RESOURCES_EVERY_MS = 3000;
const TASK_EVERY_MS = 700;
/** A ticket lasts two hours; it is renewed well before. */
const RENEW_EVERY_MS = 45 * 60 * 1000;

export interface LoginAnswer {
    ticket: string;
    username: string;
    CSRFPreventionToken?: string;
    NeedTFA?: number;
}

export const user = signal<string | undefined>(undefined);
export const permissions = signal<Permissions>({});
export const resources = signal<Resource[]>([]);
export const resourcesError = signal<string | undefined>(undefined);

export const guests = computed(() =>
    resources.value.filter((r) => r.type === "qemu").sort((a, b) => (a.vmid ?? 0) - (b.vmid ?? 0)),
);
export const nodes = computed(() => resources.value.filter((r) => r.type === "node"));
export const storages = computed(() => resources.value.filter((r) => r.type === "storage"));

// ---- the place -------------------------------------------------------------------------------

/** "#/guest/100/console" is ["guest", "100", "console"]. */
export const place = signal<string[]>(readPlace());

function readPlace(): string[] {
    return location.hash.replace(/^#\/?/, "").split("/").filter((part) => part !== "").map(decodeURIComponent);
}

window.addEventListener("hashchange", () => {
    place.value = readPlace();
});

export function href(...parts: (string | number)[]): string {
    return `#/${parts.map((part) => encodeURIComponent(String(part))).join("/")}`;
}

export function go(...parts: (string | number)[]): void {
    location.hash = href(...parts);
}

// ---- messages ----------------------------------------------------------------------------------

export interface Message {
    key: number;
    kind: "good" | "bad" | "busy";
    text: string;
}

export const messages = signal<Message[]>([]);
let nextMessage = 1;

export function say(kind: Message["kind"], text: string): number {
    const key = nextMessage++;
    messages.value = [...messages.value, { key, kind, text }];
    if (kind === "good") setTimeout(() => unsay(key), 5000);
    return key;
}

export function unsay(key: number): void {
    messages.value = messages.value.filter((message) => message.key !== key);
}

export function reason(error: unknown): string {
    if (error instanceof ApiError) {
        const fields = Object.entries(error.fields).map(([name, why]) => `${name}: ${why}`);
        return [error.message, ...fields].join(" · ");
    }
    return error instanceof Error ? error.message : String(error);
}

// ---- the session ---------------------------------------------------------------------------------

let renewal: number | undefined;

function begin(answer: LoginAnswer): void {
    keepTicket(answer.ticket, answer.CSRFPreventionToken ?? "");
    user.value = answer.username;
    clearInterval(renewal);
    renewal = window.setInterval(() => void renew(answer.username), RENEW_EVERY_MS);
    void loadPermissions();
}

async function loadPermissions(): Promise<void> {
    permissions.value = await api.get<Permissions>("/access/permissions");
}

/** A valid ticket serves as the password for its successor. */
async function renew(username: string): Promise<void> {
    const password = ticketFromCookie();
    if (password === undefined) return logOut();
    try {
        begin(await api.post<LoginAnswer>("/access/ticket", { username, password }));
    } catch {
        logOut();
    }
}

/** Logs in, or says what the second factor's answer must be sent with. */
export async function logIn(username: string, password: string): Promise<LoginAnswer> {
    const answer = await api.post<LoginAnswer>("/access/ticket", { username, password });
    if (answer.NeedTFA !== 1) begin(answer);
    return answer;
}

export async function secondFactor(challenge: LoginAnswer, code: string): Promise<void> {
    begin(
        await api.post<LoginAnswer>("/access/ticket", {
            username: challenge.username,
            "tfa-challenge": challenge.ticket,
            password: `totp:${code}`,
        }),
    );
}

export function logOut(): void {
    clearInterval(renewal);
    dropTicket();
    user.value = undefined;
    resources.value = [];
    messages.value = [];
}

/** At the page's load a cookie may still be good: it is tried by renewing it. */
export async function resume(): Promise<void> {
    const ticket = ticketFromCookie();
    const name = ticket?.split(":")[1];
    if (name !== undefined) await renew(name);
}

onUnauthorized(logOut);

/** Whether the user holds a privilege at a path or at one of its parents, as far as the server told. */
export function may(privilege: string, path: string): boolean {
    for (let at = path; ; at = at.slice(0, at.lastIndexOf("/")) || "/") {
        const here = permissions.value[at];
        const held = here?.[privilege];
        if (held !== undefined && (at === path || held === 1)) return true;
        if (at === "/") return false;
    }
}

// ---- resources -----------------------------------------------------------------------------------

export async function refresh(): Promise<void> {
    try {
        resources.value = await api.get<Resource[]>("/cluster/resources");
        resourcesError.value = undefined;
    } catch (error) {
        resourcesError.value = reason(error);
    }
}

effect(() => {
    if (user.value === undefined) return;
    void refresh();
    const timer = window.setInterval(() => document.visibilityState === "visible" && void refresh(), RESOURCES_EVERY_MS);
    return () => clearInterval(timer);
});

// ---- tasks ---------------------------------------------------------------------------------------

export const nodeOf = (upid: string): string => upid.split(":")[1] ?? "localhost";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until a task has ended; its exit status when that is not OK is the error. */
export async function taskEnd(upid: string): Promise<void> {
    for (;;) {
        const state = await api.get<TaskStatus>(`/nodes/${nodeOf(upid)}/tasks/${encodeURIComponent(upid)}/status`);
        if (state.status === "stopped") {
            if (state.exitstatus !== "OK") throw new Error(state.exitstatus ?? "the task was lost");
            return;
        }
        await pause(TASK_EVERY_MS);
    }
}

/** Runs something that starts a task (or none) and tells in the corner how it went. True when well. */
export async function run(what: string, start: () => Promise<unknown>): Promise<boolean> {
    const busy = say("busy", `${what} …`);
    try {
        const upid = await start();
        if (typeof upid === "string" && upid.startsWith("UPID:")) await taskEnd(upid);
        say("good", `${what}: done`);
        return true;
    } catch (error) {
        say("bad", `${what}: ${reason(error)}`);
        return false;
    } finally {
        unsay(busy);
        void refresh();
    }
}
