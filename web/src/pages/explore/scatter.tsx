// Duration over time, one dot a trace: slow ones and clusters show at once.
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import type { FoundTrace } from "../../api/tempo";
import { milliseconds } from "../../lib/format";
import { spanCounts, startOf } from "../../lib/found";
import { clock, type Range } from "../../lib/time";

interface ScatterProps {
  traces: FoundTrace[];
  range: Range;
  onOpen: (id: string) => void;
  onZoom: (range: Range) => void;
}

export function Scatter({ traces, range, onOpen, onZoom }: ScatterProps) {
  const dark = useComputedColorScheme("light") === "dark";
  const host = useRef<HTMLDivElement>(null);
  const live = useRef({ range, onOpen, onZoom });
  live.current = { range, onOpen, onZoom };
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const sorted = [...traces].sort((a, b) => startOf(a) - startOf(b));
    const failed = sorted.map((one) => spanCounts(one).errors > 0);
    const times = sorted.map((one) => startOf(one) / 1000);
    const values = sorted.map((one) => Math.max(0.1, one.durationMs ?? 0.1));
    const ink = dark ? "#909296" : "#6c727a";
    const grid = { stroke: dark ? "rgba(255,255,255,.07)" : "rgba(0,0,0,.07)", width: 1 };
    const dots = (color: string): uPlot.Series => ({ stroke: color, paths: () => null, points: { show: true, size: 7, fill: `${color}66`, width: 1 } });
    const plot = new uPlot(
      {
        width: Math.max(120, element.clientWidth),
        height: 150,
        legend: { show: false },
        padding: [8, 10, 0, 0],
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 9 } },
        scales: {
          x: { time: true, range: () => [live.current.range.from / 1000, live.current.range.to / 1000] },
          y: { distr: 3, log: 10 },
        },
        axes: [
          { stroke: ink, grid, ticks: { show: false }, size: 26, font: "11px system-ui", values: (_, splits) => splits.map((t) => clock(t * 1000)), space: 80 },
          { stroke: ink, grid, ticks: { show: false }, size: 60, font: "11px system-ui", values: (_, splits) => splits.map((v) => (v == null ? "" : milliseconds(v))) },
        ],
        series: [{}, dots(dark ? "#3bc9db" : "#0b7285"), dots("#e03131")],
        hooks: {
          setSelect: [
            (u) => {
              if (u.select.width < 8) return;
              const from = u.posToVal(u.select.left, "x") * 1000;
              const to = u.posToVal(u.select.left + u.select.width, "x") * 1000;
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              live.current.onZoom({ from: Math.floor(from), to: Math.ceil(to) });
            },
          ],
          ready: [
            (u) => {
              u.over.addEventListener("click", () => {
                const hit = closest(u, times, values);
                const trace = hit === undefined ? undefined : sorted[hit];
                if (trace && u.select.width < 4) live.current.onOpen(trace.traceID);
              });
            },
          ],
        },
      },
      [times, values.map((v, i) => (failed[i] ? null : v)), values.map((v, i) => (failed[i] ? v : null))],
      element,
    );
    const resize = new ResizeObserver(() => element.clientWidth > 0 && plot.setSize({ width: element.clientWidth, height: 150 }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      plot.destroy();
    };
  }, [traces, dark, range.from, range.to]);
  return <div ref={host} className="chart-plot scatter" style={{ height: 150 }} />;
}

/** The dot within 14 px of the cursor. */
function closest(u: uPlot, times: number[], values: number[]): number | undefined {
  let best: number | undefined;
  let distance = 14;
  for (let i = 0; i < times.length; i++) {
    const off = Math.hypot(u.valToPos(times[i] ?? 0, "x") - (u.cursor.left ?? -99), u.valToPos(values[i] ?? 0, "y") - (u.cursor.top ?? -99));
    if (off < distance) {
      distance = off;
      best = i;
    }
  }
  return best;
}
