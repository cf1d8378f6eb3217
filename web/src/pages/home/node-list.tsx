import type { PipelineMap } from "../../api/types";
import { milliseconds, percent, rate, seconds } from "../../lib/format";
import { health } from "../../lib/health";
import { inFlowOrder } from "../../lib/graph";
import { EntityLink } from "../../ui/link";

/** The nodes of the map in the order that data flows. */
export function NodeList({ map }: { map: PipelineMap }) {
  return (
    <div className="scroll-x">
      <table className="table">
        <thead>
          <tr>
            <th>Entity</th>
            <th className="num">Rate</th>
            <th className="num">p99</th>
            <th className="num wide-only">Errors</th>
            <th className="num wide-only">Behind</th>
          </tr>
        </thead>
        <tbody>
          {inFlowOrder(map).map((node) => (
            <tr key={node.id} className={`health-${health(node)}`}>
              <td>
                <span className="node-name">
                  <i className="health-dot" />
                  <EntityLink of={node.id} />
                </span>
                <small className="narrow-only">
                  {node.error_ratio > 0.001 && <span className={node.error_ratio > 0.01 ? "text-bad" : ""}>{percent(node.error_ratio)} errors </span>}
                  {(node.lag_seconds ?? 0) >= 1 && <span className={(node.lag_seconds ?? 0) > 10 ? "text-bad" : ""}>{seconds(node.lag_seconds ?? 0)} behind</span>}
                </small>
              </td>
              <td className="num">{rate(node.rate)}</td>
              <td className="num">{node.p99_ms == null || node.p99_ms === 0 ? "–" : milliseconds(node.p99_ms)}</td>
              <td className="num wide-only">{node.error_ratio > 0 ? percent(node.error_ratio) : "–"}</td>
              <td className="num wide-only">{node.lag_seconds === undefined ? "–" : seconds(node.lag_seconds)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
