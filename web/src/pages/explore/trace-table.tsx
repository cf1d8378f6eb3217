import { useState } from "react";
import type { FoundTrace } from "../../api/tempo";
import { milliseconds } from "../../lib/format";
import { spanCounts, startOf } from "../../lib/found";
import { moment } from "../../lib/time";
import { A, EntityLink } from "../../ui/link";

type Order = "start" | "duration" | "errors";

/** Found traces; a click on a heading sorts. */
export function TraceTable({ traces, order: first = "start" }: { traces: FoundTrace[]; order?: Order }) {
  const [order, setOrder] = useState<Order>(first);
  const now = Date.now();
  const sorted = [...traces].sort((a, b) =>
    order === "start" ? startOf(b) - startOf(a) : order === "duration" ? (b.durationMs ?? 0) - (a.durationMs ?? 0) : spanCounts(b).errors - spanCounts(a).errors,
  );
  const heading = (name: Order, text: string) => (
    <button type="button" className="sort" aria-pressed={order === name} onClick={() => setOrder(name)}>
      {text}
      {order === name ? " ↓" : ""}
    </button>
  );
  return (
    <div className="scroll-x">
      <table className="table traces">
        <thead>
          <tr>
            <th>Trace</th>
            <th>{heading("start", "Start")}</th>
            <th className="num">{heading("duration", "Duration")}</th>
            <th className="num wide-only">Spans</th>
            <th className="num">{heading("errors", "Failed")}</th>
            <th className="wide-only">Services</th>
          </tr>
        </thead>
        <tbody>
          {sorted.map((trace) => {
            const { spans, errors, services } = spanCounts(trace);
            return (
              <tr key={trace.traceID}>
                <td>
                  <A to={`/trace/${trace.traceID}`} className="trace-name">
                    {trace.rootTraceName || "(root not received)"}
                  </A>
                  <span className="quiet"> {trace.rootServiceName}</span>
                </td>
                <td className="nowrap">{moment(startOf(trace), now)}</td>
                <td className="num">{milliseconds(trace.durationMs ?? 0)}</td>
                <td className="num wide-only">{spans || "–"}</td>
                <td className={errors ? "num text-bad" : "num"}>{errors || "–"}</td>
                <td className="wide-only">
                  <span className="inline-list">
                    {services.slice(0, 6).map((name) => (
                      <EntityLink key={name} of={{ kind: "service", name }} mark={false} />
                    ))}
                  </span>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
