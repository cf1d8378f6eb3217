import type { Sender } from "../../api/types";
import { bytes, number } from "../../lib/format";
import { ago, parseIso } from "../../lib/time";
import { Tag } from "../../ui/panel";
import { Empty } from "../../ui/state";

/** Who pushes data, and what of it was refused; those with refusals first. */
export function Senders({ list, now }: { list: Sender[]; now: number }) {
  if (list.length === 0) return <Empty title="Nobody has sent anything yet">Copy one of the settings below into an application or agent; it appears here with its first request.</Empty>;
  const sorted = [...list].sort((a, b) => b.refused.length - a.refused.length || (parseIso(b.last_seen) ?? 0) - (parseIso(a.last_seen) ?? 0));
  return (
    <div className="scroll-x">
      <table className="table senders">
        <thead>
          <tr>
            <th>Sender</th>
            <th>Protocol</th>
            <th>Tenant</th>
            <th>Last seen</th>
            <th className="num">Accepted</th>
            <th className="num">Size</th>
            <th>Refused</th>
          </tr>
        </thead>
        <tbody>
          {sorted.map((one) => (
            <tr key={`${one.id}${one.protocol}${one.tenant}`}>
              <td>
                <b>{one.address}</b>
                <div className="quiet">{one.user_agent}</div>
              </td>
              <td className="nowrap">{one.protocol}</td>
              <td>{one.tenant}</td>
              <td className="nowrap">{ago(parseIso(one.last_seen) ?? now, now)}</td>
              <td className="num">{number(one.accepted.items)}</td>
              <td className="num">{bytes(one.accepted.bytes)}</td>
              <td>
                {one.refused.length === 0 ? (
                  <span className="quiet">nothing</span>
                ) : (
                  one.refused.map((refusal) => (
                    <details key={refusal.reason} className="refusal">
                      <summary>
                        <Tag tone="bad">{number(refusal.count)}</Tag> {refusal.reason} <span className="quiet">{ago(parseIso(refusal.last_at) ?? now, now)}</span>
                      </summary>
                      <pre className="thing">{refusal.last_example}</pre>
                    </details>
                  ))
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
