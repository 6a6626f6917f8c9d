// SPDX-License-Identifier: Apache-2.0
// Data of one view: asked for when the view appears or its path changes, again each `everyMs` while the page
// is visible, and dropped with the view. An answer that comes after the view has moved on is not shown.
import { useCallback, useEffect, useState } from "preact/hooks";
import { type AnswerOf, type Parameters, type ParametersOf, type Path, request } from "../api/client";

export interface Loaded<T> {
    data: T | undefined;
    error: unknown;
    again: () => void;
}

export function useLoad<P extends Path<"GET">>(path: P, parameters: ParametersOf<"GET", P>, everyMs = 0): Loaded<AnswerOf<"GET", P>> {
    const [data, setData] = useState<AnswerOf<"GET", P>>();
    const [error, setError] = useState<unknown>();
    const [turn, setTurn] = useState(0);
    const key = JSON.stringify(parameters);

    useEffect(() => setData(undefined), [path, key]);
    useEffect(() => {
        const abort = new AbortController();
        const ask = () =>
            request("GET", path, JSON.parse(key) as Parameters, abort.signal)
                .then((answer) => {
                    setData(() => answer as AnswerOf<"GET", P>);
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
