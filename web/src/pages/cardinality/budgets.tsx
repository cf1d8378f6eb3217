import type { SeriesBudget } from "../../api/types";
import { number, percent } from "../../lib/format";
import { A, EntityLink } from "../../ui/link";
import { Tag } from "../../ui/panel";
import { Empty } from "../../ui/state";

const DEEDS: Record<SeriesBudget["action"], string> = {
  warn: "new series are stored",
  fold: "new series are folded",
  drop: "new series are dropped",
  refuse: "new series are refused",
};

/** Budgets that are nearly used up, each with who does it. */
export function Budgets({ list }: { list: SeriesBudget[] }) {
  if (list.length === 0) {
    return (
      <Empty title="Every budget has room">
        A metric may have 100,000 series and a tenant a million before weir warns; <code>--cardinality.config</code> sets other budgets, and what is done with more.
      </Empty>
    );
  }
  return (
    <ul className="slos">
      {list.map((one) => (
        <One key={`${one.budget}|${one.metric}`} of={one} />
      ))}
    </ul>
  );
}

function One({ of }: { of: SeriesBudget }) {
  const isOver = of.used_ratio >= 1;
  const tone = isOver ? (of.action === "warn" ? "bad" : "warn") : "ok";
  const { label, target, metric } = of.culprit;
  return (
    <li>
      <div className="budget-head">
        <span>
          <Tag tone={tone}>{isOver ? "used up" : "nearly used up"}</Tag> <b>{of.metric ? <code>{of.metric}</code> : "all metrics together"}</b>
        </span>
        <span className="quiet">budget “{of.budget}”</span>
      </div>
      <div className="bar">
        <i className={`tone-${tone}`} style={{ width: `${Math.min(100, of.used_ratio * 100)}%` }} />
      </div>
      <p>
        {number(of.series + of.hidden_series)} of {number(of.max_series)} series ({percent(of.used_ratio)}); {DEEDS[of.action]}
        {of.folded_labels.length > 0 && (
          <>
            {" "}
            by <code>{of.folded_labels.join(", ")}</code>, which hides {number(of.hidden_series)}
          </>
        )}
        . <Lost of={of.samples} />
      </p>
      <p>
        {label && (
          <>
            Label <code>{label.name}</code> of{" "}
            <A to="/cardinality" params={{ metric }}>
              <code>{metric}</code>
            </A>{" "}
            has {number(label.n_values)} values, such as {label.values.slice(0, 3).map((one) => one.value).join(", ")}.{" "}
          </>
        )}
        {target?.job && (
          <>
            Most come from <EntityLink of={{ kind: "service", name: target.job }} />
            {target.instance && `, ${target.instance}`}: {number(target.series)}.
          </>
        )}
      </p>
      {of.example && <pre className="thing">{of.example}</pre>}
    </li>
  );
}

function Lost({ of }: { of: SeriesBudget["samples"] }) {
  const parts = [
    of.folded > 0 && `${number(of.folded)} samples folded`,
    of.dropped > 0 && `${number(of.dropped)} dropped`,
    of.refused > 0 && `${number(of.refused)} refused`,
  ].filter(Boolean);
  return parts.length > 0 ? <span className="text-warn">{parts.join(", ")} since weir started.</span> : null;
}
