// SPDX-License-Identifier: Apache-2.0
// The one place that speaks HTTP: requests to /api2/json with the ticket's cookie and the CSRF
// token, and errors as one class. A person who is not logged in gets "unauthorized" here, and
// whoever registered with onUnauthorized shows the log-in page.
//
// Endpoints are named as the node's table names them ("/nodes/{node}/qemu/{vmid}/config"), and api/endpoints.ts, which is made
// from that table, says what each takes and answers: a request that the node does not know does not compile.
import type { Endpoints } from "./endpoints";
import type { Answers } from "./types";

/** What the server refused, in its own words. */
export class ApiError extends Error {
    constructor(
        /** HTTP status; 0 when the node could not be reached. */
        readonly status: number,
        message: string,
        /** Parameter name to reason, as a form shows them beside its fields. */
        readonly fields: Record<string, string> = {},
    ) {
        super(message);
        this.name = "ApiError";
    }
}

export type Value = string | number | boolean | undefined | string[];
export type Parameters = Record<string, Value>;

type Key = keyof Endpoints;
export type Method = "GET" | "POST" | "PUT" | "DELETE";
/** The paths that a method has. */
export type Path<M extends Method> = Key extends infer K ? (K extends `${M} ${infer P}` ? P : never) : never;
export type ParametersOf<M extends Method, P extends string> = `${M} ${P}` extends Key ? Endpoints[`${M} ${P}`]["parameters"] : never;
/** What the table says, or what the page knows beyond it. */
export type AnswerOf<M extends Method, P extends string> = `${M} ${P}` extends keyof Answers
    ? Answers[`${M} ${P}`]
    : `${M} ${P}` extends Key
      ? Endpoints[`${M} ${P}`]["answer"]
      : never;

interface Envelope<T> {
    data: T;
    errors?: Record<string, string>;
    message?: string;
}

const CSRF_KEY = "wirt-csrf";
let unauthorized: () => void = () => {};

export function onUnauthorized(handler: () => void): void {
    unauthorized = handler;
}

/** Keeps a ticket as the cookie that the API reads, and its token for requests that change something. */
export function keepTicket(ticket: string, csrf: string): void {
    document.cookie = `PVEAuthCookie=${encodeURIComponent(ticket)}; path=/; secure; samesite=strict`;
    sessionStorage.setItem(CSRF_KEY, csrf);
}

export function dropTicket(): void {
    document.cookie = "PVEAuthCookie=; path=/; secure; samesite=strict; max-age=0";
    sessionStorage.removeItem(CSRF_KEY);
}

export function ticketFromCookie(): string | undefined {
    const found = document.cookie.split("; ").find((part) => part.startsWith("PVEAuthCookie="));
    return found === undefined ? undefined : decodeURIComponent(found.slice("PVEAuthCookie=".length));
}

/** Form encoding as the API reads it: booleans as 0 and 1, a list as a repeated key, undefined left out. */
export function encode(parameters: Parameters): URLSearchParams {
    const form = new URLSearchParams();
    for (const [key, value] of Object.entries(parameters)) {
        if (value === undefined) continue;
        if (Array.isArray(value)) value.forEach((one) => form.append(key, one));
        else if (typeof value === "boolean") form.append(key, value ? "1" : "0");
        else form.append(key, String(value));
    }
    return form;
}

function headers(method: string): Record<string, string> {
    const csrf = sessionStorage.getItem(CSRF_KEY);
    return method === "GET" || csrf === null ? {} : { CSRFPreventionToken: csrf };
}

function parsed(text: string): Partial<Envelope<null>> {
    try {
        return JSON.parse(text) as Partial<Envelope<null>>;
    } catch {
        return {}; // Not JSON: something between us and the node answered. The status line is all there is.
    }
}

/** The server's reason, from its body where there is one, else from the status line. */
async function errorOf(response: Response): Promise<ApiError> {
    const body = parsed(await response.text());
    const text = (body.message ?? response.statusText).trim();
    return new ApiError(response.status, text === "" ? `error ${response.status}` : text, body.errors ?? {});
}

/** The path with its variables filled in, and the parameters that are left. "{name*}" keeps its slashes. */
export function fill(path: string, parameters: Parameters): [string, Parameters] {
    const left = { ...parameters };
    const filled = path.replace(/\{([\w-]+)(\*?)\}/g, (_, name: string, rest: string) => {
        const value = encodeURIComponent(String(parameters[name]));
        delete left[name];
        return rest === "" ? value : value.replaceAll("%2F", "/").replaceAll("%3A", ":");
    });
    return [filled, left];
}

export async function request(method: Method, path: string, parameters: Parameters, signal?: AbortSignal): Promise<unknown> {
    const [filled, left] = fill(path, parameters);
    const form = encode(left);
    const inQuery = method === "GET" || method === "DELETE";
    const query = inQuery && form.size > 0 ? `?${form}` : "";
    let response: Response;
    try {
        response = await fetch(`/api2/json${filled}${query}`, { method, headers: headers(method), body: inQuery ? undefined : form, signal });
    } catch (error) {
        if (signal?.aborted) throw error;
        throw new ApiError(0, "The node does not answer: is wirtd running, and is this machine's network up?");
    }
    if (response.ok) return ((await response.json()) as Envelope<unknown>).data;
    const error = await errorOf(response);
    if (error.status === 401 && path !== "/access/ticket") unauthorized();
    throw error;
}

/** A request whose endpoint is known; parameters without any that must be given may be left out. */
type Ask<M extends Method> = <P extends Path<M>>(
    path: P,
    ...rest: {} extends ParametersOf<M, P> ? [parameters?: ParametersOf<M, P>, signal?: AbortSignal] : [parameters: ParametersOf<M, P>, signal?: AbortSignal]
) => Promise<AnswerOf<M, P>>;

const ask = <M extends Method>(method: M) => ((path: string, parameters: Parameters = {}, signal?: AbortSignal) => request(method, path, parameters, signal)) as Ask<M>;

export const api = { get: ask("GET"), post: ask("POST"), put: ask("PUT"), delete: ask("DELETE") };

/**
 * Uploads a file to a datastore and tells how far it is, from 0 to 1. XMLHttpRequest, because fetch
 * does not tell the progress of what it sends. Returns the task's UPID.
 */
export function upload(node: string, storage: string, facts: Record<string, string>, file: File, progress: (fraction: number) => void, signal: AbortSignal): Promise<string> {
    const form = new FormData();
    for (const [name, value] of Object.entries(facts)) form.append(name, value); // before the file, which decides where it goes
    form.append("filename", file, file.name);
    return new Promise((resolve, reject) => {
        const call = new XMLHttpRequest();
        call.open("POST", `/api2/json/nodes/${encodeURIComponent(node)}/storage/${encodeURIComponent(storage)}/upload`);
        for (const [name, value] of Object.entries(headers("POST"))) call.setRequestHeader(name, value);
        call.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
        signal.addEventListener("abort", () => call.abort());
        call.onabort = () => reject(new ApiError(0, "It was cancelled while the file was being sent."));
        call.onerror = () => reject(new ApiError(0, "The connection broke while the file was being sent."));
        call.onload = () => {
            if (call.status === 200) resolve((JSON.parse(call.responseText) as Envelope<string>).data);
            else {
                const body = parsed(call.responseText);
                reject(new ApiError(call.status, body.message?.trim() || call.statusText || `error ${call.status}`, body.errors ?? {}));
            }
        };
        call.send(form);
    });
}
