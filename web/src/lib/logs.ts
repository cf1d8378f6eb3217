// What a log line says beyond its text: level, trace, and how to filter for one of its values.
import { quote } from "./pivot";

export interface Fields {
  stream: Record<string, string>;
  metadata: Record<string, string>;
  parsed: Record<string, string>;
  line: string;
}

/** Unix milliseconds of a text of nanoseconds, without the loss that a float brings. */
export const entryTime = (ns: string): number => Number(ns.slice(0, -6)) + Number(ns.slice(-6)) / 1e6;

const LEVEL_NAMES = ["detected_level", "level", "severity_text", "severity", "lvl", "loglevel"];

const LEVELS: Record<string, string> = {
  trc: "trace", trace: "trace",
  dbg: "debug", debug: "debug",
  inf: "info", info: "info", information: "info", notice: "info",
  wrn: "warn", warn: "warn", warning: "warn",
  err: "error", error: "error", eror: "error",
  crit: "critical", critical: "critical", alert: "critical",
  fatal: "fatal", panic: "fatal", emergency: "fatal",
};

export const levelName = (text: string): string => LEVELS[text.toLowerCase()] ?? (text ? text.toLowerCase() : "unknown");

export function levelOf(line: Fields): string {
  for (const source of [line.metadata, line.parsed, line.stream]) {
    for (const name of LEVEL_NAMES) {
      const value = source[name];
      if (value) return levelName(value);
    }
  }
  const inText = /"(?:level|severity)"\s*:\s*"(\w+)"|\b(?:level|lvl)=(\w+)/i.exec(line.line);
  return inText ? levelName(inText[1] ?? inText[2] ?? "") : "unknown";
}

const TRACE_NAMES = ["trace_id", "traceid", "traceID", "traceId", "dd.trace_id"];

/** The trace of a line: from metadata or parsed fields, else as its text writes it. */
export function traceOf(line: Fields): string | undefined {
  for (const source of [line.metadata, line.parsed, line.stream]) {
    for (const name of TRACE_NAMES) {
      const value = source[name]?.replaceAll("-", "");
      if (value && /^[0-9a-f]{16,32}$/i.test(value) && !/^0+$/.test(value)) return value.toLowerCase();
    }
  }
  const inText = /trace_?id"?\s*[=:]\s*"?([0-9a-f]{32}|[0-9a-f]{16})\b/i.exec(line.line);
  return inText?.[1]?.toLowerCase();
}

/** Fields of a JSON line, one level deep and texts only; empty for other lines. */
export function jsonFields(line: string): Record<string, string> {
  if (!line.startsWith("{")) return {};
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return {};
    return Object.fromEntries(
      Object.entries(parsed).map(([name, value]) => [name, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value)]),
    );
  } catch {
    return {};
  }
}

/** The sentence inside a JSON line, when there is one. */
export function messageOf(line: string): string | undefined {
  const fields = jsonFields(line);
  return fields.message ?? fields.msg ?? fields.body ?? fields.event;
}

/** `query` with a condition on an index label: inside the selector, replacing an equal one. */
export function withLabel(query: string, label: string, value: string, negate = false): string {
  const matcher = `${label}${negate ? "!=" : "="}${quote(value)}`;
  const end = selectorEnd(query);
  if (end === undefined) return `{${matcher}}`;
  const inner = query.slice(1, end).trim().replace(/,$/, "");
  if (inner.split(/,\s*/).includes(matcher)) return query;
  return `{${inner ? `${inner}, ` : ""}${matcher}}${query.slice(end + 1)}`;
}

/** `query` with a condition on a field that a parser or structured metadata gives. */
export function withField(query: string, field: string, value: string, parser?: "json" | "logfmt", negate = false): string {
  const needsParser = parser && !new RegExp(`\\|\\s*${parser}\\b`).test(query);
  const condition = ` | ${field}${negate ? "!=" : "="}${quote(value)}`;
  if (query.includes(condition.trim())) return query;
  return `${query.trim()}${needsParser ? ` | ${parser}` : ""}${condition}`;
}

/** Place of the brace that closes the stream selector at the start of a query. */
function selectorEnd(query: string): number | undefined {
  if (!query.startsWith("{")) return undefined;
  let quoted = "";
  for (let i = 1; i < query.length; i++) {
    const c = query[i] ?? "";
    if (quoted) {
      if (c === "\\" && quoted === '"') i += 1;
      else if (c === quoted) quoted = "";
    } else if (c === '"' || c === "`") quoted = c;
    else if (c === "}") return i;
  }
  return undefined;
}

/** The stream selector alone. */
export const selectorOf = (query: string): string | undefined => {
  const end = selectorEnd(query.trim());
  return end === undefined ? undefined : query.trim().slice(0, end + 1);
};

export const isMetricQuery = (query: string): boolean => query.trim() !== "" && !query.trim().startsWith("{");

/** Counts lines of a log query by level and step; metric queries have no volume of their own. */
export const volumeQuery = (query: string, step: number): string =>
  isMetricQuery(query) || query.trim() === "" ? "" : `sum by (detected_level) (count_over_time(${query.trim()} [${step}s]))`;
