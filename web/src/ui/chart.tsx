// A time chart: uPlot with the page's colours, a threshold, marked moments and zoom by dragging.
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { withUnit } from "../lib/format";
import type { Range } from "../lib/time";
import { clock, dateTime } from "../lib/time";
import { type ChartSeries, joinSeries } from "../lib/align";
import { colorOf } from "../lib/palette";
import { Legend } from "./legend";

export interface Mark {
  at: number;
  label: string;
  tone: "bad" | "warn" | "info";
}

interface ChartProps {
  series: ChartSeries[];
  range: Range;
  unit?: string;
  height?: number;
  threshold?: number;
  marks?: Mark[];
  bars?: boolean;
  legend?: boolean;
  /** Dragging over a part of the time axis. */
  onZoom?: (range: Range) => void;
  /** A click on the plot, at this time and nearest this series. */
  onPick?: (at: number, series: number | undefined) => void;
}

const TONES = { bad: "#e03131", warn: "#e8890c", info: "#4263eb" };

const sync = uPlot.sync("weir");

export function Chart(props: ChartProps) {
  const { series, range, unit, height = 170, threshold, marks, bars, legend = true } = props;
  const dark = useComputedColorScheme("light") === "dark";
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [alone, setAlone] = useState<number>();
  const [cursor, setCursor] = useState<number | null>(null);
  // uPlot keeps its hooks for life; they read what is current from here.
  const live = useRef({ props, marks, threshold, dark, range });
  live.current = { props, marks, threshold, dark, range };

  const data = useMemo(() => joinSeries(series), [series]);
  const shape = `${series.length}|${unit}|${bars}|${dark}|${height}|${series.map((s) => s.color ?? "").join()}`;

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const made = new uPlot(
      options(element.clientWidth, height, series, unit, bars ?? false, dark, live, setCursor),
      data,
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => {
      const width = element.clientWidth;
      if (width > 0 && width !== made.width) made.setSize({ width, height });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      sync.unsub(made);
      made.destroy();
      plot.current = undefined;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(data);
  }, [data, range.from, range.to, threshold, marks]);

  useEffect(() => {
    series.forEach((_, i) => plot.current?.setSeries(i + 1, { show: alone === undefined || alone === i }));
  }, [alone, series.length, shape]);

  return (
    <div className="chart">
      <div ref={host} className="chart-plot" style={{ height }} />
      {legend && series.length > 0 && (
        <Legend series={series} data={data} cursor={cursor} unit={unit} alone={alone} onAlone={setAlone} />
      )}
    </div>
  );
}

type Live = React.RefObject<{
  props: ChartProps;
  marks?: Mark[];
  threshold?: number;
  dark: boolean;
  range: Range;
}>;

function options(
  width: number,
  height: number,
  series: ChartSeries[],
  unit: string | undefined,
  bars: boolean,
  dark: boolean,
  live: Live,
  onCursor: (index: number | null) => void,
): uPlot.Options {
  const ink = dark ? "#909296" : "#6c727a";
  const grid = { stroke: dark ? "rgba(255,255,255,.07)" : "rgba(0,0,0,.07)", width: 1 };
  const font = "11px system-ui, sans-serif";
  const labels = (_: uPlot, splits: number[]) => splits.map((value) => withUnit(value, unit));
  return {
    width: Math.max(width, 120),
    height,
    legend: { show: false },
    padding: [8, 10, 0, 0],
    cursor: {
      sync: { key: sync.key, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      focus: { prox: 24 },
      points: { size: 6 },
    },
    scales: {
      x: { time: true, range: () => [live.current.range.from / 1000, live.current.range.to / 1000] },
      y: { range: (_, low, high) => yRange(low, high, live.current.threshold) },
    },
    axes: [
      { stroke: ink, grid, ticks: { show: false }, font, space: 70, size: 26, values: (u, splits) => timeLabels(u, splits) },
      { stroke: ink, grid, ticks: { show: false }, font, size: (u, values) => axisWidth(u, values), values: labels, space: 34 },
    ],
    series: [
      {},
      ...series.map((one, i): uPlot.Series => {
        const color = one.color ?? colorOf(i, dark);
        return {
          label: one.name,
          stroke: color,
          width: 1.5,
          spanGaps: false,
          points: { show: (u, at) => sparse(u, at), size: 5, fill: color },
          ...(bars
            ? { paths: uPlot.paths.bars?.({ size: [0.9, 24] }), fill: color, width: 0, points: { show: false } }
            : { fill: series.length === 1 ? `${color}1f` : undefined }),
        };
      }),
    ],
    hooks: {
      draw: [(u) => drawMarks(u, live.current, unit)],
      setCursor: [(u) => onCursor(u.cursor.idx ?? null)],
      setSelect: [
        (u) => {
          if (u.select.width < 8) return;
          const from = u.posToVal(u.select.left, "x") * 1000;
          const to = u.posToVal(u.select.left + u.select.width, "x") * 1000;
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          live.current.props.onZoom?.({ from: Math.floor(from), to: Math.ceil(to) });
        },
      ],
      ready: [
        (u) => {
          u.over.addEventListener("click", () => {
            const { left, idx } = u.cursor;
            if (left === undefined || left < 0 || u.select.width > 2) return;
            live.current.props.onPick?.(u.posToVal(left, "x") * 1000, nearest(u, idx));
          });
        },
      ],
    },
  };
}

/** From zero when the values are positive, with room on top, and with the threshold in view. */
function yRange(low: number | null, high: number | null, threshold: number | undefined): [number, number] {
  const values = [low ?? 0, high ?? 1, ...(threshold === undefined ? [] : [threshold])].filter(Number.isFinite);
  const max = Math.max(...values);
  const min = Math.min(0, ...values);
  const room = (max - min) * 0.08 || Math.abs(max) * 0.1 || 1;
  return [min < 0 ? min - room : 0, max + room];
}

/** Draws dots for points that no line reaches: a few samples in a wide range. */
function sparse(u: uPlot, at: number): boolean {
  const values = u.data[at] ?? [];
  let n = 0;
  for (const value of values) if (value != null) n += 1;
  return n < 4;
}

function timeLabels(u: uPlot, splits: number[]): string[] {
  const from = (u.scales.x?.min ?? 0) * 1000;
  const to = (u.scales.x?.max ?? 0) * 1000;
  const days = to - from > 26 * 3_600_000;
  const fine = to - from < 8 * 60_000;
  return splits.map((t) => (days ? dateTime(t * 1000).slice(5, 16) : fine ? clock(t * 1000) : clock(t * 1000).slice(0, 5)));
}

const axisWidth = (_: uPlot, values: string[] | null): number =>
  Math.max(34, Math.max(0, ...(values ?? []).map((text) => text.length)) * 6.4 + 10);

function nearest(u: uPlot, idx: number | null | undefined): number | undefined {
  const y = u.cursor.top;
  if (idx == null || y === undefined) return undefined;
  let best: number | undefined;
  let distance = Number.POSITIVE_INFINITY;
  for (let i = 1; i < u.data.length; i++) {
    const value = u.data[i]?.[idx];
    if (value == null || !u.series[i]?.show) continue;
    const off = Math.abs(u.valToPos(value, "y") - y);
    if (off < distance) {
      distance = off;
      best = i - 1;
    }
  }
  return best;
}

interface Drawn {
  marks?: Mark[];
  threshold?: number;
  range: Range;
  dark: boolean;
}

function drawMarks(u: uPlot, { marks, threshold, range, dark }: Drawn, unit: string | undefined) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.lineWidth = devicePixelRatio;
  if (threshold !== undefined) {
    const y = u.valToPos(threshold, "y", true);
    ctx.strokeStyle = TONES.bad;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    line(ctx, bbox.left, y, bbox.left + bbox.width, y);
    ctx.textAlign = "left";
    label(ctx, `threshold ${withUnit(threshold, unit)}`, bbox.left + 4 * devicePixelRatio, y - 4 * devicePixelRatio, TONES.bad, dark);
  }
  let side = 0;
  for (const mark of marks ?? []) {
    if (mark.at < range.from || mark.at > range.to) continue;
    const x = u.valToPos(mark.at / 1000, "x", true);
    ctx.strokeStyle = TONES[mark.tone];
    ctx.setLineDash(mark.tone === "info" ? [2 * devicePixelRatio, 3 * devicePixelRatio] : []);
    line(ctx, x, bbox.top, x, bbox.top + bbox.height);
    const right = x + ctx.measureText(mark.label).width + 12 > bbox.left + bbox.width;
    ctx.textAlign = right ? "right" : "left";
    label(ctx, mark.label, x + (right ? -5 : 5) * devicePixelRatio, bbox.top + (12 + 13 * side) * devicePixelRatio, dark ? "#e9ecef" : "#212529", dark);
    side = (side + 1) % 3;
  }
  ctx.restore();
}

/** Text with a rim of the background, so that it is read over lines. */
function label(ctx: CanvasRenderingContext2D, text: string, x: number, y: number, color: string, dark: boolean) {
  ctx.setLineDash([]);
  const width = ctx.lineWidth;
  ctx.lineJoin = "round";
  ctx.lineWidth = 4 * devicePixelRatio;
  ctx.strokeStyle = dark ? "#1c2024" : "#ffffff";
  ctx.strokeText(text, x, y);
  ctx.lineWidth = width;
  ctx.fillStyle = color;
  ctx.fillText(text, x, y);
}

function line(ctx: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}
