// Which span a log line belongs to, and the waterfall's rows with the lines between the spans.
import type { LogLine } from "../api/loki";
import { endOf, type Span, type Trace } from "./trace";

/** Lines shown under one span; what is beyond is named in a row of its own. */
export const LINES_PER_SPAN = 8;

/**
 * Lines by span id, oldest first. A line without a span id goes to the deepest span of its service that
 * ran then, or to the nearest: what a consumer writes before it has read the trace is a little early.
 */
export function linesBySpan(trace: Trace, lines: LogLine[]): Map<string, LogLine[]> {
  const byId = new Set(trace.spans.map((span) => span.id));
  const placed = new Map<string, LogLine[]>();
  for (const line of lines) {
    const own = ownSpan(line, byId) ?? around(trace, line)?.id;
    if (!own) continue;
    const at = placed.get(own);
    if (at) at.push(line);
    else placed.set(own, [line]);
  }
  return placed;
}

function ownSpan(line: LogLine, ids: Set<string>): string | undefined {
  for (const id of [line.metadata.span_id, line.parsed.span_id, /span_?id"?\s*[=:]\s*"?([0-9a-f]{16})\b/i.exec(line.line)?.[1]]) {
    const plain = id?.toLowerCase();
    if (plain && ids.has(plain)) return plain;
  }
  return undefined;
}

function around(trace: Trace, line: LogLine): Span | undefined {
  const service = line.stream.service_name ?? line.metadata.service_name;
  const at = nanosAfter(trace, line);
  let best: Span | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const span of trace.spans) {
    if (span.service !== service) continue;
    const away = Math.max(0, span.start - at, at - endOf(span));
    if (away < least || (away === least && best && span.depth > best.depth)) [best, least] = [span, away];
  }
  return best;
}

/** Nanoseconds of a line after the trace's start. */
export const nanosAfter = (trace: Trace, line: LogLine): number => (line.at - trace.startMs) * 1e6;

export type Row = { kind: "span"; span: Span } | { kind: "line"; span: Span; line: LogLine } | { kind: "more"; span: Span; hidden: number };

/** Rows of the waterfall: spans below closed ones are left out, lines stand under their span. */
export function rowsOf(spans: Span[], closed: ReadonlySet<string>, lines: Map<string, LogLine[]> | undefined): Row[] {
  const rows: Row[] = [];
  let hiddenBelow = Number.POSITIVE_INFINITY;
  for (const span of spans) {
    if (span.depth > hiddenBelow) continue;
    hiddenBelow = closed.has(span.id) ? span.depth : Number.POSITIVE_INFINITY;
    rows.push({ kind: "span", span });
    const own = lines?.get(span.id) ?? [];
    for (const line of own.slice(0, LINES_PER_SPAN)) rows.push({ kind: "line", span, line });
    if (own.length > LINES_PER_SPAN) rows.push({ kind: "more", span, hidden: own.length - LINES_PER_SPAN });
  }
  return rows;
}
