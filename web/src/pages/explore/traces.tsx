// Explore traces: a form or TraceQL, when and how long, and the list.
import { Button } from "@mantine/core";
import { lazy, Suspense, useMemo, useState } from "react";
import { type FoundTrace, useTraceMetrics, useTraceSearch } from "../../api/tempo";
import { traceql } from "../../editor/traceql";
import { isTraceMetric, spansOf } from "../../lib/languages";
import { setRange, useRange } from "../../lib/range";
import { stepFor } from "../../lib/time";
import { navigate, pageUrl, setParams, useParam } from "../../lib/url";
import { Chart } from "../../ui/chart";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { Scatter } from "./scatter";
import { SearchForm } from "./search-form";
import { TraceTable } from "./trace-table";

const Editor = lazy(() => import("../../editor/editor"));

const LIMIT = 200;

export default function Traces() {
  const [query] = useParam("q");
  const [draft, setDraft] = useState(query);
  const range = useRange();
  const run = (text: string) => setParams({ q: text.trim() === "{}" ? undefined : text.trim() });
  const traces = useTraceSearch(spansOf(query), range, LIMIT);
  return (
    <div className="page explore">
      <Panel>
        <div className="query-row">
          <Suspense fallback={<div className="editor loading">{query}</div>}>
            <Editor
              value={query}
              language={traceql}
              label="TraceQL query"
              hint={'spans by their attributes, e.g. { resource.service.name = "enricher" && duration > 200ms }; Enter runs it'}
              onRun={run}
              onChange={setDraft}
            />
          </Suspense>
          <Button size="sm" onClick={() => run(draft)}>
            Run
          </Button>
        </div>
        <SearchForm query={query} range={range} onSearch={run} />
      </Panel>
      {isTraceMetric(query) && <SpanMetric query={query} range={range} />}
      <Load of={traces} what="the traces">
        {(found) =>
          found.length === 0 ? (
            <Empty title="No trace matches in this range">Take a longer range or fewer conditions. Applications send traces by OTLP: see Data in.</Empty>
          ) : (
            <Found traces={found} range={range} />
          )
        }
      </Load>
    </div>
  );
}

function Found({ traces, range }: { traces: FoundTrace[]; range: { from: number; to: number } }) {
  return (
    <>
      <Panel title="When, and how long" aside={<span className="quiet">a dot is a trace; red has failed spans</span>}>
        <Scatter traces={traces} range={range} onOpen={(id) => navigate(pageUrl(`/trace/${id}`))} onZoom={({ from, to }) => setRange(from, to)} />
      </Panel>
      <Panel title={`${traces.length} traces`} aside={traces.length >= LIMIT ? <span className="quiet">cut at {LIMIT}; narrow the range or the query</span> : undefined}>
        <TraceTable traces={traces} />
      </Panel>
    </>
  );
}

function SpanMetric({ query, range }: { query: string; range: { from: number; to: number } }) {
  const answer = useTraceMetrics(query, range, stepFor(range, 120));
  const series = useMemo(() => answer.data ?? [], [answer.data]);
  return (
    <Panel title="Metric over spans">
      <Load of={answer} what="the metric">
        {() => (series.length ? <Chart series={series} range={range} height={220} onZoom={({ from, to }) => setRange(from, to)} /> : <Empty title="No span to count" />)}
      </Load>
    </Panel>
  );
}
