import type { Entity } from "../../api/types";
import { type FoundTrace, useTraceSearch } from "../../api/tempo";
import { milliseconds } from "../../lib/format";
import { spanCounts, startOf } from "../../lib/found";
import { tracesPath } from "../../lib/pivot";
import type { TimeRange } from "../../lib/range";
import { clock } from "../../lib/time";
import { A } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

/** The slowest and the failed traces of the range. */
export function NotableTraces({ of, range }: { of: Entity; range: TimeRange }) {
  const all = of.selectors.traces;
  const failedQuery = conjoin(all, "status = error");
  const found = useTraceSearch(all, range, 100, all !== "");
  const failed = useTraceSearch(failedQuery, range, 8, all !== "");
  if (!all) return null;
  return (
    <>
      <Panel title="Slowest traces" aside={<A to={tracesPath(all)}>all</A>}>
        <Load of={found} what="the slowest traces">
          {(traces) => <List traces={[...traces].sort((a, b) => (b.durationMs ?? 0) - (a.durationMs ?? 0)).slice(0, 6)} none="No trace in this range" />}
        </Load>
      </Panel>
      <Panel title="Failed traces" aside={<A to={tracesPath(failedQuery)}>all</A>}>
        <Load of={failed} what="the failed traces">
          {(traces) => <List traces={traces.slice(0, 6)} none="None failed in this range" />}
        </Load>
      </Panel>
    </>
  );
}

/** A span filter with one more condition; a query that is no single filter gets a second stage. */
export function conjoin(filter: string, condition: string): string {
  const body = /^\{([^{}]*)\}$/.exec(filter.trim())?.[1]?.trim();
  if (body === undefined) return `${filter} | { ${condition} }`;
  return body ? `{ ${body} && ${condition} }` : `{ ${condition} }`;
}

function List({ traces, none }: { traces: FoundTrace[]; none: string }) {
  if (traces.length === 0) return <Empty title={none} />;
  return (
    <ul className="rows">
      {traces.map((trace) => (
        <li key={trace.traceID}>
          <b className={spanCounts(trace).errors ? "text-bad trace-ms" : "trace-ms"}>{milliseconds(trace.durationMs ?? 0)}</b>
          <A to={`/trace/${trace.traceID}`} className="grow">
            {trace.rootTraceName || "(root not received)"} <span className="quiet">{trace.rootServiceName}</span>
          </A>
          <time>{clock(startOf(trace))}</time>
        </li>
      ))}
    </ul>
  );
}
