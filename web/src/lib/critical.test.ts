import { expect, test } from "vitest";
import { criticalPath, stepsOf } from "./critical";
import type { RawSpan } from "./trace";
import { of, raw } from "./trace.fixtures";

const PRODUCER = { kind: 4 };
const CONSUMER = { kind: 5 };

const CASES: { name: string; spans: RawSpan[]; path: string }[] = [
  { name: "one span", spans: [raw(1, undefined, 0, 10)], path: "1:0-10" },
  { name: "no length", spans: [raw(1, undefined, 0, 0)], path: "" },
  { name: "calls one after the other", spans: [raw(1, undefined, 0, 100), raw(2, 1, 10, 40), raw(3, 1, 50, 90)], path: "1:0-10 2:10-40 1:40-50 3:50-90 1:90-100" },
  { name: "calls side by side: the later end counts, the other is not waited for", spans: [raw(1, undefined, 0, 100), raw(2, 1, 10, 60), raw(3, 1, 20, 90)], path: "1:0-20 3:20-90 1:90-100" },
  { name: "side by side after one that was waited for", spans: [raw(1, undefined, 0, 100), raw(4, 1, 0, 15), raw(2, 1, 20, 60), raw(3, 1, 20, 90)], path: "4:0-15 1:15-20 3:20-90 1:90-100" },
  { name: "nested", spans: [raw(1, undefined, 0, 100), raw(2, 1, 10, 90), raw(3, 2, 20, 80)], path: "1:0-10 2:10-20 3:20-80 2:80-90 1:90-100" },
  { name: "a child that outlives its parent decides the end", spans: [raw(1, undefined, 0, 50), raw(2, 1, 10, 80)], path: "1:0-10 2:10-80" },
  { name: "a child that was started and left", spans: [raw(1, undefined, 0, 50), raw(2, 1, 60, 80)], path: "1:0-50 gap:2:50-60 2:60-80" },
  { name: "a message", spans: [raw(1, undefined, 0, 10, PRODUCER), raw(2, 1, 35, 60, CONSUMER)], path: "1:0-10 queue:2:10-35 2:35-60" },
  {
    name: "a chain of messages, with work that nothing waited for",
    spans: [raw(1, undefined, 0, 5, PRODUCER), raw(2, 1, 20, 60, CONSUMER), raw(3, 2, 22, 40), raw(4, 2, 45, 48, PRODUCER), raw(5, 4, 55, 90, CONSUMER)],
    path: "1:0-5 queue:2:5-20 2:20-22 3:22-40 2:40-45 4:45-48 queue:5:48-55 5:55-90",
  },
  {
    name: "of two consumers the later one counts",
    spans: [raw(1, undefined, 0, 10, PRODUCER), raw(2, 1, 20, 30, CONSUMER), raw(3, 1, 25, 70, CONSUMER)],
    path: "1:0-10 queue:3:10-25 3:25-70",
  },
  {
    name: "a consumer by link",
    spans: [raw(1, undefined, 0, 10, PRODUCER), raw(2, undefined, 30, 40, { ...CONSUMER, links: [{ spanId: "0000000000000001" }] })],
    path: "1:0-10 queue:2:10-30 2:30-40",
  },
  { name: "spans without a common root", spans: [raw(1, 8, 0, 10), raw(2, 9, 30, 40)], path: "gap:2:0-30 2:30-40" },
  { name: "a child before its parent", spans: [raw(1, undefined, 10, 50), raw(2, 1, 0, 20)], path: "gap:2:0-10 2:10-20 1:20-50" },
];

test.each(CASES)("$name", ({ spans, path }) => {
  const text = criticalPath(of(...spans)).map(({ kind, span, from, to }) => `${kind === "own" ? "" : `${kind}:`}${span.name.slice(5)}:${from}-${to}`);
  expect(text.join(" ")).toBe(path);
});

test("pieces cover a trace without holes, whatever its shape, and a large one at once", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below;
  for (let round = 0; round < 300; round++) {
    const spans = Array.from({ length: 1 + random(30) }, (_, i) => {
      const from = random(1000);
      return raw(i + 1, i === 0 ? undefined : 1 + random(i), from, from + random(400), { kind: random(6) });
    });
    const trace = of(...spans);
    const path = criticalPath(trace);
    expect(path.reduce((sum, { from, to }) => sum + to - from, 0)).toBe(trace.duration);
    path.forEach((piece, i) => expect(piece.from).toBe(i === 0 ? 0 : path[i - 1]?.to));
  }
  const wide = of(raw(1, undefined, 0, 1_000_000), ...Array.from({ length: 100_000 }, (_, i) => raw(i + 2, 1, i * 10, i * 10 + 5)));
  expect(criticalPath(wide)).toHaveLength(200_000);
});

test("steps add pieces up by operation", () => {
  const trace = of(raw(1, undefined, 0, 100), raw(2, 1, 10, 20, { name: "GET" }), raw(3, 1, 30, 70, { name: "GET" }));
  expect(stepsOf(criticalPath(trace)).map(({ kind, name, time, spans, longest }) => [kind, name, time, spans, longest.name])).toEqual([
    ["own", "GET", 50, 2, "GET"],
    ["own", "span 1", 50, 1, "span 1"],
  ]);
});
