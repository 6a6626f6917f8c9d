// SPDX-License-Identifier: Apache-2.0
// Light, dark, or as the system has it; kept in the browser.
import { signal } from "@preact/signals";

type Scheme = "auto" | "light" | "dark";
const NEXT: Record<Scheme, Scheme> = { auto: "light", light: "dark", dark: "auto" };
const KEY = "wirt-scheme";

const stored = localStorage.getItem(KEY);
const scheme = signal<Scheme>(stored === "light" || stored === "dark" ? stored : "auto");

scheme.subscribe((value) => {
    document.documentElement.dataset.scheme = value;
    localStorage.setItem(KEY, value);
});

export function Theme() {
    return (
        <button type="button" class="button quiet" onClick={() => (scheme.value = NEXT[scheme.value])}>
            Colours: {scheme.value}
        </button>
    );
}
