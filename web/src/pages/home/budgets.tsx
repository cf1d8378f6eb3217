import { usePromInstant } from "../../api/prom";
import { percent } from "../../lib/format";
import { type Objective, objectives } from "../../lib/slo";
import { A } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

/** How much of each objective's error budget is left, from recording rules named `slo:…`. */
export function Budgets({ at }: { at: number }) {
  const samples = usePromInstant('{__name__=~"slo:.*"}', at);
  return (
    <Panel title="Objectives">
      <Load of={samples} what="objectives">
        {(found) => {
          const list = objectives(found);
          if (list.length === 0) {
            return <Empty title="No objectives yet">They come from recording rules named slo:error_budget_remaining:ratio.</Empty>;
          }
          return (
            <ul className="rows">
              {list.map((one) => (
                <li key={one.name}>
                  <Budget of={one} />
                </li>
              ))}
            </ul>
          );
        }}
      </Load>
    </Panel>
  );
}

function Budget({ of }: { of: Objective }) {
  const left = of.remaining;
  const tone = left === undefined ? "idle" : left < 0.1 ? "bad" : left < 0.4 ? "warn" : "ok";
  return (
    <div className="budget">
      <div className="budget-head">
        <A to="/explore/metrics" params={{ q: `{__name__=~"slo:.*", slo="${of.name}"}` }}>
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
