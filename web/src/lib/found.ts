// What a search answer says about a trace.
import type { FoundTrace } from "../api/tempo";

export const startOf = (trace: FoundTrace): number => Number(trace.startTimeUnixNano.slice(0, -6) || "0");

export function spanCounts(trace: FoundTrace): { spans: number; errors: number; services: string[] } {
  const stats = Object.entries(trace.serviceStats ?? {});
  return {
    spans: stats.reduce((sum, [, one]) => sum + (one.spanCount ?? 0), 0),
    errors: stats.reduce((sum, [, one]) => sum + (one.errorCount ?? 0), 0),
    services: stats.map(([name]) => name),
  };
}
