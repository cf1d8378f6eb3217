// What operations of a trace cost, and how that differs from another trace or from what is usual.
import { criticalPath, operationOf, type Piece } from "./critical";
import type { Trace } from "./trace";

export interface Cost {
  service: string;
  name: string;
  calls: number;
  errors: number;
  /** Nanoseconds, of all calls together. */
  self: number;
  /** Of it, what was on the critical path. */
  critical: number;
  /** Time in the broker before these spans, on the critical path. */
  queue: number;
}

export interface Profile {
  duration: number;
  spans: number;
  costs: Map<string, Cost>;
}

export function profileOf(trace: Trace, path: Piece[] = criticalPath(trace)): Profile {
  const costs = new Map<string, Cost>();
  const of = (span: { service: string; name: string }): Cost => {
    const key = operationOf(span);
    let cost = costs.get(key);
    if (!cost) costs.set(key, (cost = { service: span.service, name: span.name, calls: 0, errors: 0, self: 0, critical: 0, queue: 0 }));
    return cost;
  };
  for (const span of trace.spans) {
    const cost = of(span);
    cost.calls += 1;
    cost.self += span.self;
    if (span.error) cost.errors += 1;
  }
  for (const { from, to, kind, span } of path) {
    if (kind === "own") of(span).critical += to - from;
    else if (kind === "queue") of(span).queue += to - from;
  }
  return { duration: trace.duration, spans: trace.spans.length, costs };
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const high = sorted[Math.floor(middle)] ?? 0;
  return Number.isInteger(middle) ? ((sorted[middle - 1] ?? high) + high) / 2 : high;
}

const FIGURES = ["calls", "errors", "self", "critical", "queue"] as const;

/** Of each operation and figure the median over traces; a trace without the operation counts as 0. */
export function usualOf(profiles: Profile[]): Profile {
  const costs = new Map<string, Cost>();
  for (const profile of profiles) {
    for (const [key, cost] of profile.costs) {
      if (costs.has(key)) continue;
      const own: Cost = { ...cost };
      for (const figure of FIGURES) own[figure] = median(profiles.map((one) => one.costs.get(key)?.[figure] ?? 0));
      costs.set(key, own);
    }
  }
  return { duration: median(profiles.map((one) => one.duration)), spans: median(profiles.map((one) => one.spans)), costs };
}

export interface Difference {
  service: string;
  name: string;
  here?: Cost;
  there?: Cost;
  /** Nanoseconds that the operation itself took more here. */
  more: number;
}

/** Operations of both, those that differ most first. */
export function differences(here: Profile, there: Profile): Difference[] {
  const keys = new Set([...here.costs.keys(), ...there.costs.keys()]);
  const rows = [...keys].map((key): Difference => {
    const [a, b] = [here.costs.get(key), there.costs.get(key)];
    const { service, name } = a ?? b ?? { service: "", name: "" };
    return { service, name, here: a, there: b, more: (a?.self ?? 0) + (a?.queue ?? 0) - (b?.self ?? 0) - (b?.queue ?? 0) };
  });
  return rows.sort((a, b) => Math.abs(b.more) - Math.abs(a.more) || a.service.localeCompare(b.service) || a.name.localeCompare(b.name));
}
