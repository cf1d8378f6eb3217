// Objectives: what is left of each budget, how fast it goes, and how soon one would be paged.
import type { Slo } from "../../api/types";
import { useSlos } from "../../api/weir";
import { useNow, useRange } from "../../lib/range";
import { percent } from "../../lib/format";
import { entityPath } from "../../lib/entity";
import { toneOfBudget } from "../../lib/slo";
import { moment, parseIso, type Range, span } from "../../lib/time";
import { A } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { QueryChart } from "../../ui/query-chart";
import { Load } from "../../ui/state";
import { Budgets } from "../home/budgets";
import { PageTimes, Windows } from "./tables";

export default function Slos() {
  const slos = useSlos();
  const now = useNow();
  const range = useRange();
  if (slos.data?.slos.length === 0) {
    return (
      <div className="page">
        <Budgets at={range.to} />
      </div>
    );
  }
  return (
    <div className="page">
      <Panel title="Objectives">
        <Load of={slos} what="objectives">
          {({ slos: list }) => (
            <ul className="slos">
              {list.map((one) => (
                <Row key={one.id} of={one} now={now} range={range} />
              ))}
            </ul>
          )}
        </Load>
      </Panel>
    </div>
  );
}

const TONES = { ok: "ok", burning: "bad", exhausted: "bad", unknown: "warn" } as const;

function Row({ of, now, range }: { of: Slo; now: number; range: Range }) {
  const start = parseIso(of.period.start) ?? now;
  const end = parseIso(of.period.end) ?? now;
  return (
    <li id={of.id}>
      <details open={of.state === "burning" || of.state === "exhausted" || undefined} className="slo">
        <summary>
          <Tag tone={TONES[of.state]}>{of.state}</Tag>
          <div className="slo-name">
            <b>{of.name}</b>
            <span className="quiet">
              {percent(of.objective)} over {span(end - start)}
              {of.tier && `, ${of.tier}`}
            </span>
          </div>
          <Left of={of} now={now} />
        </summary>
        {of.description && <p>{of.description}</p>}
        <p className="quiet">
          {of.service && (
            <>
              <A to={entityPath({ kind: "service", name: of.service })}>{of.service}</A> ·{" "}
            </>
          )}
          period {moment(start, now)} to {moment(end, now)} · {of.file}
        </p>
        <QueryChart
          language="promql"
          title="Share of bad events over 5 minutes; the line spends exactly the budget"
          query={`slo:sli_error:ratio_rate5m{slo="${of.id}"}`}
          range={range}
          unit="ratio"
          threshold={1 - of.objective}
        />
        <div className="slo-tables">
          <PageTimes of={of} />
          <Windows of={of} now={now} />
        </div>
      </details>
    </li>
  );
}

function Left({ of, now }: { of: Slo; now: number }) {
  const left = of.budget_left;
  const tone = toneOfBudget(left);
  const exhausted = parseIso(of.exhausted_at);
  return (
    <div className="budget">
      <div className="budget-head">
        <b className={`text-${tone}`}>{left === undefined ? "no data" : `${percent(Math.max(left, -9.99))} left`}</b>
        {of.burn_rate !== undefined && (
          <span className={of.burn_rate > 1 ? "text-warn" : "quiet"}>burning {of.burn_rate.toFixed(of.burn_rate < 10 ? 1 : 0)}× over 1h</span>
        )}
      </div>
      <div className="bar">
        <i className={`tone-${tone}`} style={{ width: `${Math.min(100, Math.max(0, (left ?? 0) * 100))}%` }} />
      </div>
      {exhausted !== undefined && exhausted > now && <div className="budget-burn">at this speed used up {moment(exhausted, now)}</div>}
    </div>
  );
}
