import { usePromInstant } from "../../api/prom";
import type { Slo } from "../../api/types";
import { useSlos } from "../../api/weir";
import { percent } from "../../lib/format";
import { type Objective, objectives, toneOfBudget } from "../../lib/slo";
import { A } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

/** How much of each objective's error budget is left: weir's own, then those of recording rules named `slo:…`. */
export function Budgets({ at }: { at: number }) {
  const slos = useSlos();
  const samples = usePromInstant('{__name__=~"slo:(error_budget_remaining|burn_rate):.*"}', at);
  const own = slos.data?.slos ?? [];
  return (
    <Panel title="Objectives">
      <Load of={samples} what="objectives">
        {(found) => {
          const others = objectives(found);
          if (own.length + others.length === 0) {
            return (
              <Empty title="No objectives yet">
                Start weir with <code>--slos slos.yaml</code>: its own short form, OpenSLO and Sloth files are read, and <code>weir check slos</code> tells
                what a file gives. Recording rules named slo:error_budget_remaining:ratio show here too.
              </Empty>
            );
          }
          return (
            <ul className="rows">
              {own.map((one) => (
                <li key={one.id}>
                  <Budget of={ofSlo(one)} to="/slos" />
                </li>
              ))}
              {others.map((one) => (
                <li key={one.name}>
                  <Budget of={one} to="/explore/metrics" params={{ q: `{__name__=~"slo:.*", slo="${one.name}"}` }} />
                </li>
              ))}
            </ul>
          );
        }}
      </Load>
    </Panel>
  );
}

const ofSlo = (slo: Slo): Objective => ({
  name: slo.name,
  remaining: slo.budget_left,
  burn: slo.burn_rate === undefined ? [] : [{ window: "1h", rate: slo.burn_rate }],
});

function Budget({ of, to, params }: { of: Objective; to: string; params?: Record<string, string> }) {
  const left = of.remaining;
  const tone = toneOfBudget(left);
  return (
    <div className="budget">
      <div className="budget-head">
        <A to={to} params={params}>
          {of.name}
        </A>
        <b className={`text-${tone}`}>{left === undefined ? "–" : `${percent(Math.max(left, -9.99))} left`}</b>
      </div>
      <div className="bar">
        <i className={`tone-${tone}`} style={{ width: `${Math.min(100, Math.max(0, (left ?? 0) * 100))}%` }} />
      </div>
      <div className="budget-burn">
        {of.burn.map(({ window, rate }) => (
          <span key={window} className={rate >= 14.4 ? "text-bad" : rate > 1 ? "text-warn" : ""}>
            burning {rate.toFixed(rate < 10 ? 1 : 0)}× over {window}
          </span>
        ))}
      </div>
    </div>
  );
}
