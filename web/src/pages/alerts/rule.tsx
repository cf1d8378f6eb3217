import type { Rule, RuleGroup } from "../../api/prom";
import { useRange } from "../../lib/range";
import { number } from "../../lib/format";
import { logsPath, metricsPath, tracesPath } from "../../lib/pivot";
import { ago, parseIso, span } from "../../lib/time";
import { splitThreshold } from "../../lib/threshold";
import { A } from "../../ui/link";
import { LabelList } from "../../ui/labels";
import { Tag, toneOfState } from "../../ui/panel";
import { QueryChart } from "../../ui/query-chart";

/** Where an expression is looked into, by its language. */
const PATHS = { promql: metricsPath, logql: logsPath, traceql: tracesPath };

export function stateOf(rule: Rule): string {
  if (rule.state) return rule.state;
  const states = (rule.alerts ?? []).map((one) => one.state);
  return states.includes("firing") ? "firing" : states.includes("unknown") ? "unknown" : states.includes("pending") ? "pending" : "inactive";
}

/** One rule; opened, it shows its expression over time and its annotations. */
export function RuleRow({ group, rule, now, open }: { group: RuleGroup; rule: Rule; now: number; open: boolean }) {
  const state = stateOf(rule);
  const alerts = rule.alerts ?? [];
  return (
    <li>
      <details open={open || undefined} className="rule">
        <summary>
          <Tag tone={toneOfState(state)}>{state}</Tag>
          <b>{rule.name}</b>
          {rule.health !== "ok" && rule.health !== "unknown" && <Tag tone="bad">{rule.health}</Tag>}
          <span className="quiet grow">{rule.annotations?.summary}</span>
          <LabelList labels={rule.labels} />
        </summary>
        <Details group={group} rule={rule} />
      </details>
      {alerts.length > 0 && (
        <ul className="rows active-alerts">
          {alerts.map((alert, i) => (
            <li key={`${alert.activeAt}${i}`}>
              <Tag tone={toneOfState(alert.state)}>{alert.state}</Tag>
              <div className="grow">
                {alert.annotations.summary} <LabelList labels={alert.labels} hide={["alertname", ...Object.keys(rule.labels)]} />
              </div>
              <span className="num">{number(Number(alert.value))}</span>
              {alert.annotations.runbook_url && (
                <a href={alert.annotations.runbook_url} target="_blank" rel="noreferrer">
                  runbook
                </a>
              )}
              <time>{ago(parseIso(alert.activeAt) ?? now, now)}</time>
            </li>
          ))}
        </ul>
      )}
    </li>
  );
}

function Details({ group, rule }: { group: RuleGroup; rule: Rule }) {
  const range = useRange();
  const { query, threshold } = splitThreshold(rule.query);
  const alerts = rule.alerts ?? [];
  const language = group.language ?? "promql";
  return (
    <div className="rule-body">
      <A to={PATHS[language](rule.query)}>
        <pre className="thing">{rule.query}</pre>
      </A>
      {alerts.some((alert) => alert.state === "unknown") && (
        <p className="text-warn">It fired, and what it is made of stopped arriving: whether it still holds is not known.</p>
      )}
      {rule.lastError && <p className="text-bad">{rule.lastError}</p>}
      <p className="quiet">
        {rule.duration ? `fires after ${span(rule.duration * 1000)}` : "fires at once"} · group {group.name}, every {group.interval} s
        {rule.lastEvaluation && ` · evaluated ${ago(parseIso(rule.lastEvaluation) ?? Date.now(), Date.now())}`}
      </p>
      {Object.entries(rule.annotations ?? {}).map(([name, text]) => (
        <p key={name}>
          <span className="quiet">{name}</span> {/^https?:/.test(text) ? <a href={text}>{text}</a> : text}
        </p>
      ))}
      <QueryChart language={language} query={query} threshold={threshold} range={range} unit={rule.annotations?.unit} title="value and threshold" height={120} />
    </div>
  );
}
