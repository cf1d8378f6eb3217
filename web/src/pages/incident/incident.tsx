// One incident: the answer in one sentence, then why one should believe it.
import { Button, CopyButton } from "@mantine/core";
import { useMemo } from "react";
import { currentTenant } from "../../api/client";
import type { Incident } from "../../api/types";
import { acknowledgePath, useIncident, useStatus } from "../../api/weir";
import { percent } from "../../lib/format";
import { entityPath } from "../../lib/entity";
import { incidentEntity, incidentPivots, incidentWindow } from "../../lib/incident";
import { useNow } from "../../lib/range";
import { clock, moment, parseIso, type Range, span } from "../../lib/time";
import { navigate, pageUrl } from "../../lib/url";
import { EntityLink } from "../../ui/link";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Load } from "../../ui/state";
import { Acknowledge } from "./acknowledge";
import { AlertsOf, ChangeList, RuledOut, Timeline } from "./details";
import { Causes } from "./causes";
import { EvidenceCharts } from "./evidence";
import { Words } from "../../ui/words";

export default function IncidentPage({ id }: { id: string }) {
  const incident = useIncident(id);
  return (
    <div className="page">
      <Load of={incident} what="the incident">
        {(found) => <View of={found} />}
      </Load>
    </div>
  );
}

function View({ of }: { of: Incident }) {
  const now = useNow();
  const window = useMemo(() => incidentWindow(of, now), [of, now]);
  return (
    <div className="incident">
      <Answer of={of} now={now} window={window} />
      <div className="incident-facts">
        <Panel title="Impact">
          {of.impact.length > 0 ? (
            <ul className="plain">
              {of.impact.map((text) => (
                <li key={text}>{text}</li>
              ))}
            </ul>
          ) : (
            <p className="quiet">No measured effect on users yet.</p>
          )}
          <div className="affected">
            {of.affected.map((one) => (
              <EntityLink key={one} of={one} />
            ))}
          </div>
        </Panel>
        <Panel title="What changed just before">
          <ChangeList changes={of.changes} now={now} since={parseIso(of.since)} />
        </Panel>
      </div>
      <EvidenceCharts of={of} window={window} />
      <Causes of={of} window={window} />
      <div className="incident-facts">
        <Timeline of={of} now={now} />
        <div className="stack">
          <AlertsOf of={of} now={now} />
          <RuledOut of={of} />
        </div>
      </div>
    </div>
  );
}

function Answer({ of, now, window }: { of: Incident; now: number; window: Range }) {
  const since = parseIso(of.since) ?? parseIso(of.opened_at) ?? now;
  const end = parseIso(of.resolved_at);
  const paths = incidentPivots(of);
  const entity = incidentEntity(of);
  const status = useStatus();
  const go = (path: string) => navigate(pageUrl(path, { from: window.from, to: window.to }));
  const link = `${(status.data?.external_url || location.origin).replace(/\/$/, "")}/incidents/${encodeURIComponent(of.id)}?from=${window.from}&to=${window.to}&tenant=${encodeURIComponent(currentTenant())}`;
  return (
    <section className={`answer ${of.state === "resolved" ? "calm" : of.state === "firing" ? "bad" : "warn"}`}>
      <div className="answer-head">
        <Tag tone={toneOfState(of.state)}>{of.state}</Tag>
        <span>{of.known ? alertNames(of) : of.title}</span>
      </div>
      <h1>
        <Words of={of.summary || of.title} />
      </h1>
      <div className="answer-facts">
        {of.known && (
          <span>
            <b>{percent(of.confidence)}</b> sure
          </span>
        )}
        <span>
          since <b>{moment(since, now)}</b> {end ? `until ${moment(end, now)} (${span(end - since)})` : `(${span(now - since)})`}
        </span>
        {of.fired_at && (
          <span>
            paged <b>{clock(parseIso(of.fired_at) ?? now)}</b>
          </span>
        )}
        {of.acknowledged && (
          <span className="answer-taken">
            <b>{of.acknowledged.by}</b> is on it since <b>{clock(parseIso(of.acknowledged.at) ?? now)}</b>
            {of.acknowledged.comment && `: ${of.acknowledged.comment}`}
          </span>
        )}
      </div>
      <div className="answer-buttons">
        {of.state !== "resolved" && <Acknowledge path={acknowledgePath(of.id)} again={of.acknowledged !== undefined} />}
        <Button size="sm" onClick={() => go(paths.logs)}>
          Logs
        </Button>
        <Button size="sm" onClick={() => go(paths.traces)}>
          Traces
        </Button>
        <Button size="sm" onClick={() => go(paths.metrics)}>
          Metrics
        </Button>
        {entity && (
          <Button size="sm" variant="default" onClick={() => go(entityPath(entity))}>
            {entity.name}
          </Button>
        )}
        <CopyButton value={link} timeout={1500}>
          {({ copied, copy }) => (
            <Button size="sm" variant="default" onClick={copy}>
              {copied ? "Copied" : "Copy link"}
            </Button>
          )}
        </CopyButton>
      </div>
    </section>
  );
}

/** The symptoms: the cause is the headline below. */
function alertNames(of: Incident): string {
  return [...new Set(of.alerts.map((alert) => alert.labels.alertname ?? "alert"))].join(", ");
}
