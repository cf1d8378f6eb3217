import { expect, test } from "vitest";
import { factsOf, hexId } from "./trace";
import { id, of, raw, traceOf } from "./trace.fixtures";

test("ids in base64 and in hex", () => {
  expect(hexId("AAAAAAAAAAE=")).toBe("0000000000000001");
  expect(hexId("0AF7651916CD43DD")).toBe("0af7651916cd43dd");
  expect(hexId(undefined)).toBe("");
});

test("a tree in waterfall order with exclusive times", () => {
  const trace = of(raw(3, 1, 50, 90), raw(1, undefined, 0, 100), raw(2, 1, 10, 60), raw(4, 2, 20, 30));
  expect(trace.spans.map((s) => [s.name, s.depth])).toEqual([["span 1", 0], ["span 2", 1], ["span 4", 2], ["span 3", 1]]);
  expect(trace.root?.self).toBe(20);
  expect(trace.duration).toBe(100);
  expect(trace.startMs).toBe(1_700_000_000_000);
});

test("orphans and rings are shown, not lost", () => {
  expect(of(raw(1, 9, 0, 10)).spans).toHaveLength(1);
  expect(of(raw(1, 2, 0, 10), raw(2, 1, 0, 10)).spans).toHaveLength(2);
  expect(of(raw(1, 1, 0, 10)).spans).toHaveLength(1);
  expect(of().spans).toEqual([]);
});

test("time in the broker, by parent and by link", () => {
  const producer = raw(1, undefined, 0, 10, { kind: "SPAN_KIND_PRODUCER" });
  const child = of(producer, raw(2, 1, 35, 40, { kind: 5 }));
  expect(child.spans[1]?.inBroker).toBe(25);
  const linked = of(producer, raw(2, undefined, 35, 40, { kind: "SPAN_KIND_CONSUMER", links: [{ spanId: id(1) }] }));
  expect(linked.spans[1]).toMatchObject({ inBroker: 25, linked: true, depth: 1 });
  expect(child.duration).toBe(40);
});

test("facts", () => {
  const trace = of(raw(1, undefined, 0, 10, { attributes: { "db.query.text": "SELECT 1" }, status: { code: 2, message: "boom" } }), raw(2, 1, 2, 30), raw(3, 1, 2, 4));
  expect(factsOf(trace.spans[0]!)).toBe("SELECT 1 · boom");
  expect(trace.errors).toBe(1);
});

test("of a ring one span is the root, and a long chain is read in one pass", () => {
  const ring = of(raw(1, 3, 0, 10), raw(2, 1, 0, 10), raw(3, 2, 0, 10));
  expect(ring.spans.map((s) => s.depth)).toEqual([0, 1, 2]);
  const chain = of(...Array.from({ length: 50_000 }, (_, i) => raw(i + 1, i === 0 ? undefined : i, i, 60_000)));
  expect(chain.spans.at(-1)?.depth).toBe(49_999);
  expect(chain.duration).toBe(60_000);
});

test("clocks that are off are put right in the view", () => {
  const client = { kind: 3 };
  const server = { kind: 2 };
  // Of two services: the server would begin 40 before its client calls.
  const trace = traceOf({ web: [raw(1, undefined, 100, 200, client)], api: [raw(2, 1, 60, 120, server), raw(3, 2, 70, 80)] });
  expect(trace.spans.map((s) => [s.start, s.duration])).toEqual([[0, 100], [20, 60], [30, 10]]);
  expect(trace.skews).toEqual([{ service: "api", nanos: 60 }]);
  // A server that takes longer than the call says nothing of clocks, nor does one that begins in time.
  expect(traceOf({ web: [raw(1, undefined, 100, 200, client)], api: [raw(2, 1, 60, 220, server)] }).skews).toEqual([]);
  expect(traceOf({ web: [raw(1, undefined, 0, 100, client)], api: [raw(2, 1, 60, 120, server)] }).skews).toEqual([]);
  const early = traceOf({ a: [raw(1, undefined, 100, 110, { kind: 4 })], b: [raw(2, 1, 50, 70, { kind: 5 })] });
  expect(early.spans.map((s) => s.start)).toEqual([0, 10]);
});
