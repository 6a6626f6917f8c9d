// SPDX-License-Identifier: Apache-2.0
// Data of one view: asked for when the view appears or its path changes, again each `everyMs` while the page
// is visible, and dropped with the view. An answer that comes after the view has moved on is not shown.
import { useCallback, useEffect, useState } from "preact/hooks";
import { api, type Parameters } from "../api/client";

export interface Loaded<T> {
    data: T | undefined;
    error: unknown;
    again: () => void;
}

export function useLoad<T>(path: string, parameters: Parameters = {}, everyMs = 0): Loaded<T> {
    const [data, setData] = useState<T>();
    const [error, setError] = useState<unknown>();
    const [turn, setTurn] = useState(0);
    const key = JSON.stringify(parameters);

    useEffect(() => setData(undefined), [path, key]);
    useEffect(() => {
        const abort = new AbortController();
        const ask = () =>
            api
                .get<T>(path, JSON.parse(key) as Parameters, abort.signal)
                .then((answer) => {
                    setData(answer);
                    setError(undefined);
                })
                .catch((refused) => {
                    if (!abort.signal.aborted) setError(refused);
                });
        void ask();
        const timer = everyMs > 0 ? window.setInterval(() => document.visibilityState === "visible" && void ask(), everyMs) : undefined;
        return () => {
            abort.abort();
            clearInterval(timer);
        };
    }, [path, key, everyMs, turn]);

    return { data, error, again: useCallback(() => setTurn((count) => count + 1), []) };
}
