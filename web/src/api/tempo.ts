// The Tempo API: traces by id, search, and metrics over spans.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { alignToStep, type Range } from "../lib/time";
import { currentTenant, get, seconds } from "./client";

export interface AnyValue {
  stringValue?: string;
  intValue?: string | number;
  doubleValue?: number;
  boolValue?: boolean;
  bytesValue?: string;
  arrayValue?: { values?: AnyValue[] };
  kvlistValue?: { values?: KeyValue[] };
}

export interface KeyValue {
  key: string;
  value?: AnyValue;
}

export function valueText(value: AnyValue | undefined): string {
  if (!value) return "";
  if (value.stringValue !== undefined) return value.stringValue;
  if (value.intValue !== undefined) return String(value.intValue);
  if (value.doubleValue !== undefined) return String(value.doubleValue);
  if (value.boolValue !== undefined) return String(value.boolValue);
  if (value.arrayValue) return `[${(value.arrayValue.values ?? []).map(valueText).join(", ")}]`;
  if (value.kvlistValue) return `{${(value.kvlistValue.values ?? []).map((one) => `${one.key}: ${valueText(one.value)}`).join(", ")}}`;
  return value.bytesValue ?? "";
}

export const attributeMap = (list: KeyValue[] | undefined): Record<string, string> =>
  Object.fromEntries((list ?? []).map(({ key, value }) => [key, valueText(value)]));

export interface FoundSpan {
  spanID: string;
  name?: string;
  startTimeUnixNano: string;
  durationNanos: string;
  attributes?: KeyValue[];
}

export interface FoundTrace {
  traceID: string;
  rootServiceName?: string;
  rootTraceName?: string;
  startTimeUnixNano: string;
  durationMs?: number;
  spanSets?: { spans: FoundSpan[]; matched: number }[];
  serviceStats?: Record<string, { spanCount?: number; errorCount?: number }>;
}

export const useTraceSearch = (q: string, range: Range, limit: number, enabled = true) =>
  useQuery({
    queryKey: ["tempo", "search", currentTenant(), q, range.from, range.to, limit],
    queryFn: async ({ signal }) =>
      (
        await get<{ traces?: FoundTrace[] }>(
          "/api/search",
          { q: q.trim() || "{}", start: Math.floor(range.from / 1000), end: Math.ceil(range.to / 1000), limit, spss: 3 },
          { signal },
        )
      ).traces ?? [],
    placeholderData: keepPreviousData,
    enabled,
  });

export interface TraceSeries {
  name: string;
  labels: Record<string, string>;
  times: number[];
  values: number[];
}

interface RawSeries {
  labels?: KeyValue[];
  samples?: { timestampMs: string; value?: number | string }[];
}

export async function traceMetrics(q: string, range: Range, step: number, signal?: AbortSignal): Promise<TraceSeries[]> {
  const { from, to } = alignToStep(range, step);
  const answer = await get<{ series?: RawSeries[] }>(
    "/api/metrics/query_range",
    { q, start: seconds(from), end: seconds(to), step: `${step}s` },
    { signal },
  );
  return (answer.series ?? []).map((one) => {
    const labels = attributeMap(one.labels);
    return {
      name: Object.values(labels).join(" · ") || "value",
      labels,
      times: (one.samples ?? []).map((sample) => Number(sample.timestampMs) / 1000),
      values: (one.samples ?? []).map((sample) => Number(sample.value ?? 0)),
    };
  });
}

export const useTraceMetrics = (q: string, range: Range, step: number, enabled = true) =>
  useQuery({
    queryKey: ["tempo", "metrics", currentTenant(), q, range.from, range.to, step],
    queryFn: ({ signal }) => traceMetrics(q, range, step, signal),
    placeholderData: keepPreviousData,
    enabled,
  });

interface TagScopes {
  scopes?: { name: string; tags?: string[] }[];
}

/** Attribute names as TraceQL writes them, with their scope. */
export async function tagNames(range: Range): Promise<string[]> {
  const { scopes } = await get<TagScopes>("/api/v2/search/tags", unixSeconds(range));
  return (scopes ?? []).flatMap(({ name, tags }) => (tags ?? []).map((tag) => (name === "intrinsic" || name === "none" ? tag : `${name}.${tag}`)));
}

export async function tagValues(attribute: string, range: Range, q?: string): Promise<{ type: string; value: string }[]> {
  const answer = await get<{ tagValues?: { type: string; value: string }[] }>(
    `/api/v2/search/tag/${encodeURIComponent(attribute)}/values`,
    { ...unixSeconds(range), q },
  );
  return answer.tagValues ?? [];
}

const unixSeconds = (range: Range) => ({ start: Math.floor(range.from / 1000), end: Math.ceil(range.to / 1000) });
