import type { Piece } from "../../lib/critical";
import { stepsOf } from "../../lib/critical";
import { percent, seconds } from "../../lib/format";
import type { Trace } from "../../lib/trace";
import { EntityLink } from "../../ui/link";
import { Empty } from "../../ui/state";

const WHAT: Record<Piece["kind"], string> = { own: "", queue: "in the broker before ", gap: "nothing ran before " };

/** The critical path by operation, and what usually stands there. */
export function CriticalList({ trace, path, usual, onSelect }: { trace: Trace; path: Piece[]; usual?: Map<string, { critical: number; queue: number }>; onSelect: (id: string) => void }) {
  const steps = stepsOf(path);
  if (steps.length === 0) return <Empty title="These spans have no length" />;
  return (
    <div className="scroll-x">
      <table className="table critical-list">
        <thead>
          <tr>
            <th>On the way from start to end</th>
            <th className="num">Time</th>
            <th className="num">Share</th>
            <th className="num wide-only">Spans</th>
            {usual && <th className="num">Usually</th>}
          </tr>
        </thead>
        <tbody>
          {steps.map((step) => {
            const before = usual?.get(`${step.service}\n${step.name}`);
            const usually = step.kind === "own" ? before?.critical : step.kind === "queue" ? before?.queue : undefined;
            const slow = usual !== undefined && step.kind !== "gap" && step.time > (usually ?? 0) * 1.5 && step.time > trace.duration * 0.05;
            return (
              <tr key={`${step.kind}${step.service}${step.name}`} className={`piece-${step.kind}`}>
                <td>
                  <em>{WHAT[step.kind]}</em>
                  <EntityLink of={{ kind: "service", name: step.service }} />{" "}
                  <button type="button" className="linkish" onClick={() => onSelect(step.longest.id)}>
                    {step.name}
                  </button>
                </td>
                <td className={`num${slow ? " text-bad" : ""}`}>{seconds(step.time / 1e9)}</td>
                <td className="num share">
                  <i style={{ width: `${(step.time / (trace.duration || 1)) * 100}%` }} />
                  {percent(step.time / (trace.duration || 1))}
                </td>
                <td className="num wide-only">{step.spans}</td>
                {usual && <td className="num">{step.kind === "gap" ? "–" : seconds((usually ?? 0) / 1e9)}</td>}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
