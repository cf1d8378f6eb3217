// Throughput and latency of each service over the range, and of the whole way where it is measured.
import { useMemo } from "react";
import { usePromInstant } from "../../api/prom";
import { useServiceSeries } from "../../api/slices";
import type { ChartSeries } from "../../lib/align";
import { entityPath } from "../../lib/entity";
import { setRange, type TimeRange } from "../../lib/range";
import { navigate, pageUrl } from "../../lib/url";
import { Chart } from "../../ui/chart";
import { Panel } from "../../ui/panel";
import { QueryChart } from "../../ui/query-chart";
import { Empty, Failed, Waiting } from "../../ui/state";

/** The histogram that pipelines name their whole way by, from event time to delivery. */
const END_TO_END = "stream_end_to_end_latency_seconds";

export function LiveCharts({ range }: { range: TimeRange }) {
  const { rate, p99, waiting, error } = useServiceSeries(range);
  const measured = usePromInstant(`count(${END_TO_END}_count)`, range.to);
  return (
    <div className="live">
      <ServiceChart title="Throughput by service" series={rate} unit="/s" range={range} waiting={waiting} error={error} />
      <ServiceChart title="Latency by service, 99th percentile" series={p99} unit="s" range={range} waiting={waiting} error={error} />
      {(measured.data?.length ?? 0) > 0 && (
        <Panel className="wide">
          <QueryChart
            language="promql"
            title="From event to delivery, 99th percentile"
            query={`histogram_quantile(0.99, sum by (le) (rate(${END_TO_END}_bucket[30s])))`}
            unit="s"
            range={range}
          />
        </Panel>
      )}
    </div>
  );
}

function ServiceChart(props: { title: string; series: ChartSeries[]; unit: string; range: TimeRange; waiting: boolean; error: unknown }) {
  const { title, series, unit, range, waiting, error } = props;
  const drawn = useMemo(() => series.filter((one) => one.values.some((value) => value !== null)), [series]);
  return (
    <Panel title={title}>
      {drawn.length > 0 ? (
        <Chart
          series={drawn}
          range={range}
          unit={unit}
          onZoom={({ from, to }) => setRange(from, to)}
          onPick={(_, index) => {
            const name = index === undefined ? undefined : drawn[index]?.name;
            if (name) navigate(pageUrl(entityPath({ kind: "service", name })));
          }}
        />
      ) : error ? (
        <Failed what={title.toLowerCase()} error={error} />
      ) : waiting ? (
        <Waiting what={title.toLowerCase()} />
      ) : (
        <Empty title="No spans in this range" />
      )}
    </Panel>
  );
}
