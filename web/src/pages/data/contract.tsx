// What each service's log lines carry of what a line should: JSON, trace, service, environment, severity.
import type { LogContract } from "../../api/types";
import { useLogContract } from "../../api/weir";
import { number, percent } from "../../lib/format";
import { logsPath, quote } from "../../lib/pivot";
import { A, EntityLink } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

/** Below it a share is marked. */
const KEPT = 0.95;

export function ContractBoard() {
  const answer = useLogContract();
  return (
    <Panel title="Log contract" aside={<span className="quiet">share of lines of the last 10 to 20 minutes</span>}>
      <Load of={answer} what="the log contract">
        {(found) => <Board of={found} />}
      </Load>
    </Panel>
  );
}

function Board({ of: { fields, services } }: { of: LogContract }) {
  const shown = services.filter((one) => one.lines > 0);
  if (shown.length === 0) return <Empty title="No log line has come lately" />;
  const worst = (one: LogContract["services"][number]) => Math.min(...fields.map((name) => (one.carrying[name] ?? 0) / one.lines));
  return (
    <div className="scroll-x">
      <table className="table contract">
        <thead>
          <tr>
            <th>Service</th>
            {fields.map((name) => (
              <th key={name} className="num">
                {name}
              </th>
            ))}
            <th className="num wide-only">Lines looked at</th>
          </tr>
        </thead>
        <tbody>
          {shown
            .toSorted((a, b) => worst(a) - worst(b) || a.service.localeCompare(b.service))
            .map((one) => (
              <tr key={`${one.namespace}/${one.service}`}>
                <td>
                  {one.service ? <EntityLink of={{ kind: "service", name: one.service }} /> : <span className="quiet">lines of no known service</span>}
                  {one.namespace && <small className="quiet"> {one.namespace}</small>}
                </td>
                {fields.map((name) => {
                  const share = (one.carrying[name] ?? 0) / one.lines;
                  return (
                    <td key={name} className={`num${share < KEPT ? " text-bad" : ""}`}>
                      {percent(share)}
                    </td>
                  );
                })}
                <td className="num wide-only">{one.service ? <A to={logsPath(`{service_name=${quote(one.service)}}`)}>{number(one.lines)}</A> : number(one.lines)}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </div>
  );
}
