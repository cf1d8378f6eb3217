// Who speaks with whom: services with the topics and databases between them, and each hop with its numbers.
import { TextInput } from "@mantine/core";
import { lazy, Suspense } from "react";
import { useMediaQuery } from "@mantine/hooks";
import type { MapEdge, PipelineMap } from "../../api/types";
import { useMap } from "../../api/weir";
import { milliseconds, percent, rate, seconds } from "../../lib/format";
import { edgeId } from "../../lib/graph";
import { around, hopHealth, hopsOf, tracesOver } from "../../lib/hops";
import { tracesPath } from "../../lib/pivot";
import { useRange } from "../../lib/range";
import { navigate, pageUrl, useParam } from "../../lib/url";
import { A, EntityLink } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { Empty, Load, Waiting } from "../../ui/state";

const FlowMap = lazy(() => import("../home/flow-map"));

export default function GraphPage() {
  const range = useRange();
  const [words, setWords] = useParam("q");
  const map = useMap(range);
  return (
    <div className="page stack">
      <Panel
        title="Service graph"
        aside={<TextInput size="xs" aria-label="Only around" placeholder="only around a name" value={words} onChange={(event) => setWords(event.currentTarget.value)} />}
      >
        <Load of={map} what="the service graph">
          {(data) => <Drawing map={around(data, words)} words={words} />}
        </Load>
      </Panel>
      {map.data && (
        <Panel title="Hops">
          <Hops map={around(map.data, words)} />
        </Panel>
      )}
    </div>
  );
}

function Drawing({ map, words }: { map: PipelineMap; words: string }) {
  const narrow = useMediaQuery("(max-width: 760px)", false, { getInitialValueInEffect: false }) ?? false;
  if (map.nodes.length === 0) {
    return words ? (
      <Empty title={`Nothing called ${words} spoke with anything in this range`} />
    ) : (
      <Empty title="No service, topic or database has been seen in this range">
        Send traces: the settings to copy stand under <A to="/data">Data in</A>. A longer range may also help.
      </Empty>
    );
  }
  // There is no room for a drawing on a phone; the hops below say the same.
  if (narrow) return <p className="quiet">{`${map.nodes.length} nodes, ${map.edges.length} hops`}</p>;
  return (
    <Suspense fallback={<Waiting what="the graph" />}>
      <FlowMap map={map} gap={120} edgeText={edgeText} edgeHealth={hopHealth} onEdge={(edge) => navigate(pageUrl(tracesPath(tracesOver(edge))))} />
    </Suspense>
  );
}

/** Rate and 95th percentile, and what is wrong before them. */
function edgeText(edge: MapEdge): string {
  const parts = [rate(edge.rate)];
  if (edge.error_ratio > 0.001) parts.unshift(`${percent(edge.error_ratio)} errors`);
  if (edge.continuity !== undefined && edge.continuity < 0.99) parts.unshift(`${percent(edge.continuity)} followed`);
  if (edge.p95_ms != null && edge.p95_ms > 0) parts.push(`p95 ${milliseconds(edge.p95_ms)}`);
  return parts.join("\n");
}

function Hops({ map }: { map: PipelineMap }) {
  const hops = hopsOf(map);
  if (hops.length === 0) return <Empty title="No hop in this range" />;
  return (
    <div className="scroll-x">
      <table className="table hops">
        <thead>
          <tr>
            <th>Hop</th>
            <th className="num wide-only">Rate</th>
            <th className="num wide-only">Errors</th>
            <th className="num wide-only">p50</th>
            <th className="num wide-only">p95</th>
            <th className="num wide-only">p99</th>
            <th className="num wide-only">Behind</th>
            <th className="num wide-only" title="Share of taken messages whose producer's span is known">
              Followed
            </th>
            <th className="wide-only" />
          </tr>
        </thead>
        <tbody>
          {hops.map((hop) => (
            <Hop key={edgeId(hop)} hop={hop} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

const VERBS: Record<MapEdge["kind"], string> = { call: "calls", produce: "produces to", consume: "is consumed by", query: "queries" };

function Hop({ hop }: { hop: MapEdge }) {
  const time = (ms: number | null | undefined) => (ms == null || ms === 0 ? "–" : milliseconds(ms));
  const traces = tracesPath(tracesOver(hop));
  return (
    <tr className={`health-${hopHealth(hop)}`}>
      <td>
        <i className="health-dot" />
        <EntityLink of={hop.from} /> <A to={traces} className="quiet">{VERBS[hop.kind]}</A> <EntityLink of={hop.to} />
        {hop.group && <small className="quiet"> as {hop.group}</small>}
        <small className="narrow-only">{edgeText(hop).replaceAll("\n", " · ")}</small>
        {hop.context_lost_by !== undefined && (
          <div>
            <Tag tone="warn">context lost</Tag> <small className="quiet">spans of {hop.context_lost_by || "a library without a name"} carry no parent and no link</small>
          </div>
        )}
      </td>
      <td className="num wide-only">{rate(hop.rate)}</td>
      <td className={`num wide-only${hop.error_ratio > 0.01 ? " text-bad" : ""}`}>{hop.error_ratio > 0 ? <A to={tracesPath(tracesOver(hop, true))}>{percent(hop.error_ratio)}</A> : "–"}</td>
      <td className="num wide-only">{time(hop.p50_ms)}</td>
      <td className="num wide-only">{time(hop.p95_ms)}</td>
      <td className="num wide-only">{time(hop.p99_ms)}</td>
      <td className={`num wide-only${(hop.lag_seconds ?? 0) > 10 ? " text-bad" : ""}`}>{hop.lag_seconds === undefined ? "–" : seconds(hop.lag_seconds)}</td>
      <td className={`num wide-only${(hop.continuity ?? 1) < 0.99 ? " text-bad" : ""}`}>{hop.continuity === undefined ? "–" : percent(hop.continuity)}</td>
      <td className="wide-only nowrap">
        <A to={traces}>traces</A>
      </td>
    </tr>
  );
}
