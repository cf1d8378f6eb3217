import type { Change, Incident } from "../../api/types";
import { number } from "../../lib/format";
import { metricsPath } from "../../lib/pivot";
import { clock, moment, parseIso, span } from "../../lib/time";
import { A, EntityLink } from "../../ui/link";
import { LabelList } from "../../ui/labels";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Words } from "../../ui/words";

export function ChangeList({ changes, now, since }: { changes: Change[]; now: number; since?: number }) {
  if (changes.length === 0) return <p className="quiet">No deployment, configuration, flag or scaling change is known from that time.</p>;
  return (
    <ul className="rows">
      {changes.map((change, i) => {
        const at = parseIso(change.at) ?? now;
        const before = since !== undefined && since > at ? `${span(since - at)} before` : undefined;
        return (
          <li key={`${change.at}${i}`}>
            <Tag tone="info">{change.kind}</Tag>
            <div className="grow">
              <EntityLink of={change.entity} /> {change.title}
              {change.to && (
                <span className="before-after">
                  {change.from ?? "?"} → <b>{change.to}</b>
                </span>
              )}
              {change.source && <span className="quiet"> from {change.source}</span>}
            </div>
            <time>
              {moment(at, now)}
              {before && (
                <>
                  <br />
                  {before}
                </>
              )}
            </time>
          </li>
        );
      })}
    </ul>
  );
}

export function Timeline({ of, now }: { of: Incident; now: number }) {
  return (
    <Panel title="Timeline">
      <ol className="timeline">
        {of.timeline.map((entry, i) => (
          <li key={`${entry.at}${i}`} className={`kind-of-${entry.kind}`}>
            <time>{clock(parseIso(entry.at) ?? now)}</time>
            <span>
              <Words of={entry.text} />
            </span>
          </li>
        ))}
      </ol>
    </Panel>
  );
}

export function AlertsOf({ of, now }: { of: Incident; now: number }) {
  return (
    <Panel title={of.alerts.length === 1 ? "The alert" : `${of.alerts.length} alerts`}>
      <ul className="rows">
        {of.alerts.map((alert) => (
          <li key={alert.fingerprint}>
            <Tag tone={toneOfState(alert.phase)}>{alert.phase}</Tag>
            <div className="grow">
              <b>{alert.labels.alertname}</b> {alert.annotations.summary}
              <div>
                <LabelList labels={alert.labels} hide={["alertname"]} />
              </div>
              <div className="quiet">
                value {number(alert.value)} · <A to={metricsPath(alert.expr)}>{alert.expr}</A>
              </div>
              {alert.annotations.runbook_url && (
                <a href={alert.annotations.runbook_url} target="_blank" rel="noreferrer">
                  runbook
                </a>
              )}
            </div>
            <time>{moment(parseIso(alert.active_at) ?? now, now)}</time>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function RuledOut({ of }: { of: Incident }) {
  if (of.ruled_out.length === 0) return null;
  return (
    <Panel title="Ruled out">
      <ul className="plain">
        {of.ruled_out.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </Panel>
  );
}
