// A chart of one query in any of the three languages.
import { useMemo } from "react";
import { useLogSeries } from "../api/loki";
import { legendNames, usePromRange } from "../api/prom";
import { useTraceMetrics } from "../api/tempo";
import { setRange } from "../lib/range";
import { type Range, stepFor } from "../lib/time";
import { asTraceMetric, explorePath } from "../lib/languages";
import { Chart, type Mark } from "./chart";
import { A } from "./link";
import { Empty, Load } from "./state";

interface QueryChartProps {
  language: "promql" | "logql" | "traceql";
  query: string;
  range: Range;
  title?: string;
  unit?: string;
  threshold?: number;
  marks?: Mark[];
  height?: number;
  /** Dragging changes the page's range unless told otherwise. */
  onZoom?: (range: Range) => void;
  points?: number;
}

export function QueryChart(props: QueryChartProps) {
  const { language, query, range, title, unit, threshold, marks, height = 150 } = props;
  const step = Math.max(language === "promql" ? 1 : 2, stepFor(range, props.points ?? 140));
  const metrics = usePromRange(language === "promql" ? query : "", range, step);
  const logs = useLogSeries(language === "logql" ? query : "", range, step);
  const traces = useTraceMetrics(asTraceMetric(query), range, step, language === "traceql");
  const answer = language === "promql" ? metrics : language === "logql" ? logs : traces;
  const series = useMemo(() => {
    const found = language === "promql" ? metrics.data?.series : language === "logql" ? logs.data : traces.data;
    const first = (found ?? []).slice(0, 20);
    const names = legendNames(first);
    return first.map((one, i) => ({ times: one.times, values: one.values, name: names[i] ?? "" }));
  }, [language, metrics.data, logs.data, traces.data]);
  return (
    <figure className="query-chart">
      <figcaption>
        <b title={title}>{title}</b>
        <A to={explorePath(language, query)} params={{ from: Math.round(range.from), to: Math.round(range.to) }} className="quiet" title={query}>
          explore
        </A>
      </figcaption>
      <Load of={answer as { data: unknown; error: unknown; isPending: boolean }} what={title ?? "the chart"}>
        {() =>
          series.length === 0 ? (
            <Empty title="No data in this window" />
          ) : (
            <Chart
              series={series}
              range={range}
              unit={unit}
              threshold={threshold}
              marks={marks}
              height={height}
              legend={series.length > 1}
              onZoom={props.onZoom ?? (({ from, to }) => setRange(from, to))}
            />
          )
        }
      </Load>
    </figure>
  );
}
