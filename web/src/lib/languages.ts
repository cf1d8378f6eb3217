// The three query languages and where each is explored.
import { logsPath, metricsPath, tracesPath } from "./pivot";

export type Language = "promql" | "logql" | "traceql";

export const explorePath = (language: Language, query: string): string =>
  language === "promql" ? metricsPath(query) : language === "logql" ? logsPath(query) : tracesPath(spansOf(query));

const METRIC_STAGE = /\|\s*(rate|count_over_time|min_over_time|max_over_time|avg_over_time|sum_over_time|quantile_over_time|histogram_over_time|compare)\s*\(/;

export const isTraceMetric = (query: string): boolean => METRIC_STAGE.test(query);

/** A span selection can be drawn too: as spans per second. */
export const asTraceMetric = (query: string): string => (isTraceMetric(query) ? query : `${query.trim() || "{}"} | rate()`);

/** The spans behind a metric over spans. */
export function spansOf(query: string): string {
  const stage = METRIC_STAGE.exec(query);
  return stage ? query.slice(0, stage.index).trim() : query;
}
