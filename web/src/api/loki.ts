// The Loki API: lines with their labels kept apart by origin, counts over time, names and values.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { entryTime } from "../lib/logs";
import { alignToStep, type Range } from "../lib/time";
import { currentTenant, get } from "./client";
import type { Series } from "./prom";

export interface LogLine {
  /** Nanoseconds since 1970, as the server wrote them. */
  ns: string;
  /** Unix milliseconds. */
  at: number;
  line: string;
  stream: Record<string, string>;
  metadata: Record<string, string>;
  parsed: Record<string, string>;
}

export type RawEntry = [string, string, { structuredMetadata?: Record<string, string>; parsed?: Record<string, string> }?];

export interface RawStream {
  stream: Record<string, string>;
  values: RawEntry[];
}

interface Answer<T> {
  status: string;
  data: T;
}

interface QueryData {
  resultType: "streams" | "matrix" | "vector" | "scalar";
  result: unknown;
}

const CATEGORIZE = { "X-Loki-Response-Encoding-Flags": "categorize-labels" };

export const nanos = (ms: number): string => `${Math.round(ms)}000000`;

export const flatten = (streams: RawStream[]): LogLine[] =>
  streams.flatMap(({ stream, values }) =>
    values.map(([ns, line, extra]) => ({
      ns,
      at: entryTime(ns),
      line,
      stream,
      metadata: extra?.structuredMetadata ?? {},
      parsed: extra?.parsed ?? {},
    })),
  );

export type LogAnswer = { kind: "lines"; lines: LogLine[] } | { kind: "series"; series: Series[] };

/** Newest lines first, or series when the query counts. */
export async function queryLogs(query: string, range: Range, limit: number, step: number, signal?: AbortSignal): Promise<LogAnswer> {
  const answer = await get<Answer<QueryData>>(
    "/loki/api/v1/query_range",
    { query, start: nanos(range.from), end: nanos(range.to), limit, direction: "backward", step: `${step}s` },
    { signal, headers: CATEGORIZE },
  );
  const { resultType, result } = answer.data;
  if (resultType === "streams") {
    const lines = flatten(result as RawStream[]);
    lines.sort((a, b) => (a.ns.length - b.ns.length || (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0)) * -1);
    return { kind: "lines", lines };
  }
  const rows = result as { metric: Record<string, string>; values: [number, string][] }[];
  return {
    kind: "series",
    series: rows.map(({ metric, values }) => ({
      labels: metric,
      times: values.map(([t]) => t),
      values: values.map(([, v]) => Number(v)),
    })),
  };
}

export const useLogs = (query: string, range: Range, limit: number, step: number, enabled = true) =>
  useQuery({
    queryKey: ["loki", "range", currentTenant(), query, range.from, range.to, limit, step],
    queryFn: ({ signal }) => queryLogs(query, range, limit, step, signal),
    placeholderData: keepPreviousData,
    enabled: enabled && query.trim() !== "",
  });

/** Counts over whole steps: `query` must be a metric query. */
export const useLogSeries = (query: string, range: Range, step: number, enabled = true) =>
  useQuery({
    queryKey: ["loki", "series", currentTenant(), query, range.from, range.to, step],
    queryFn: async ({ signal }) => {
      const answer = await queryLogs(query, alignToStep(range, step), 1, step, signal);
      return answer.kind === "series" ? answer.series : [];
    },
    placeholderData: keepPreviousData,
    enabled: enabled && query.trim() !== "",
  });

const names = async (path: string, query: Record<string, string | undefined>) =>
  (await get<{ data?: string[] }>(path, query)).data ?? [];

export const labelNames = (range: Range) =>
  names("/loki/api/v1/labels", { start: nanos(range.from), end: nanos(range.to) });

export const labelValues = (label: string, selector: string | undefined, range: Range) =>
  names(`/loki/api/v1/label/${encodeURIComponent(label)}/values`, {
    start: nanos(range.from),
    end: nanos(range.to),
    query: selector,
  });

export interface DetectedField {
  label: string;
  type: string;
  cardinality: number;
  parsers: string[] | null;
}

export const detectedFields = async (query: string, range: Range): Promise<DetectedField[]> =>
  (await get<{ fields?: DetectedField[] | null }>("/loki/api/v1/detected_fields", { query, start: nanos(range.from), end: nanos(range.to) })).fields ?? [];
