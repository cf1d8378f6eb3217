import { useRules } from "../../api/prom";
import type { Entity } from "../../api/types";
import { useIncidents } from "../../api/weir";
import { ago, parseIso } from "../../lib/time";
import { A } from "../../ui/link";
import { LabelList } from "../../ui/labels";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Words } from "../../ui/words";

/** Alerts with the entity's name in a label, and incidents that touch it. */
export function EntityAlerts({ of, now }: { of: Entity; now: number }) {
  const rules = useRules();
  const incidents = useIncidents(50);
  const alerts = (rules.data ?? [])
    .flatMap((group) => group.rules)
    .flatMap((rule) => (rule.alerts ?? []).map((alert) => ({ rule, alert })))
    .filter(({ alert }) => Object.values(alert.labels).includes(of.name));
  const touching = (incidents.data?.incidents ?? []).filter((one) => one.affected.includes(of.id) || one.causes[0]?.service === of.name).slice(0, 5);
  return (
    <Panel title="Alerts and incidents">
      {alerts.length + touching.length === 0 && <p className="quiet">None names it.</p>}
      <ul className="rows">
        {alerts.map(({ rule, alert }, i) => (
          <li key={`${rule.name}${i}`}>
            <Tag tone={toneOfState(alert.state)}>{alert.state}</Tag>
            <div className="grow">
              <A to="/alerts" params={{ q: rule.name }}>
                {alert.annotations.summary || rule.name}
              </A>
              <LabelList labels={alert.labels} hide={["alertname"]} />
            </div>
            <time>{ago(parseIso(alert.activeAt) ?? now, now)}</time>
          </li>
        ))}
        {touching.map((one) => (
          <li key={one.id}>
            <Tag tone={toneOfState(one.state)}>{one.state}</Tag>
            <A to={`/incidents/${encodeURIComponent(one.id)}`} className="grow">
              <Words of={one.summary || one.title} />
            </A>
            <time>{ago(parseIso(one.opened_at) ?? now, now)}</time>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
