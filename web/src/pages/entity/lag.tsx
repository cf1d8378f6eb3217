import type { Entity, LagRow } from "../../api/types";
import { useLag } from "../../api/weir";
import { number, seconds } from "../../lib/format";
import { EntityLink } from "../../ui/link";
import { Panel } from "../../ui/panel";

/** How far each group is behind on each partition, for groups, topics and partitions; the worst first. */
export function LagTable({ of }: { of: Entity }) {
  const concerned = ["topic", "consumer_group", "partition"].includes(of.kind);
  const lag = useLag();
  const rows = (lag.data?.partitions ?? []).filter((row) => matches(of, row)).sort((a, b) => (b.lag_seconds ?? 0) - (a.lag_seconds ?? 0) || (b.lag ?? 0) - (a.lag ?? 0));
  if (!concerned || rows.length === 0) return null;
  return (
    <Panel title="Consumer lag">
      <div className="scroll-x">
        <table className="table">
          <thead>
            <tr>
              <th>Group</th>
              <th>Topic</th>
              <th className="num">Behind</th>
              <th className="num">Messages</th>
              <th className="num">Position</th>
              <th>By</th>
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, 60).map((row) => (
              <tr key={`${row.cluster}${row.group}${row.topic}${row.partition}`}>
                <td>
                  <EntityLink of={{ kind: "consumer_group", name: row.group }} mark={false} />
                </td>
                <td>
                  <EntityLink of={{ kind: "partition", name: `${row.topic}/${row.partition}` }} mark={false} />
                </td>
                <td className={(row.lag_seconds ?? 0) > 10 ? "num text-bad" : "num"}>{row.lag_seconds == null ? "–" : seconds(row.lag_seconds)}</td>
                <td className="num">{row.lag == null ? "–" : number(row.lag)}</td>
                <td className="num">
                  {row.position} / {row.end_offset}
                </td>
                <td className="quiet">{row.source}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function matches(of: Entity, row: LagRow): boolean {
  if (of.kind === "topic") return row.topic === of.name;
  if (of.kind === "consumer_group") return row.group === of.name;
  return of.kind === "partition" && `${row.topic}/${row.partition}` === of.name;
}
