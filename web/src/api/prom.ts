// The Prometheus query API, reduced to what charts and tables need.
import { keepPreviousData, useQueries, useQuery } from "@tanstack/react-query";
import { alignToStep, type Range } from "../lib/time";
import { currentTenant, get, seconds } from "./client";

export type Labels = Record<string, string>;

export interface Series {
  labels: Labels;
  /** Unix seconds, ascending. */
  times: number[];
  values: number[];
}

export interface Sample {
  labels: Labels;
  value: number;
}

interface Answer<T> {
  status: string;
  data: T;
  warnings?: string[];
  infos?: string[];
}

type Point = [number, string];
interface RawData {
  resultType: "matrix" | "vector" | "scalar" | "string";
  result: unknown;
}

export interface RangeResult {
  series: Series[];
  notes: string[];
}

export async function queryRange(query: string, range: Range, step: number, signal?: AbortSignal): Promise<RangeResult> {
  const { from, to } = alignToStep(range, step);
  const answer = await get<Answer<RawData>>(
    "/api/v1/query_range",
    { query, start: seconds(from), end: seconds(to), step },
    { signal },
  );
  return { series: matrix(answer.data), notes: [...(answer.warnings ?? []), ...(answer.infos ?? [])] };
}

export function matrix(data: RawData): Series[] {
  if (data.resultType !== "matrix") return [];
  return (data.result as { metric: Labels; values: Point[] }[]).map(({ metric, values }) => ({
    labels: metric,
    times: values.map(([t]) => t),
    values: values.map(([, v]) => Number(promNumber(v))),
  }));
}

/** `+Inf` and `-Inf` as JavaScript spells them. */
const promNumber = (text: string): string => text.replace(/^([+-]?)Inf$/, "$1Infinity");

export async function queryInstant(query: string, at: number, signal?: AbortSignal): Promise<Sample[]> {
  const answer = await get<Answer<RawData>>("/api/v1/query", { query, time: seconds(at) }, { signal });
  const { resultType, result } = answer.data;
  if (resultType === "vector") {
    return (result as { metric: Labels; value: Point }[]).map(({ metric, value }) => ({
      labels: metric,
      value: Number(promNumber(value[1])),
    }));
  }
  if (resultType === "scalar") return [{ labels: {}, value: Number(promNumber((result as Point)[1])) }];
  return [];
}

const rangeOptions = (query: string, range: Range, step: number) => ({
  queryKey: ["prom", "range", currentTenant(), query, range.from, range.to, step],
  queryFn: ({ signal }: { signal: AbortSignal }) => queryRange(query, range, step, signal),
  placeholderData: keepPreviousData,
  enabled: query.trim() !== "",
});

export const usePromRange = (query: string, range: Range, step: number) => useQuery(rangeOptions(query, range, step));

export const usePromRanges = (queries: string[], range: Range, step: number) =>
  useQueries({ queries: queries.map((query) => rangeOptions(query, range, step)) });

export const usePromInstant = (query: string, at: number) =>
  useQuery({
    queryKey: ["prom", "instant", currentTenant(), query, at],
    queryFn: ({ signal }) => queryInstant(query, at, signal),
    placeholderData: keepPreviousData,
    enabled: query.trim() !== "",
  });

/** `name{a="b"}` as PromQL writes it; the name may be left out. */
export function seriesName(labels: Labels): string {
  const { __name__: name = "", ...rest } = labels;
  const inner = Object.entries(rest).map(([key, value]) => `${key}="${value}"`);
  return inner.length ? `${name}{${inner.join(", ")}}` : name || "{}";
}

/** Short names for a legend: only the labels in which the series differ. */
export function legendNames(series: { labels: Labels }[]): string[] {
  if (series.length === 0) return [];
  const keys = [...new Set(series.flatMap((one) => Object.keys(one.labels)))];
  const telling = keys.filter((key) => new Set(series.map((one) => one.labels[key] ?? "")).size > 1);
  if (telling.length === 0) return series.map((one) => shortName(one.labels));
  return series.map((one) => telling.map((key) => one.labels[key] ?? "–").join(" · "));
}

function shortName(labels: Labels): string {
  const { __name__: name, ...rest } = labels;
  const values = Object.values(rest);
  if (values.length > 0 && values.length <= 2) return values.join(" · ");
  return name ?? (values.length ? seriesName(rest) : "value");
}

export interface RuleAlert {
  labels: Labels;
  annotations: Labels;
  state: string;
  activeAt: string;
  value: string;
}

export interface Rule {
  name: string;
  query: string;
  duration?: number;
  labels: Labels;
  annotations?: Labels;
  alerts?: RuleAlert[];
  health: string;
  lastError?: string;
  state?: string;
  type: "alerting" | "recording";
  evaluationTime?: number;
  lastEvaluation?: string;
}

export interface RuleGroup {
  name: string;
  file: string;
  interval: number;
  language?: "promql" | "logql" | "traceql";
  rules: Rule[];
}

export const useRules = () =>
  useQuery({
    queryKey: ["prom", "rules", currentTenant()],
    queryFn: async ({ signal }) =>
      (await get<Answer<{ groups: RuleGroup[] }>>("/api/v1/rules", {}, { signal })).data.groups ?? [],
    refetchInterval: 5000,
  });

export interface Target {
  scrapePool: string;
  scrapeUrl: string;
  labels: Labels;
  health: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
}

export const useTargets = () =>
  useQuery({
    queryKey: ["prom", "targets", currentTenant()],
    queryFn: async ({ signal }) =>
      (await get<Answer<{ activeTargets: Target[] }>>("/api/v1/targets", { state: "active" }, { signal })).data
        .activeTargets ?? [],
    refetchInterval: 5000,
  });
