// The time range of the page: `from`, `to` and `refresh` in the URL, and a clock that moves it.
import { useMemo, useSyncExternalStore } from "react";
import { isRelative, type Range, resolveRange } from "./time";
import { setParams, usePlace } from "./url";

/** A range that ends at `now` moves this often. */
export const REFRESH_MS = 5000;

// One ticking clock for all, so that charts of one page share their range and the server its work.
let tick = Math.floor(Date.now() / 1000) * 1000;
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function advance(): void {
  if (document.hidden) return;
  tick = Math.floor(Date.now() / 1000) * 1000;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(advance, REFRESH_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** The moment a paused page stands at. */
let frozen = tick;

/** Asks for fresh data at once, also on a paused page. */
export const refreshNow = (): void => {
  tick = Date.now();
  frozen = tick;
  for (const listener of listeners) listener();
};

/** Milliseconds, moving every five seconds while `live`. */
export function useNow(live = true): number {
  return useSyncExternalStore(subscribe, () => (live ? tick : frozen));
}

export interface TimeRange extends Range {
  rawFrom: string;
  rawTo: string;
  /** Moves by itself. */
  live: boolean;
}

export const DEFAULT_FROM = "now-15m";

export function useRange(): TimeRange {
  const { query } = usePlace();
  const rawFrom = query.get("from") ?? DEFAULT_FROM;
  const rawTo = query.get("to") ?? "now";
  const live = isRelative(rawTo) && query.get("refresh") !== "off";
  const now = useNow(live);
  return useMemo(() => ({ ...resolveRange(rawFrom, rawTo, now), rawFrom, rawTo, live }), [rawFrom, rawTo, now, live]);
}

export function setRange(from: string | number, to: string | number): void {
  setParams({ from: String(from), to: String(to) === "now" ? undefined : String(to) });
}

/** The range at this moment, for what is asked outside of rendering. */
export function currentRange(): Range {
  const query = new URLSearchParams(window.location.search);
  return resolveRange(query.get("from") ?? DEFAULT_FROM, query.get("to") ?? "now", Date.now());
}
