// Time ranges as the URL writes them: `now`, `now-15m`, or Unix milliseconds.

/** Unix milliseconds. */
export type Range = { from: number; to: number };

const UNITS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** Milliseconds of a duration such as `90s`, `1h30m` or `7d`; `undefined` when it is none. */
export function parseDuration(text: string): number | undefined {
  const pattern = /(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/gy;
  let total = 0;
  let at = 0;
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    total += Number(match[1]) * (UNITS[match[2] ?? ""] ?? 0);
    at = pattern.lastIndex;
  }
  return at === text.length && at > 0 ? total : undefined;
}

/** Unix milliseconds of one end of a range; `undefined` when the text is not understood. */
export function parseTime(text: string, now: number): number | undefined {
  const trimmed = text.trim();
  if (trimmed === "now") return now;
  const relative = /^now-(.+)$/.exec(trimmed);
  if (relative) {
    const back = parseDuration(relative[1] ?? "");
    return back === undefined ? undefined : now - back;
  }
  if (/^\d{9,11}$/.test(trimmed)) return Number(trimmed) * 1000;
  if (/^\d{12,14}$/.test(trimmed)) return Number(trimmed);
  const parsed = Date.parse(trimmed.replace(" ", "T"));
  return Number.isNaN(parsed) ? undefined : parsed;
}

export const isRelative = (text: string): boolean => text.trim().startsWith("now");

/** A range with `from` before `to`; what cannot be read becomes the last 15 minutes. */
export function resolveRange(from: string, to: string, now: number): Range {
  const end = parseTime(to, now) ?? now;
  const start = parseTime(from, now) ?? end - 15 * 60_000;
  return start < end ? { from: start, to: end } : { from: end - 60_000, to: end };
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/** Seconds between two points so that about `points` of them fill the range. */
export function stepFor(range: Range, points = 180): number {
  const wanted = (range.to - range.from) / 1000 / points;
  return STEPS.find((step) => step >= wanted) ?? 86_400;
}

/** The range in whole steps, so that a chart that refreshes keeps its points in place. */
export function alignToStep(range: Range, stepSeconds: number): Range {
  const ms = stepSeconds * 1000;
  return { from: Math.floor(range.from / ms) * ms, to: Math.floor(range.to / ms) * ms };
}

const two = (n: number) => String(n).padStart(2, "0");

/** `03:04:05`, local time. */
export function clock(ms: number, withMillis = false): string {
  const t = new Date(ms);
  const base = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return withMillis ? `${base}.${String(t.getMilliseconds()).padStart(3, "0")}` : base;
}

/** `2026-11-21 03:04:05`, local time. */
export function dateTime(ms: number): string {
  const t = new Date(ms);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(ms)}`;
}

/** The clock alone when it was today, else date and clock. */
export function moment(ms: number, now: number): string {
  return new Date(ms).toDateString() === new Date(now).toDateString() ? clock(ms) : dateTime(ms);
}

/** `12 s`, `4 min`, `3 h`, `2 d`: one unit, rounded down, for reading aloud. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.floor(s / 60)} min`;
  if (s < 129_600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

export const ago = (ms: number, now: number): string => `${span(now - ms)} ago`;

export const parseIso = (text: string | undefined): number | undefined => {
  if (!text) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
};

/** What the range picker shows: `last 15 min`, or both ends. */
export function rangeLabel(from: string, to: string, now: number): string {
  const back = /^now-(.+)$/.exec(from);
  const ms = back ? parseDuration(back[1] ?? "") : undefined;
  if (ms !== undefined && to === "now") return `last ${span(ms)}`;
  const range = resolveRange(from, to, now);
  return `${moment(range.from, now)} – ${moment(range.to, now)}`;
}
