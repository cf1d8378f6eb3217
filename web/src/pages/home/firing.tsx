import { useRules } from "../../api/prom";
import { ago, parseIso } from "../../lib/time";
import { A } from "../../ui/link";
import { LabelList } from "../../ui/labels";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

/** Alerts that fire or are about to, newest first. */
export function Firing({ now }: { now: number }) {
  const rules = useRules();
  return (
    <Panel title="Alerts" aside={<A to="/alerts">all rules</A>}>
      <Load of={rules} what="alerts">
        {(groups) => {
          const all = groups.flatMap((group) => group.rules).filter((rule) => rule.type === "alerting");
          const active = all
            .flatMap((rule) => (rule.alerts ?? []).map((alert) => ({ rule, alert })))
            .sort((a, b) => Number(b.alert.state === "firing") - Number(a.alert.state === "firing"));
          if (all.length === 0) return <Empty title="No alert rules">Give weir a Prometheus rule file in its configuration.</Empty>;
          if (active.length === 0) return <Empty title="Nothing fires">{all.length} alert rules are watched.</Empty>;
          return (
            <ul className="rows">
              {active.slice(0, 8).map(({ rule, alert }, i) => (
                <li key={`${rule.name}${i}`}>
                  <Tag tone={toneOfState(alert.state)}>{alert.state}</Tag>
                  <div className="grow">
                    <A to="/alerts" params={{ q: rule.name }}>
                      {alert.annotations.summary || rule.name}
                    </A>
                    <LabelList labels={alert.labels} hide={["alertname", "severity"]} />
                  </div>
                  <time>{ago(parseIso(alert.activeAt) ?? now, now)}</time>
                </li>
              ))}
            </ul>
          );
        }}
      </Load>
    </Panel>
  );
}
