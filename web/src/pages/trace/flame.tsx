// The trace as a flame graph. A click fills the width with a frame; the frames above it lead back.
import { useComputedColorScheme } from "@mantine/core";
import { useMemo } from "react";
import { findFrame, flameOf, type Frame, placeFrames } from "../../lib/flame";
import { percent, seconds } from "../../lib/format";
import { colorOf } from "../../lib/palette";
import type { Trace } from "../../lib/trace";
import { useParam } from "../../lib/url";

const ROW = 22;
/** Deeper frames are reached by a click on one above them. */
const ROWS_MAX = 60;

export function FlameGraph({ trace }: { trace: Trace }) {
  const dark = useComputedColorScheme("light") === "dark";
  const [focusKey, setFocus] = useParam("frame");
  const roots = useMemo(() => flameOf(trace), [trace]);
  const focus = focusKey ? findFrame(roots, focusKey) : undefined;
  const placed = useMemo(() => placeFrames(roots, focus).filter(({ row }) => row - (focus?.depth ?? 0) < ROWS_MAX), [roots, focus]);
  const first = Math.max(0, (focus?.depth ?? 0) - 12);
  const rows = placed.reduce((most, { row }) => Math.max(most, row + 1 - first), 1);
  const whole = roots.reduce((sum, one) => sum + one.total, 0);
  return (
    <>
      <p className="quiet">
        {seconds(whole / 1e9)} of work in spans of {trace.services.length === 1 ? "one service" : `${trace.services.length} services`}, by what called it; time in the broker is not work.
        {focus && (
          <>
            {" "}
            <button type="button" className="linkish" onClick={() => setFocus("")}>
              Show all
            </button>
          </>
        )}
      </p>
      <div className="flame" style={{ height: rows * ROW }}>
        {placed.map(({ frame, row, left, width }) =>
          row < first ? null : (
            <button
              key={frame.key}
              type="button"
              className={`frame${frame.errors > 0 ? " failed" : ""}${row < (focus?.depth ?? 0) ? " above" : ""}`}
              style={{ left: `${left * 100}%`, width: `${width * 100}%`, top: (row - first) * ROW, background: colorOf(trace.services.indexOf(frame.service), dark) }}
              title={titleOf(frame, whole)}
              onClick={() => setFocus(frame.key === focusKey ? "" : frame.key)}
            >
              {width > 0.03 && (
                <>
                  {frame.name} <small>{frame.service}</small>
                </>
              )}
            </button>
          ),
        )}
      </div>
    </>
  );
}

const titleOf = (frame: Frame, whole: number): string =>
  [
    `${frame.name} of ${frame.service}`,
    `${frame.calls} ${frame.calls === 1 ? "span" : "spans"}${frame.errors ? `, ${frame.errors} failed` : ""}`,
    `${seconds(frame.self / 1e9)} of its own`,
    `${seconds(frame.total / 1e9)} with what it called, ${percent(frame.total / (whole || 1))}`,
  ].join("\n");
