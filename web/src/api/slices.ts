// The map asked slice by slice: a cheap series of rate and latency per service, for any pipeline.
import { useQueries } from "@tanstack/react-query";
import { useMemo } from "react";
import type { ChartSeries } from "../lib/align";
import type { Range } from "../lib/time";
import { currentTenant, get, seconds } from "./client";
import type { PipelineMap } from "./types";

/** The server counts edges in windows of ten seconds. */
const WINDOW_MS = 10_000;
const SLICES = 30;

/** Whole slices of the range; finished ones never change and are asked for once. */
export function slices(range: Range): Range[] {
  const length = Math.max(WINDOW_MS, Math.ceil((range.to - range.from) / SLICES / WINDOW_MS) * WINDOW_MS);
  const first = Math.ceil(range.from / length) * length;
  const list: Range[] = [];
  for (let from = first; from + length <= range.to; from += length) list.push({ from, to: from + length });
  return list;
}

export interface ServiceSeries {
  rate: ChartSeries[];
  p99: ChartSeries[];
  waiting: boolean;
  error: unknown;
}

export function useServiceSeries(range: Range): ServiceSeries {
  const list = slices(range);
  const answers = useQueries({
    queries: list.map(({ from, to }) => ({
      queryKey: ["weir", currentTenant(), "slice", from, to],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        get<PipelineMap>("/api/weir/v1/map", { start: seconds(from), end: seconds(to) }, { signal }),
      staleTime: Number.POSITIVE_INFINITY,
      gcTime: 60_000,
    })),
  });
  const stamp = answers.map((one) => one.dataUpdatedAt).join();
  const series = useMemo(() => collect(list, answers.map((one) => one.data)), [stamp, list[0]?.from]);
  return { ...series, waiting: answers.some((one) => one.isPending), error: answers.find((one) => one.error)?.error };
}

function collect(list: Range[], maps: (PipelineMap | undefined)[]): { rate: ChartSeries[]; p99: ChartSeries[] } {
  const rate = new Map<string, ChartSeries>();
  const p99 = new Map<string, ChartSeries>();
  const push = (into: Map<string, ChartSeries>, name: string, at: number, value: number | null) => {
    const one = into.get(name) ?? { name, times: [], values: [] };
    one.times.push(at);
    one.values.push(value);
    into.set(name, one);
  };
  maps.forEach((map, i) => {
    const at = (list[i]?.to ?? 0) / 1000;
    for (const node of map?.nodes ?? []) {
      if (node.kind !== "service") continue;
      push(rate, node.name, at, node.rate);
      push(p99, node.name, at, node.rate > 0 && node.p99_ms != null ? node.p99_ms / 1000 : null);
    }
  });
  const sorted = (from: Map<string, ChartSeries>) => [...from.values()].sort((a, b) => a.name.localeCompare(b.name));
  return { rate: sorted(rate), p99: sorted(p99) };
}
