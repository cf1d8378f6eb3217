// Explore logs: a LogQL query, its volume by level, the lines, and a live tail.
import { Button, Switch } from "@mantine/core";
import { lazy, Suspense, useMemo, useState } from "react";
import { type LogLine, useLogs, useLogSeries } from "../../api/loki";
import { legendNames } from "../../api/prom";
import { number } from "../../lib/format";
import { logql } from "../../editor/logql";
import { isMetricQuery, levelName, volumeQuery, withField } from "../../lib/logs";
import { levelColor } from "../../lib/palette";
import { setRange, useRange } from "../../lib/range";
import { stepFor } from "../../lib/time";
import { setParams, useParam } from "../../lib/url";
import { Chart } from "../../ui/chart";
import { Panel } from "../../ui/panel";
import { Empty, Failed, Load, Waiting } from "../../ui/state";
import { LogLines } from "./log-lines";
import { Streams } from "./streams";
import { useTail } from "./tail";

const Editor = lazy(() => import("../../editor/editor"));

const LIMIT = 1000;

export default function Logs() {
  const [query] = useParam("q");
  const [draft, setDraft] = useState(query);
  const [live, setLive] = useParam("live");
  const range = useRange();
  const tailing = live === "1" && query !== "" && !isMetricQuery(query);
  const step = stepFor(range, isMetricQuery(query) ? 180 : 80);
  const logs = useLogs(query, range, LIMIT, step, !tailing);
  const tail = useTail(query, tailing);
  const run = (text: string) => setParams({ q: text.trim() });
  return (
    <div className="page explore">
      <Panel>
        <div className="query-row">
          <Suspense fallback={<div className="editor loading">{query}</div>}>
            <Editor
              value={query}
              language={logql}
              label="LogQL query"
              hint={'a stream selector, e.g. {service_name="enricher"} |= "timeout" | json; Enter runs it'}
              onRun={run}
              onChange={setDraft}
            />
          </Suspense>
          <Button size="sm" onClick={() => run(draft)}>
            Run
          </Button>
        </div>
        <div className="query-tools">
          <Streams range={range} onPick={run} />
          <span className="grow" />
          {!isMetricQuery(query) && query !== "" && (
            <Switch size="xs" label="Live" checked={tailing} onChange={(event) => setLive(event.currentTarget.checked ? "1" : "")} />
          )}
        </div>
      </Panel>
      {query === "" && <Empty title="Choose a service or write a selector">Lines are found by their labels, then by their text: {'{service_name="…"} |= "words"'}.</Empty>}
      {query !== "" && !tailing && <Volume query={query} range={range} />}
      {tailing ? (
        <Panel title="Live" aside={<span className="quiet">{tail.state}</span>}>
          {tail.error && <Failed what="the live tail" error={new Error(tail.error)} />}
          {tail.dropped > 0 && <div className="note">{tail.dropped} lines came too fast and were left out.</div>}
          <LogLines lines={tail.lines} query={query} />
          {tail.lines.length === 0 && !tail.error && <Waiting what="new lines" />}
        </Panel>
      ) : (
        query !== "" && (
          <Load of={logs} what="the lines">
            {(answer) => (answer.kind === "lines" ? <Lines lines={answer.lines} query={query} /> : <Counted series={answer.series} range={range} />)}
          </Load>
        )
      )}
    </div>
  );
}

function Lines({ lines, query }: { lines: LogLine[]; query: string }) {
  if (lines.length === 0) return <Empty title="No line matches in this range">Take a longer range, or remove a filter from the query.</Empty>;
  const cut = lines.length >= LIMIT;
  return (
    <Panel title={`${lines.length} lines`} aside={<span className="quiet">newest first{cut ? `; older ones are cut at ${LIMIT}: drag over the volume to see them` : ""}</span>}>
      <LogLines lines={lines} query={query} />
    </Panel>
  );
}

function Counted({ series, range }: { series: { labels: Record<string, string>; times: number[]; values: number[] }[]; range: { from: number; to: number } }) {
  const drawn = useMemo(() => {
    const names = legendNames(series);
    return series.slice(0, 40).map((one, i) => ({ ...one, name: names[i] ?? "" }));
  }, [series]);
  if (drawn.length === 0) return <Empty title="Nothing to count in this range" />;
  return (
    <Panel title={`${series.length} series`}>
      <Chart series={drawn} range={range} height={300} onZoom={({ from, to }) => setRange(from, to)} />
    </Panel>
  );
}

/** Lines per step, by level. A failure here says so in one line and leaves the lines alone. */
function Volume({ query, range }: { query: string; range: { from: number; to: number } }) {
  const step = stepFor(range, 80);
  const answer = useLogSeries(volumeQuery(query, step), range, step);
  const series = useMemo(() => {
    const found = (answer.data ?? []).map((one) => {
      const level = levelName(one.labels.detected_level ?? one.labels.level ?? "");
      return { times: one.times, values: one.values, name: level, color: levelColor(level) };
    });
    return stack(found.sort((a, b) => LEVEL_ORDER.indexOf(a.name) - LEVEL_ORDER.indexOf(b.name)));
  }, [answer.data]);
  if (isMetricQuery(query)) return null;
  if (answer.error) return <div className="note">The volume could not be counted: {answer.error instanceof Error ? answer.error.message : ""}</div>;
  if (series.length === 0) return null;
  return (
    <Panel className="volume">
      <Chart series={series} range={range} height={110} bars legend={false} onZoom={({ from, to }) => setRange(from, to)} />
      <div className="legend">
        {series.map((one) => (
          <button type="button" key={one.name} onClick={() => setParams({ q: withField(query, "detected_level", one.name) })} title={`only ${one.name}`}>
            <i style={{ background: one.color }} />
            <span>{one.name}</span>
            <b>{number(one.own.reduce((sum, n) => sum + n, 0))}</b>
          </button>
        ))}
      </div>
    </Panel>
  );
}

const LEVEL_ORDER = ["trace", "debug", "unknown", "info", "warn", "error", "critical", "fatal"];

interface Bars {
  name: string;
  color: string;
  times: number[];
  values: number[];
}

/** Bars on top of one another: each series is drawn as the sum of itself and those below, the highest first. */
function stack(series: Bars[]): (Bars & { own: number[] })[] {
  const sums = new Map<number, number>();
  const stacked = series.map((one) => ({
    ...one,
    own: one.values,
    values: one.times.map((t, i) => {
      const sum = (sums.get(t) ?? 0) + (one.values[i] ?? 0);
      sums.set(t, sum);
      return sum;
    }),
  }));
  return stacked.reverse();
}
