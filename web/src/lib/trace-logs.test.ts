import { expect, test } from "vitest";
import type { LogLine } from "../api/loki";
import { id, raw, traceOf } from "./trace.fixtures";
import { LINES_PER_SPAN, linesBySpan, rowsOf } from "./trace-logs";

const MS = 1_000_000;
const trace = traceOf({ a: [raw(1, undefined, 0, 100 * MS), raw(2, 1, 10 * MS, 50 * MS)], b: [raw(3, 2, 20 * MS, 40 * MS)] });
const line = (text: string, after: number, metadata: Record<string, string> = {}, service = "a"): LogLine => ({ ns: "", at: trace.startMs + after, line: text, stream: { service_name: service }, metadata, parsed: {} });

test.each([
  ["by metadata", line("x", 999, { span_id: id(3) }), id(3)],
  ["by an id in its text", line(`{"span_id":"${id(2)}"}`, 999), id(2)],
  ["without one: the deepest span of its service that ran then", line("x", 30), id(2)],
  ["an id of no span of the trace", line("x", 5, { span_id: id(77) }), id(1)],
  ["of a service that ran nothing then: its nearest span", line("x", 60, {}, "b"), id(3)],
  ["of a service without spans", line("x", 60, {}, "c"), undefined],
])("a line is placed %s", (_, one, want) => expect([...linesBySpan(trace, [one]).keys()][0]).toBe(want));

test("rows: lines below their span, no more than a few, none below a closed span", () => {
  const lines = linesBySpan(trace, Array.from({ length: LINES_PER_SPAN + 3 }, (_, i) => line(`line ${i}`, 30, { span_id: id(2) })));
  const text = (closed: string[], of?: typeof lines) => rowsOf(trace.spans, new Set(closed), of).map((row) => (row.kind === "span" ? row.span.name : row.kind === "more" ? `+${row.hidden}` : "-"));
  expect(text([], lines)).toEqual(["span 1", "span 2", ...Array.from({ length: LINES_PER_SPAN }, () => "-"), "+3", "span 3"]);
  expect(text([id(1)], lines)).toEqual(["span 1"]);
  expect(text([])).toEqual(["span 1", "span 2", "span 3"]);
});
