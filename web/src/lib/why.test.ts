import { expect, test } from "vitest";
import { criticalPath } from "./critical";
import { profileOf, usualOf } from "./trace-compare";
import type { RawSpan, Trace } from "./trace";
import { raw, traceOf } from "./trace.fixtures";
import { type Normal, why } from "./why";

const MS = 1_000_000;
const span = (n: number, parent: number | undefined, from: number, to: number, more: Parameters<typeof raw>[4] = {}): RawSpan => raw(n, parent, from * MS, to * MS, more);
const said = (trace: Trace, normal?: Normal) => why(trace, criticalPath(trace), normal).map(({ kind, tone, text }) => `${kind} ${tone} ${text}`);

/** Alike in all traces but for the time of the query. */
const lookup = (query: number) =>
  traceOf({
    feed: [span(1, undefined, 0, 3, { name: "publish", kind: 4 })],
    enricher: [
      span(2, 1, 20, 30 + query, { name: "process", kind: 5, attributes: { "messaging.destination.name": "events" } }),
      span(3, 2, 22, 22 + query, { name: "SELECT", attributes: { "db.query.text": "SELECT name FROM players" } }),
    ],
  });

const normal: Normal = {
  profile: usualOf([lookup(1), lookup(2), lookup(3)].map((one) => profileOf(one))),
  traces: 3,
  quantiles: [{ quantile: 0.5, nanos: 32 * MS }, { quantile: 0.99, nanos: 90 * MS }],
  count: 1204,
};

test("the operation that grew stands first, with its statement and what is usual", () => {
  const trace = lookup(370);
  expect(said(trace, normal)).toEqual(["total warn It took 400 ms, 12.5 times the usual 32 ms.".replace("12.5", "13"), "own warn SELECT of enricher worked 370 ms itself."]);
  const [total, own] = why(trace, criticalPath(trace), normal);
  expect(total?.evidence).toEqual(["longer than 99 % of 1204 traces of the same operation in the 6 hours before"]);
  expect(own?.evidence).toEqual(["92.5 % of the way", "usually 2 ms: 185 times as long", "SELECT name FROM players"]);
  expect(own?.span?.name).toBe("SELECT");
});

test("a usual trace says so, and its parts are no warnings", () => {
  expect(said(lookup(2), normal)).toEqual([
    "total info It took 32 ms; the median is 32 ms.",
    "queue info Messages waited 17 ms in events before enricher took them.",
    "own info process of enricher worked 10 ms itself.",
  ]);
});

const SHAPES: { name: string; trace: Trace; want: string[] }[] = [
  { name: "nothing", trace: traceOf({}), want: [] },
  {
    name: "a long wait in the broker",
    trace: traceOf({ a: [span(1, undefined, 0, 1, { kind: 4 })], b: [span(2, 1, 900, 910, { kind: 5, attributes: { "messaging.destination.name": "events" } })] }),
    want: ["queue info Messages waited 899 ms in events before b took them."],
  },
  {
    name: "a hole that no span covers",
    trace: traceOf({ a: [span(1, undefined, 0, 10), span(2, 1, 90, 100, { name: "late" })] }),
    want: ["gap info Nothing that is stored ran for 80 ms before late of a.", "own info late of a worked 10 ms itself.", "own info span 1 of a worked 10 ms itself."],
  },
  {
    name: "where a failure began, not where it was passed on",
    trace: traceOf({
      a: [span(1, undefined, 0, 10, { name: "GET", status: { code: 2, message: "500" } })],
      b: [span(2, 1, 1, 9, { name: "INSERT", status: { code: 2 }, events: [{ name: "exception", attributes: [{ key: "exception.message", value: { stringValue: "disk full" } }] }] })],
    }),
    want: ["error bad INSERT of b failed: disk full", "own info INSERT of b worked 8 ms itself.", "own info GET of a worked 2 ms itself."],
  },
  {
    name: "one query per row",
    trace: traceOf({ a: [span(1, undefined, 0, 100, { name: "list" }), ...Array.from({ length: 9 }, (_, i) => span(2 + i, 1, i * 10, i * 10 + 9, { name: "SELECT" }))] }),
    want: ["own info SELECT of a worked 81 ms itself.", "repeat warn list of a made the call SELECT 9 times, one after the other: 81 ms.", "own info list of a worked 19 ms itself."],
  },
  {
    name: "calls side by side are no repeats",
    trace: traceOf({ a: [span(1, undefined, 0, 100, { name: "list" }), ...Array.from({ length: 9 }, (_, i) => span(2 + i, 1, 0, 90, { name: "SELECT" }))] }),
    want: ["own info SELECT of a worked 90 ms itself.", "own info list of a worked 10 ms itself."],
  },
  {
    name: "attempts",
    trace: traceOf({ a: [span(1, undefined, 0, 100, { name: "GET" }), span(2, 1, 0, 30, { name: "POST", status: { code: 2, message: "refused" } }), span(3, 1, 60, 90, { name: "POST" })] }),
    want: ["own info POST of a worked 60 ms itself.", "retry warn POST of a was tried 2 times before it went well.", "own info GET of a worked 40 ms itself.", "error bad POST of a failed: refused"],
  },
  { name: "a parent that is not stored", trace: traceOf({ a: [span(1, 9, 0, 10)] }), want: ["own info span 1 of a worked 10 ms itself.", "incomplete info What called one span is not stored: the trace is incomplete."] },
  {
    name: "a clock that is off",
    trace: traceOf({ a: [span(1, undefined, 50, 100, { kind: 3 })], b: [span(2, 1, 0, 50, { kind: 2 })] }),
    want: ["own info span 2 of b worked 50 ms itself.", "clock info The clock of b is behind: its spans are shown 50 ms later than they say."],
  },
];

test.each(SHAPES)("$name", ({ trace, want }) => expect(said(trace)).toEqual(want));
