// SPDX-License-Identifier: Apache-2.0
// The one place that speaks HTTP: requests to /api2/json with the ticket's cookie and the CSRF
// token, and errors as one class. A person who is not logged in gets "unauthorized" here, and
// whoever registered with onUnauthorized shows the log-in page.

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

/** The server's reason, from its body where there is one, else from the status line. */
async function errorOf(response: Response): Promise<ApiError> {
    let body: Partial<Envelope<null>> = {};
    try {
        body = (await response.json()) as Partial<Envelope<null>>;
    } catch {
        // Not JSON: something between us and the node answered. The status line is all there is.
    }
    const text = (body.message ?? response.statusText).trim();
    return new ApiError(response.status, text === "" ? `error ${response.status}` : text, body.errors ?? {});
}

async function request<T>(method: string, path: string, parameters: Parameters, signal?: AbortSignal): Promise<T> {
    const form = encode(parameters);
    const inQuery = method === "GET" || method === "DELETE";
    const query = inQuery && form.size > 0 ? `?${form}` : "";
    let response: Response;
    try {
        response = await fetch(`/api2/json${path}${query}`, {
            method,
            headers: headers(method),
            body: inQuery ? undefined : form,
            signal,
        });
    } catch (error) {
        if (signal?.aborted) throw error;
        throw new ApiError(0, "the node does not answer: is wirtd running, and is this machine's network up?");
    }
    if (response.ok) return ((await response.json()) as Envelope<T>).data;
    const error = await errorOf(response);
    if (error.status === 401 && path !== "/access/ticket") unauthorized();
    throw error;
}

export const api = {
    get: <T>(path: string, parameters: Parameters = {}, signal?: AbortSignal) => request<T>("GET", path, parameters, signal),
    post: <T>(path: string, parameters: Parameters = {}) => request<T>("POST", path, parameters),
    put: <T>(path: string, parameters: Parameters = {}) => request<T>("PUT", path, parameters),
    delete: <T>(path: string, parameters: Parameters = {}) => request<T>("DELETE", path, parameters),
};

/**
 * Uploads a file to a datastore and tells how far it is, from 0 to 1. XMLHttpRequest, because fetch
 * does not tell the progress of what it sends. Returns the task's UPID.
 */
export function upload(path: string, content: string, file: File, progress: (fraction: number) => void): Promise<string> {
    const form = new FormData();
    form.append("content", content);
    form.append("filename", file, file.name);
    return new Promise((resolve, reject) => {
        const call = new XMLHttpRequest();
        call.open("POST", `/api2/json${path}`);
        for (const [name, value] of Object.entries(headers("POST"))) call.setRequestHeader(name, value);
        call.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
        call.onerror = () => reject(new ApiError(0, "the connection broke while the file was being sent"));
        call.onload = () => {
            if (call.status === 200) resolve((JSON.parse(call.responseText) as Envelope<string>).data);
            else reject(new ApiError(call.status, call.statusText));
        };
        call.send(form);
    });
}
