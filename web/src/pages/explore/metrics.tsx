// Explore metrics: one or several PromQL queries, a chart, a table, and the way on to logs and traces.
import { Button, SegmentedControl } from "@mantine/core";
import { lazy, Suspense, useEffect, useMemo, useState } from "react";
import { legendNames, type Series, seriesName, usePromRanges } from "../../api/prom";
import { useEntity } from "../../api/weir";
import { parseEntity } from "../../lib/entity";
import { setRange, useRange } from "../../lib/range";
import { moment, stepFor } from "../../lib/time";
import { navigate, useParam, usePlace } from "../../lib/url";
import { Chart } from "../../ui/chart";
import { Panel } from "../../ui/panel";
import { Empty, Failed, Load, Waiting } from "../../ui/state";
import { promql } from "../../editor/promql";
import { MetricNames } from "./metric-names";
import { Pivots } from "./pivots";
import { SeriesTable } from "./series-table";

const Editor = lazy(() => import("../../editor/editor"));

export default function Metrics() {
  const { query } = usePlace();
  const of = query.get("entity");
  return of && !query.has("q") ? <OfEntity id={of} /> : <Explorer />;
}

/** Coming from an entity: its golden signals become the queries. */
function OfEntity({ id }: { id: string }) {
  const { kind, name } = parseEntity(id);
  const entity = useEntity(kind, name);
  const queries = entity.data && (entity.data.golden.length > 0 ? entity.data.golden.slice(0, 4).map((one) => one.query) : [entity.data.selectors.metrics].filter(Boolean));
  useEffect(() => {
    if (queries && queries.length > 0) setQueries(queries, true);
  }, [entity.data]);
  return (
    <Load of={entity} what={`the metrics of ${name}`}>
      {() => (queries?.length === 0 ? <Empty title={`No metric is about ${name}`}>Its logs and traces may tell more.</Empty> : <Waiting what={`the metrics of ${name}`} />)}
    </Load>
  );
}

function Explorer() {
  const { query } = usePlace();
  const found = query.getAll("q");
  const queries = found.length > 0 ? found : [""];
  const range = useRange();
  const step = stepFor(range, 200);
  const answers = usePromRanges(queries, range, step);
  const [view, setView] = useParam("view", "lines");
  const [picked, setPicked] = useState<{ at: number; series: Series }>();

  const all = useMemo(() => answers.flatMap((one) => one.data?.series ?? []), [answers.map((one) => one.dataUpdatedAt).join()]);
  const drawn = useMemo(() => {
    const names = legendNames(all.slice(0, LIMIT));
    return all.slice(0, LIMIT).map((one, i) => ({ ...one, name: names[i] ?? seriesName(one.labels) }));
  }, [all]);
  const asked = queries.some((one) => one.trim() !== "");
  const waiting = asked && answers.some((one) => one.isPending && one.fetchStatus !== "idle");
  const notes = [...new Set(answers.flatMap((one) => one.data?.notes ?? []))];

  return (
    <div className="page explore">
      <Panel>
        {queries.map((one, i) => (
          <div className="query-row" key={`${i}`}>
            <span className="query-letter">{String.fromCharCode(65 + i)}</span>
            <Suspense fallback={<div className="editor loading">{one}</div>}>
              <Editor
                value={one}
                language={promql}
                label={`PromQL query ${String.fromCharCode(65 + i)}`}
                hint="a PromQL expression, e.g. sum by (job) (rate(up[5m])); Enter runs it"
                onRun={(text) => setQueries(replaceAt(queries, i, text))}
              />
            </Suspense>
            {queries.length > 1 && (
              <Button size="compact-sm" variant="subtle" color="gray" onClick={() => setQueries(queries.filter((_, at) => at !== i))} aria-label="Remove this query">
                ✕
              </Button>
            )}
            {answers[i]?.error != null && <Failed what={`query ${String.fromCharCode(65 + i)}`} error={answers[i]?.error} />}
          </div>
        ))}
        <div className="query-tools">
          <MetricNames onPick={(text) => setQueries(replaceAt(queries, queries.length - 1, text))} />
          {asked && (
            <Button size="compact-sm" variant="default" onClick={() => setQueries([...queries, ""])}>
              Add a query
            </Button>
          )}
          <span className="grow" />
          {asked && <span className="quiet">{all.length} series · a point every {step} s</span>}
          <SegmentedControl size="xs" value={view} onChange={setView} data={[{ value: "lines", label: "Lines" }, { value: "bars", label: "Bars" }]} />
        </div>
        {notes.map((note) => (
          <div className="note" key={note}>
            {note}
          </div>
        ))}
      </Panel>
      {!asked && <Empty title="Ask for a metric">Type an expression above, or choose a metric name. Everything that arrives can be asked for at once.</Empty>}
      {waiting && all.length === 0 && <Waiting what="the series" />}
      {asked && !waiting && all.length === 0 && !answers.some((one) => one.error) && (
        <Empty title="No series match in this range">Check the label values, or take a longer range. rate() needs at least two samples in its window.</Empty>
      )}
      {drawn.length > 0 && (
        <Panel>
          {all.length > LIMIT && <div className="note">{all.length} series: the first {LIMIT} are drawn, the table has all. Aggregate with sum by (…) or topk.</div>}
          <Chart
            series={drawn}
            range={range}
            height={300}
            bars={view === "bars"}
            legend={drawn.length <= 40}
            onZoom={({ from, to }) => setRange(from, to)}
            onPick={(at, index) => {
              const series = index === undefined ? undefined : drawn[index];
              setPicked(series ? { at, series } : undefined);
            }}
          />
          {picked ? (
            <Pivots labels={picked.series.labels} at={picked.at} range={range} title={`${seriesName(picked.series.labels)} at ${moment(picked.at, Date.now())}`} close={() => setPicked(undefined)} />
          ) : (
            <div className="hint">Click a point for its logs and traces; drag to zoom.</div>
          )}
        </Panel>
      )}
      {all.length > 0 && <SeriesTable series={all} range={range} />}
    </div>
  );
}

const LIMIT = 60;

const replaceAt = (list: string[], at: number, text: string) => list.map((one, i) => (i === at ? text : one));

function setQueries(queries: string[], replace = false): void {
  const url = new URLSearchParams(window.location.search);
  url.delete("q");
  url.delete("entity");
  const kept = queries.length === 1 ? queries.filter((one) => one.trim() !== "") : queries;
  for (const one of kept) url.append("q", one.trim());
  const text = url.toString();
  navigate(text ? `${window.location.pathname}?${text}` : window.location.pathname, { replace });
}
