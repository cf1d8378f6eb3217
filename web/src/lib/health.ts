// One rule for "is this red?", shared by the map, the lists and the entity pages.

export type Health = "ok" | "warn" | "bad" | "idle";

export interface Vitals {
  rate: number;
  error_ratio: number;
  firing?: number;
  pending?: number;
  lag_seconds?: number;
}

/** Errors above 5 % or a minute behind are red even before a rule says so; 1 % and 10 s are a warning. */
export function health(v: Vitals): Health {
  if ((v.firing ?? 0) > 0 || v.error_ratio > 0.05 || (v.lag_seconds ?? 0) > 60) return "bad";
  if ((v.pending ?? 0) > 0 || v.error_ratio > 0.01 || (v.lag_seconds ?? 0) > 10) return "warn";
  return v.rate > 0 ? "ok" : "idle";
}

export const worse = (a: Health, b: Health): Health => (RANK[a] >= RANK[b] ? a : b);

const RANK: Record<Health, number> = { idle: 0, ok: 1, warn: 2, bad: 3 };
