// Cardinality: whose series use up which budget, and what every metric's series differ by.
import { SegmentedControl, TextInput } from "@mantine/core";
import type { Cardinality, MetricCount } from "../../api/types";
import { useCardinality } from "../../api/weir";
import { number } from "../../lib/format";
import { metricsPath } from "../../lib/pivot";
import { useNow } from "../../lib/range";
import { ago, parseIso } from "../../lib/time";
import { useParam } from "../../lib/url";
import { A } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { Budgets } from "./budgets";
import { Metric } from "./metric";

export default function CardinalityPage() {
  const [search] = useParam("q");
  const [shown] = useParam("show", "all");
  const [metric] = useParam("metric");
  const found = useCardinality(search, shown === "unused");
  const now = useNow();
  return (
    <div className="page stack">
      <Panel title="Budgets of series">
        <Load of={found} what="the budgets">
          {({ budgets }) => <Budgets list={budgets} />}
        </Load>
      </Panel>
      {metric && <Metric name={metric} now={now} />}
      <Panel title="Metrics by their series" aside={found.data && <Sum of={found.data} />}>
        <Filter />
        <Load of={found} what="the metrics">
          {(all) => <Metrics of={all} now={now} />}
        </Load>
      </Panel>
    </div>
  );
}

function Sum({ of }: { of: Cardinality }) {
  return (
    <span className="quiet">
      {number(of.series)} series of {number(of.n_metrics)} metrics
    </span>
  );
}

function Filter() {
  const [search, setSearch] = useParam("q");
  const [shown, setShown] = useParam("show", "all");
  return (
    <div className="filters">
      <TextInput size="xs" placeholder="part of a name" aria-label="Part of a metric's name" value={search} onChange={(e) => setSearch(e.currentTarget.value)} />
      <SegmentedControl
        size="xs"
        value={shown}
        onChange={setShown}
        aria-label="Which metrics"
        data={[
          { label: "All", value: "all" },
          { label: "Looked at by nobody", value: "unused" },
        ]}
      />
    </div>
  );
}

function Metrics({ of, now }: { of: Cardinality; now: number }) {
  const since = parseIso(of.unused.since);
  if (of.metrics.length === 0) {
    return of.n_metrics === 0 ? <Empty title="No metric brought samples lately" /> : <Empty title="No metric fits">Take away the filter to see all of them.</Empty>;
  }
  return (
    <>
      <p className="quiet">
        {number(of.unused.metrics)} metrics with {number(of.unused.series)} series were named by no rule, and by no query since weir started{since !== undefined && ` ${ago(since, now)}`}.
      </p>
      <div className="scroll-x">
        <table className="table">
          <thead>
            <tr>
              <th>Metric</th>
              <th className="num">Series</th>
              <th className="num">Grown</th>
              <th className="num">Rules</th>
              <th>Last query</th>
            </tr>
          </thead>
          <tbody>
            {of.metrics.map((one) => (
              <Row key={one.name} of={one} now={now} />
            ))}
          </tbody>
        </table>
      </div>
      {of.n_matching > of.metrics.length && <p className="quiet">The first {of.metrics.length} of {number(of.n_matching)}; search by name for others.</p>}
    </>
  );
}

function Row({ of, now }: { of: MetricCount; now: number }) {
  const queried = parseIso(of.queried_at ?? undefined);
  const since = parseIso(of.grown?.since);
  return (
    <tr>
      <td>
        <A to="/cardinality" params={{ metric: of.name }}>
          <code>{of.name}</code>
        </A>{" "}
        <A to={metricsPath(of.name)} className="quiet">
          explore
        </A>
      </td>
      <td className="num">{number(of.series)}</td>
      <td className="num" title={since === undefined ? undefined : `since ${ago(since, now)}`}>
        {of.grown && of.grown.by !== 0 ? <span className={of.grown.by > of.series / 4 ? "text-warn" : ""}>{`${of.grown.by > 0 ? "+" : ""}${number(of.grown.by)}`}</span> : "–"}
      </td>
      <td className="num">{of.rules || "–"}</td>
      <td className="nowrap">{queried === undefined ? <span className="quiet">never</span> : ago(queried, now)}</td>
    </tr>
  );
}
