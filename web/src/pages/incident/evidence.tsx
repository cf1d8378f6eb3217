import type { Evidence, Incident } from "../../api/types";
import { splitThreshold } from "../../lib/threshold";
import { parseIso, type Range } from "../../lib/time";
import type { Mark } from "../../ui/chart";
import { Panel } from "../../ui/panel";
import { QueryChart } from "../../ui/query-chart";
import { plainWords } from "../../ui/words";

/** The charts that show the cause, with the threshold and the moments that matter drawn in. */
export function EvidenceCharts({ of, window }: { of: Incident; window: Range }) {
  const charts = chartsOf(of);
  if (charts.length === 0) return null;
  const marks = marksOf(of);
  return (
    <Panel title="Evidence">
      <div className="charts">
        {charts.map((one) => (
          <QueryChart
            key={one.chart?.query}
            language={one.chart?.language ?? "promql"}
            query={one.chart?.query ?? ""}
            title={plainWords(one.text)}
            unit={one.chart?.unit ?? one.unit}
            threshold={one.chart?.threshold}
            range={window}
            marks={marks}
            onZoom={() => {}}
          />
        ))}
      </div>
    </Panel>
  );
}

/** The first cause's charts; without one, what the alerts themselves watch. At most four. */
function chartsOf(of: Incident): Evidence[] {
  const seen = new Set<string>();
  const own = (of.causes[0]?.evidence ?? []).filter((one) => {
    if (!one.chart || seen.has(one.chart.query)) return false;
    seen.add(one.chart.query);
    return true;
  });
  const alerts = of.alerts.map((alert): Evidence => {
    const { query, threshold } = splitThreshold(alert.expr);
    return {
      text: alert.labels.alertname ?? "alert",
      signal: "metrics",
      unit: alert.annotations.unit,
      chart: { language: "promql", query, threshold },
      links: [],
    };
  });
  for (const alert of alerts) {
    if (own.length >= 4 || !alert.chart?.query || seen.has(alert.chart.query)) continue;
    seen.add(alert.chart.query);
    own.push(alert);
  }
  return own.slice(0, 4);
}

function marksOf(of: Incident): Mark[] {
  const marks: Mark[] = [];
  const add = (text: string | undefined, label: string, tone: Mark["tone"]) => {
    const at = parseIso(text);
    if (at !== undefined) marks.push({ at, label, tone });
  };
  for (const change of of.changes.slice(0, 3)) add(change.at, change.to ? `${change.entity.name} ${change.to}` : change.title, "info");
  add(of.since, "began", "warn");
  add(of.fired_at, "fired", "bad");
  add(of.resolved_at, "resolved", "info");
  return marks;
}
