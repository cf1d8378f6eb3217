// Throughput and latency of each service, counted from its spans.
import { useMemo } from "react";
import { useTraceMetrics } from "../../api/tempo";
import type { TimeRange } from "../../lib/range";
import { setRange } from "../../lib/range";
import { stepFor } from "../../lib/time";
import { navigate, pageUrl } from "../../lib/url";
import { Chart } from "../../ui/chart";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

const THROUGHPUT = "{ kind = server || kind = consumer || kind = producer } | rate() by (resource.service.name)";
const LATENCY = "{ kind = server || kind = consumer || kind = producer } | quantile_over_time(duration, .99) by (resource.service.name)";

export function LiveCharts({ range }: { range: TimeRange }) {
  return (
    <div className="live">
      <TraceChart title="Throughput" query={THROUGHPUT} unit="/s" range={range} />
      <TraceChart title="Latency, 99th percentile" query={LATENCY} unit="s" range={range} />
    </div>
  );
}

function TraceChart(props: { title: string; query: string; unit: string; range: TimeRange }) {
  const { title, query, unit, range } = props;
  const step = Math.max(5, stepFor(range, 120));
  const answer = useTraceMetrics(query, range, step);
  const series = useMemo(
    () => (answer.data ?? []).map((one) => ({ ...one, name: one.labels["resource.service.name"] ?? one.name })),
    [answer.data],
  );
  return (
    <Panel title={title} aside={<span className="quiet">by service</span>}>
      <Load of={answer} what={title.toLowerCase()}>
        {() =>
          series.length === 0 ? (
            <Empty title="No spans in this range" />
          ) : (
            <Chart
              series={series}
              range={range}
              unit={unit}
              onZoom={({ from, to }) => setRange(from, to)}
              onPick={(_, index) => {
                const name = index === undefined ? undefined : series[index]?.name;
                if (name) navigate(pageUrl(`/entity/service/${encodeURIComponent(name)}`));
              }}
            />
          )
        }
      </Load>
    </Panel>
  );
}
