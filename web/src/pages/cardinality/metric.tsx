import { useMetricCensus } from "../../api/weir";
import type { LabelCount } from "../../api/types";
import { number } from "../../lib/format";
import { metricsPath, quote } from "../../lib/pivot";
import { ago, parseIso } from "../../lib/time";
import { A, EntityLink } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Load } from "../../ui/state";

/** What the series of one metric differ by, and who sends them. */
export function Metric({ name, now }: { name: string; now: number }) {
  const census = useMetricCensus(name);
  return (
    <Panel
      title={<code>{name}</code>}
      aside={
        <A to="/cardinality" params={{ metric: undefined }}>
          close
        </A>
      }
    >
      <Load of={census} what="the metric's labels">
        {(found) => {
          const queried = parseIso(found.queried_at ?? undefined);
          return (
            <>
              <p className="quiet">
                {number(found.series)} series
                {found.series_looked_at < found.series && `, of which ${number(found.series_looked_at)} were looked at`}.{" "}
                {found.rules.length > 0 ? `Rules: ${found.rules.join(", ")}.` : "No rule names it."}{" "}
                {queried === undefined ? "No query named it since weir started." : `Last query ${ago(queried, now)}.`}
              </p>
              <div className="slo-tables">
                <table className="table">
                  <caption>Labels</caption>
                  <tbody>
                    {found.labels.map((label) => (
                      <Label key={label.name} metric={name} of={label} />
                    ))}
                  </tbody>
                </table>
                <table className="table">
                  <caption>Targets</caption>
                  <tbody>
                    {found.targets.map((target) => (
                      <tr key={`${target.job}|${target.instance}`}>
                        <td>{target.job ? <EntityLink of={{ kind: "service", name: target.job }} /> : <span className="quiet">no job</span>}</td>
                        <td>{target.instance}</td>
                        <td className="num">{number(target.series)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            </>
          );
        }}
      </Load>
    </Panel>
  );
}

function Label({ metric, of }: { metric: string; of: LabelCount }) {
  return (
    <tr>
      <td>
        <code>{of.name}</code>
      </td>
      <td className="num">{number(of.n_values)} {of.n_values === 1 ? "value" : "values"}</td>
      <td>
        <details>
          <summary className="quiet">{of.values.slice(0, 3).map((one) => one.value).join(", ")}</summary>
          <ul className="values">
            {of.values.map((one) => (
              <li key={one.value}>
                <A to={metricsPath(`${metric}{${of.name}=${quote(one.value)}}`)}>{one.value}</A> <span className="quiet">{number(one.series)}</span>
              </li>
            ))}
          </ul>
        </details>
      </td>
    </tr>
  );
}
