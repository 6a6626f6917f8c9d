// SPDX-License-Identifier: Apache-2.0
// What the page knows: who is logged in, the list of resources (asked for again and again while the page
// is visible), the place it shows (in the address's fragment, so that a link leads back), and the short
// messages in its corner. Views read these signals and redraw themselves.
import { computed, effect, signal } from "@preact/signals";
import { type AnswerOf, ApiError, api, dropTicket, keepTicket, onUnauthorized, ticketFromCookie } from "./api/client";
import type { Permissions, Resource } from "./api/types";
import { note } from "./history";

const RESOURCES_EVERY_MS = 3000;
/** Of a large node the list takes long to make and to draw: the page asks for it less often, so that it is busy with it at most so much of the time. */
const RESOURCES_BUSY_AT_MOST = 0.1;
const TASK_EVERY_MS = 700;
/** A ticket lasts two hours; it is renewed well before. */
const RENEW_EVERY_MS = 45 * 60 * 1000;
/** When the node did not answer. */
const RENEW_AGAIN_MS = 20 * 1000;

export type LoginAnswer = AnswerOf<"POST", "/access/ticket">;

export const user = signal<string | undefined>(undefined);
export const permissions = signal<Permissions>({});
export const resources = signal<Resource[]>([]);
/** Whether the list has come: an empty one says nothing before. */
export const listed = signal(false);
export const resourcesError = signal<string | undefined>(undefined);
/** Why the log-in page is there, where it is not at the person's own wish. */
export const farewell = signal<string | undefined>(undefined);

/** By number; the status of a paused one is "paused" here. */
export const guests = computed(() =>
    resources.value
        .filter((r) => r.type === "qemu")
        .map((r) => (r.qmpstatus === undefined ? r : { ...r, status: r.qmpstatus }))
        .sort((a, b) => (a.vmid ?? 0) - (b.vmid ?? 0)),
);
/** What names a guest in the interface's paths. */
export const names = (guest: Resource): { node: string; vmid: number } => ({ node: guest.node ?? "", vmid: guest.vmid ?? 0 });
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

/** What the browser's tab and history call the place. */
function title(): string {
    const [kind, id, tab] = place.value;
    const parts: Record<string, string> = {
        guest: `${guests.value.find((guest) => String(guest.vmid) === id)?.name ?? `VM ${id}`}${tab === undefined ? "" : ` ${tab}`}`,
        node: `Node ${id}`,
        storage: `Datastore ${tab}`,
        tasks: "Tasks",
        access: "Users and rights",
    };
    return user.value === undefined ? "Log in" : (parts[kind ?? ""] ?? "Overview");
}

effect(() => {
    document.title = `${title()} – wirt`;
});

// ---- messages ----------------------------------------------------------------------------------

export interface Message {
    key: number;
    kind: "good" | "bad" | "busy";
    text: string;
}

export const messages = signal<Message[]>([]);
let nextMessage = 1;
const GOOD_AT_ONCE = 3;

export function say(kind: Message["kind"], text: string): number {
    const key = nextMessage++;
    const good = messages.value.filter((message) => message.kind === "good");
    const old = good.slice(0, Math.max(0, good.length + 1 - GOOD_AT_ONCE)); // they would hide what lies below them
    messages.value = [...messages.value.filter((message) => !old.includes(message)), { key, kind, text }];
    if (kind === "good") setTimeout(() => unsay(key), 5000);
    return key;
}

export function unsay(key: number): void {
    messages.value = messages.value.filter((message) => message.key !== key);
}

/** The reasons that are about one field each. */
export const fieldsOf = (error: unknown): Record<string, string> => (error instanceof ApiError ? error.fields : {});

/** "Permission check failed (anna@wirt, /vms/100, VM.Audit|VM.Console)" as a sentence that says what to do. */
function plain(message: string): string {
    const refused = /^Permission check failed \(([^,]+), ([^,]+), ([^)]+)\)$/.exec(message);
    if (refused === null) return message;
    const [, who, path, privileges] = refused;
    return `${who} may not do this at ${path}: it needs ${privileges!.replaceAll("|", " or ")}. Who administers the node can give it there, under Users and rights.`;
}

export function reason(error: unknown): string {
    if (error instanceof ApiError) {
        const fields = Object.entries(error.fields).map(([name, why]) => `${name}: ${why}`);
        return [plain(error.message), ...fields].join(" · ");
    }
    return error instanceof Error ? error.message : String(error);
}

// ---- the session ---------------------------------------------------------------------------------

let renewal: number | undefined;

function enter(answer: LoginAnswer): void {
    keepTicket(answer.ticket, answer.CSRFPreventionToken);
    user.value = answer.username;
    farewell.value = undefined;
    clearInterval(renewal);
    renewal = window.setInterval(() => void renew(answer.username), RENEW_EVERY_MS);
    void loadPermissions();
}

async function loadPermissions(): Promise<void> {
    permissions.value = await api.get("/access/permissions");
}

/** A valid ticket serves as the password for its successor. */
async function renew(username: string): Promise<void> {
    const password = ticketFromCookie();
    if (password === undefined) return logOut();
    try {
        enter(await api.post("/access/ticket", { username, password }));
    } catch (error) {
        // A node that does not answer just now does not end the session: the ticket is good beyond its restart.
        if (error instanceof ApiError && error.status === 401) return logOut();
        clearInterval(renewal);
        renewal = window.setInterval(() => void renew(username), RENEW_AGAIN_MS);
    }
}

/** Logs in, or says what the second factor's answer must be sent with. */
export async function logIn(username: string, password: string): Promise<LoginAnswer> {
    const answer = await api.post("/access/ticket", { username, password });
    if (answer.NeedTFA !== 1) enter(answer);
    return answer;
}

export async function secondFactor(challenge: LoginAnswer, code: string): Promise<void> {
    enter(
        await api.post("/access/ticket", {
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
    listed.value = false;
    messages.value = [];
}

/** At the page's load a cookie may still be good: it is tried by renewing it. */
export async function resume(): Promise<void> {
    const ticket = ticketFromCookie();
    const name = ticket?.split(":")[1];
    if (name !== undefined) await renew(name);
}

onUnauthorized(() => {
    if (user.value !== undefined) farewell.value = "Your session has ended. Log in again, and you are back where you were.";
    logOut();
});

/** Whether the user holds a privilege at a path or at one of its parents, as far as the server told. */
export function may(privilege: string, path: string): boolean {
    for (let at = path; ; at = at.slice(0, at.lastIndexOf("/")) || "/") {
        const here = permissions.value[at];
        const held = here?.[privilege];
        if (held !== undefined && (at === path || held === 1)) return true;
        if (at === "/") return false;
    }
}

/** Why a button is not to be pressed, for its tooltip; undefined when it may be. */
export const lacks = (privilege: string, path: string): string | undefined => (may(privilege, path) ? undefined : `You lack ${privilege} at ${path}`);

// ---- resources -----------------------------------------------------------------------------------

let lastTookMs = 0;

export async function refresh(): Promise<void> {
    const begun = performance.now();
    try {
        const all = await api.get("/cluster/resources");
        note(all);
        resources.value = all;
        listed.value = true;
        resourcesError.value = undefined;
    } catch (error) {
        resourcesError.value = reason(error);
    }
    lastTookMs = performance.now() - begun;
}

effect(() => {
    if (user.value === undefined) return;
    let timer: number | undefined;
    let over = false;
    const again = async () => {
        if (document.visibilityState === "visible") await refresh();
        if (!over) timer = window.setTimeout(again, Math.max(RESOURCES_EVERY_MS, lastTookMs / RESOURCES_BUSY_AT_MOST));
    };
    void again();
    return () => {
        over = true;
        clearTimeout(timer);
    };
});

// ---- tasks ---------------------------------------------------------------------------------------

export const nodeOf = (upid: string): string => upid.split(":")[1] ?? "localhost";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until a task has ended; its exit status when that is not OK is the error. */
async function taskEnd(upid: string): Promise<void> {
    for (;;) {
        const state = await api.get("/nodes/{node}/tasks/{upid}/status", { node: nodeOf(upid), upid });
        if (state.status === "stopped") {
            if (state.exitstatus !== "OK") throw new Error(state.exitstatus ?? "the task was lost");
            return;
        }
        await pause(TASK_EVERY_MS);
    }
}

async function follow(what: string, upid: unknown): Promise<boolean> {
    const busy = say("busy", `${what} …`);
    try {
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

/**
 * Asks for something that starts a task (or none). What is refused at once is thrown, for the form that asked to show it; how the task goes
 * is told in the corner, and to `then`.
 */
export async function begin(what: string, ask: () => Promise<unknown>, then?: (well: boolean) => void): Promise<void> {
    const upid = await ask();
    void follow(what, upid).then(then);
}

/** The same where no form is open: what is refused stands in the corner, too. True when all went well. */
export async function run(what: string, ask: () => Promise<unknown>): Promise<boolean> {
    let upid: unknown;
    try {
        upid = await ask();
    } catch (error) {
        say("bad", `${what}: ${reason(error)}`);
        return false;
    }
    return follow(what, upid);
}
