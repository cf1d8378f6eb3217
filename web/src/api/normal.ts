// What is usual for a trace: how long traces of the same root operation took before it, and what a few ordinary ones did.
import { useQuery } from "@tanstack/react-query";
import { quote } from "../lib/pivot";
import { buildTrace, type RawTrace, type Trace } from "../lib/trace";
import { profileOf, usualOf } from "../lib/trace-compare";
import type { Normal } from "../lib/why";
import { currentTenant, get, seconds } from "./client";
import { attributeMap, type FoundTrace, type KeyValue } from "./tempo";

/** Long enough that a trouble of an hour does not become the usual. */
const LOOK_BACK_MS = 6 * 3_600_000;
const QUANTILES = [0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/** Ordinary traces whose spans are read; fewer of large ones. */
const EXAMPLES = 12;
const EXAMPLES_OF_LARGE = 4;
const LARGE_SPANS = 2000;
/** With fewer, nothing is called usual. */
const EXAMPLES_LEAST = 3;

export interface Usual extends Normal {
  examples: { id: string; startMs: number; durationMs: number }[];
}

/** `null` when too few traces of the kind are stored to call anything usual. */
export function useUsual(id: string, trace: Trace) {
  const root = trace.root;
  return useQuery({
    queryKey: ["tempo", "usual", currentTenant(), id, root?.service, root?.name],
    queryFn: ({ signal }) => usual(id, trace, signal),
    enabled: root !== undefined && !root.orphan,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
  });
}

async function usual(id: string, trace: Trace, signal: AbortSignal): Promise<Usual | null> {
  const { root } = trace;
  if (!root) return null;
  const own = `rootServiceName = ${quote(root.service)} && rootName = ${quote(root.name)}`;
  const window = { start: seconds(trace.startMs - LOOK_BACK_MS), end: seconds(trace.startMs) };
  const [quantiles, count] = await Promise.all([
    instant(`{ ${own} && nestedSetParent < 0 } | quantile_over_time(traceDuration, ${QUANTILES.join(", ")})`, window, signal),
    instant(`{ ${own} && nestedSetParent < 0 } | count_over_time()`, window, signal),
  ]);
  const durations = QUANTILES.map((quantile) => ({ quantile, nanos: (quantiles.find(({ labels }) => Number(labels.p) === quantile)?.value ?? 0) * 1e9 }));
  const [low, high] = [durations.find((one) => one.quantile === 0.25)?.nanos ?? 0, durations.find((one) => one.quantile === 0.75)?.nanos ?? 0];
  // Quantiles come from buckets: a little to both sides, so that alike traces are found.
  const between = `traceDuration >= ${Math.floor(low * 0.9)}ns && traceDuration <= ${Math.ceil(high * 1.1)}ns`;
  const wanted = trace.spans.length > LARGE_SPANS ? EXAMPLES_OF_LARGE : EXAMPLES;
  const { traces = [] } = await get<{ traces?: FoundTrace[] }>(
    "/api/search",
    { q: `{ ${own} && ${between} && nestedSetParent < 0 }`, start: Math.floor((trace.startMs - LOOK_BACK_MS) / 1000), end: Math.ceil(trace.startMs / 1000), limit: wanted + 1, spss: 1 },
    { signal },
  );
  const others = traces.filter((one) => one.traceID.padStart(32, "0") !== id.toLowerCase().padStart(32, "0")).slice(0, wanted);
  if (others.length < EXAMPLES_LEAST) return null;
  const built = await Promise.all(others.map(({ traceID }) => read(traceID, signal)));
  return {
    profile: usualOf(built.map((one) => profileOf(one))),
    traces: built.length,
    count: Math.round(count[0]?.value ?? 0),
    quantiles: durations.filter(({ nanos }) => nanos > 0),
    examples: others.map(({ traceID, startTimeUnixNano, durationMs }) => ({ id: traceID, startMs: Number(BigInt(startTimeUnixNano) / 1_000_000n), durationMs: durationMs ?? 0 })),
  };
}

async function read(id: string, signal: AbortSignal): Promise<Trace> {
  const { trace } = await get<{ trace?: RawTrace }>(`/api/v2/traces/${encodeURIComponent(id)}`, {}, { signal });
  return buildTrace(trace ?? {});
}

interface Value {
  labels: Record<string, string>;
  value: number;
}

async function instant(q: string, window: { start: string; end: string }, signal: AbortSignal): Promise<Value[]> {
  const { series = [] } = await get<{ series?: { labels?: KeyValue[]; value?: number | string }[] }>("/api/metrics/query", { q, ...window }, { signal });
  return series.map(({ labels, value }) => ({ labels: attributeMap(labels), value: Number(value ?? 0) }));
}
