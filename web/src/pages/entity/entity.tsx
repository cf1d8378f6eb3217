// Everything about one thing: how it does, what changed, what it says, who it talks to.
import { useMemo } from "react";
import type { Entity } from "../../api/types";
import { ApiError } from "../../api/client";
import { useChanges, useEntity, useMap } from "../../api/weir";
import { kindName } from "../../lib/entity";
import { milliseconds, number, percent, rate, seconds } from "../../lib/format";
import { health } from "../../lib/health";
import { logsPath, metricsPath, tracesPath } from "../../lib/pivot";
import { type TimeRange, useNow, useRange } from "../../lib/range";
import { ago, moment, parseIso } from "../../lib/time";
import type { Mark } from "../../ui/chart";
import { KindMark } from "../../ui/kind";
import { A, EntityLink } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { QueryChart } from "../../ui/query-chart";
import { Empty, Load } from "../../ui/state";
import { ChangeList } from "../incident/details";
import { EntityAlerts } from "./alerts";
import { LagTable } from "./lag";
import { LogTail } from "./log-tail";
import { NotableTraces } from "./notable-traces";

export default function EntityPage({ kind, name }: { kind: string; name: string }) {
  const entity = useEntity(kind, name);
  if (entity.error instanceof ApiError && entity.error.status === 404 && !entity.data) {
    return (
      <Empty title={`No ${kindName(kind)} called ${name} has been seen`}>
        It may belong to another tenant, or no longer be kept. Press ctrl K to search by a part of its name.
      </Empty>
    );
  }
  return (
    <div className="page">
      <Load of={entity} what={`${kindName(kind)} ${name}`}>
        {(found) => <View of={found} />}
      </Load>
    </div>
  );
}

function View({ of }: { of: Entity }) {
  const range = useRange();
  const now = useNow();
  const changes = useChanges(range);
  const own = (changes.data?.changes ?? []).filter((one) => concerns(of, one.entity));
  const marks = useMemo(
    () => own.map((one): Mark => ({ at: parseIso(one.at) ?? 0, label: one.to ?? one.title, tone: "info" })),
    [changes.data],
  );
  return (
    <div className="entity-page">
      <Head of={of} now={now} range={range} />
      <Golden of={of} range={range} marks={marks} />
      <div className="incident-facts">
        <div className="stack">
          <EntityAlerts of={of} now={now} />
          <LagTable of={of} />
          <Panel title="Versions and changes">
            {of.versions.length > 0 && (
              <ul className="rows">
                {[...of.versions].reverse().slice(0, 6).map((one) => (
                  <li key={one.version + one.from}>
                    <Tag tone={one.to ? "idle" : "ok"}>{one.to ? "was" : "runs"}</Tag>
                    <b className="grow">{one.version}</b>
                    <time>
                      {moment(parseIso(one.from) ?? now, now)}
                      {one.to && ` – ${moment(parseIso(one.to) ?? now, now)}`}
                    </time>
                  </li>
                ))}
              </ul>
            )}
            <ChangeList changes={own} now={now} />
          </Panel>
        </div>
        <div className="stack">
          <Neighbours of={of} />
          <NotableTraces of={of} range={range} />
        </div>
      </div>
      <LogTail of={of} range={range} />
    </div>
  );
}

const concerns = (of: Entity, entity: { kind: string; name: string }): boolean =>
  (entity.kind === of.kind && entity.name === of.name) || (entity.kind === "instance" && of.instances.includes(entity.name));

function Head({ of, now, range }: { of: Entity; now: number; range: TimeRange }) {
  const map = useMap(range);
  const node = map.data?.nodes.find((one) => one.id === of.id);
  const running = of.versions.filter((one) => !one.to).map((one) => one.version);
  const state = node ? health(node) : "idle";
  return (
    <section className={`answer ${state === "bad" ? "bad" : state === "warn" ? "warn" : "calm"}`}>
      <div className="answer-head">
        <KindMark kind={of.kind} /> {kindName(of.kind)}
        {of.namespaces.length > 0 && <span>in {of.namespaces.join(", ")}</span>}
      </div>
      <h1>{of.name}</h1>
      <div className="answer-facts">
        {node && (
          <>
            <span>
              <b>{rate(node.rate)}</b>
            </span>
            {node.p99_ms != null && node.p99_ms > 0 && (
              <span>
                p99 <b>{milliseconds(node.p99_ms)}</b>
              </span>
            )}
            <span className={node.error_ratio > 0.01 ? "text-bad" : ""}>
              <b>{percent(node.error_ratio)}</b> errors
            </span>
            {node.lag_seconds !== undefined && (
              <span className={node.lag_seconds > 10 ? "text-bad" : ""}>
                <b>{seconds(node.lag_seconds)}</b> behind{node.lag_messages !== undefined && ` (${number(node.lag_messages)} messages)`}
              </span>
            )}
          </>
        )}
        {running.length > 0 && <span>version {running.join(", ")}</span>}
        <span>seen {ago(parseIso(of.last_seen) ?? now, now)}</span>
        <span className="inline-list">
          {of.selectors.metrics && <A to={metricsPath(of.selectors.metrics)}>metrics</A>}
          {of.selectors.logs && <A to={logsPath(of.selectors.logs)}>logs</A>}
          {of.selectors.traces && <A to={tracesPath(of.selectors.traces)}>traces</A>}
        </span>
      </div>
    </section>
  );
}

function Golden({ of, range, marks }: { of: Entity; range: TimeRange; marks: Mark[] }) {
  if (of.golden.length === 0) {
    return (
      <Panel title="Golden signals">
        <Empty title="No metric is about it">Its logs and traces, if there are any, stand below.</Empty>
      </Panel>
    );
  }
  return (
    <Panel title="Golden signals">
      <div className="charts">
        {of.golden.map((one) => (
          <QueryChart key={one.query} language="promql" query={one.query} title={one.title} unit={one.unit} range={range} marks={marks} />
        ))}
      </div>
    </Panel>
  );
}

function Neighbours({ of }: { of: Entity }) {
  if (of.upstream.length + of.downstream.length + of.instances.length === 0) return null;
  const column = (title: string, ids: string[]) => (
    <div>
      <h3>{title}</h3>
      {ids.length === 0 ? (
        <span className="quiet">none seen</span>
      ) : (
        ids.slice(0, 20).map((id) => (
          <div key={id}>
            <EntityLink of={id} />
          </div>
        ))
      )}
    </div>
  );
  return (
    <Panel title="Neighbours">
      <div className="neighbours">
        {column("Upstream", of.upstream)}
        {column("Downstream", of.downstream)}
        {of.instances.length > 0 && column("Instances", of.instances.map((name) => `instance:${name}`))}
      </div>
    </Panel>
  );
}
