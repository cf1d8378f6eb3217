// Objectives out of recording rules: `slo:error_budget_remaining:ratio` and `slo:burn_rate:ratio1h`, by label `slo`.
import { parseDuration } from "./time";

export interface Objective {
  name: string;
  /** 1 is untouched, 0 is spent, below 0 is overspent. */
  remaining?: number;
  /** Speed of spending by window, shortest first; 1 spends exactly the budget. */
  burn: { window: string; rate: number }[];
}

export const toneOfBudget = (left: number | undefined): "idle" | "bad" | "warn" | "ok" =>
  left === undefined ? "idle" : left < 0.1 ? "bad" : left < 0.4 ? "warn" : "ok";

export function objectives(samples: { labels: Record<string, string>; value: number }[]): Objective[] {
  const found = new Map<string, Objective>();
  for (const { labels, value } of samples) {
    const metric = labels.__name__ ?? "";
    const name = labels.slo ?? labels.objective ?? labels.sloth_slo;
    if (!name || !Number.isFinite(value)) continue;
    const one = found.get(name) ?? { name, burn: [] };
    if (metric.startsWith("slo:error_budget_remaining")) one.remaining = value;
    const burn = /^slo:burn_rate:(?:ratio_?)?(?:rate)?(\w+)$/.exec(metric);
    if (burn?.[1] && parseDuration(burn[1]) !== undefined) one.burn.push({ window: burn[1], rate: value });
    found.set(name, one);
  }
  const list = [...found.values()].filter((one) => one.remaining !== undefined || one.burn.length > 0);
  for (const one of list) one.burn.sort((a, b) => (parseDuration(a.window) ?? 0) - (parseDuration(b.window) ?? 0));
  return list.sort((a, b) => a.name.localeCompare(b.name));
}
