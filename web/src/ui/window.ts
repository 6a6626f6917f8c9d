// SPDX-License-Identifier: Apache-2.0
// Long lists: of more rows than a person looks at, only those near what is scrolled to are drawn. All rows have one height.
import { useEffect, useRef, useState } from "preact/hooks";

const AROUND = 12; // rows drawn beyond either edge

export interface Window<E> {
    /** Goes to the element that scrolls. */
    place: { current: E | null };
    large: boolean;
    first: number;
    last: number;
}

export function useWindow<E extends HTMLElement>(count: number, rowPx: number, from: number): Window<E> {
    const place = useRef<E>(null);
    const [[first, last], setRange] = useState([0, from]);
    const large = count > from;
    useEffect(() => {
        const element = place.current;
        if (!large || element === null) return;
        const look = () => {
            const top = Math.max(0, Math.floor(element.scrollTop / rowPx) - AROUND);
            const end = Math.ceil((element.scrollTop + element.clientHeight) / rowPx) + AROUND;
            setRange((old) => (old[0] === top && old[1] === end ? old : [top, end]));
        };
        const sized = new ResizeObserver(look);
        sized.observe(element);
        element.addEventListener("scroll", look, { passive: true });
        look();
        return () => {
            sized.disconnect();
            element.removeEventListener("scroll", look);
        };
    }, [large, count]);
    return large ? { place, large, first: Math.min(first!, count), last: Math.min(last!, count) } : { place, large, first: 0, last: count };
}
