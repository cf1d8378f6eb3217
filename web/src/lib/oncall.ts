// On call: weeks of a calendar, and what people type into the forms of overrides and silences.

export interface Stretch {
  start: string;
  end: string;
  person: string | null;
  layer?: string;
  override?: string;
}

export interface Bar {
  person: string | null;
  /** Percent of the row. */
  left: number;
  width: number;
  start: number;
  end: number;
  stands_in: boolean;
}

const DAY = 86_400_000;

/** The Monday, local midnight, of the week that an instant belongs to, some weeks later. */
export function weekStart(ms: number, later = 0): number {
  const t = new Date(ms);
  t.setHours(0, 0, 0, 0);
  t.setDate(t.getDate() - ((t.getDay() + 6) % 7) + 7 * later);
  return t.getTime();
}

/** Local midnights of a week and of the Monday after it: not always 24 hours apart. */
export function daysOf(week: number): number[] {
  return Array.from({ length: 8 }, (_, n) => {
    const t = new Date(week);
    t.setDate(t.getDate() + n);
    return t.getTime();
  });
}

/** What of the stretches lies within a row, as parts of its width. */
export function bars(stretches: Stretch[], from: number, to: number): Bar[] {
  const whole = to - from;
  return stretches.flatMap((one) => {
    const [start, end] = [Date.parse(one.start), Date.parse(one.end)];
    const [a, b] = [Math.max(start, from), Math.min(end, to)];
    if (!(a < b)) return [];
    return [{ person: one.person, left: ((a - from) / whole) * 100, width: ((b - a) / whole) * 100, start, end, stands_in: one.override !== undefined }];
  });
}

/** A hue for each person, far from that of the next. */
export const hueOf = (people: { name: string }[], name: string): number => Math.round(Math.max(0, people.findIndex((p) => p.name === name)) * 137.5) % 360;

const two = (n: number) => String(n).padStart(2, "0");

/** As an input of kind `datetime-local` has it, to the minute. */
export function inputTime(ms: number): string {
  const t = new Date(ms);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}T${two(t.getHours())}:${two(t.getMinutes())}`;
}

/** `undefined` for what is no time. */
export function fromInput(text: string): number | undefined {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

/** `Mon 24 Nov, 09:00`. */
export function dayAndTime(ms: number): string {
  const t = new Date(ms);
  const day = t.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" });
  return `${day}, ${two(t.getHours())}:${two(t.getMinutes())}`;
}

export const isDayOf = (day: number, now: number): boolean => day <= now && now < day + DAY;

export interface Matcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}

/** One matcher per line or between commas: `severity="page"`, `job=~"api.*"`, `env!=dev`. An error is text. */
export function parseMatchers(text: string): Matcher[] | string {
  const out: Matcher[] = [];
  let rest = text.trim().replace(/^\{/, "").replace(/\}$/, "").trim();
  while (rest !== "") {
    const head = /^([a-zA-Z_][a-zA-Z0-9_.]*|"(?:[^"\\]|\\.)*")\s*(=~|!~|!=|=)\s*/.exec(rest);
    if (!head) return `“${rest.slice(0, 40)}” is not a matcher; write it as severity="page"`;
    rest = rest.slice(head[0].length);
    const value = /^"(?:[^"\\]|\\.)*"|^[^",\n]+/.exec(rest);
    if (!value) return `${head[1]} is compared with nothing`;
    rest = rest.slice(value[0].length).trimStart();
    if (rest !== "" && !/^[,\n]/.test(rest) && value[0].startsWith('"')) {
      if (!/^[a-zA-Z_"]/.test(rest)) return `a comma is missing before “${rest.slice(0, 40)}”`;
    }
    rest = rest.replace(/^[\s,]+/, "");
    out.push({ name: unquote(head[1] ?? ""), value: unquote(value[0].trim()), isRegex: (head[2] ?? "").includes("~"), isEqual: !(head[2] ?? "").startsWith("!") });
  }
  return out.length === 0 ? "give at least one matcher" : out;
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.slice(1, -1);
  }
}

/** As Alertmanager's `filter` wants it. */
export const showMatcher = (m: Matcher): string => `${m.name}${m.isEqual ? "=" : "!"}${m.isRegex ? "~" : m.isEqual ? "" : "="}${JSON.stringify(m.value)}`;
