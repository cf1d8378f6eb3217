import { expect, test } from "vitest";
import { buildTrace, criticalPath, factsOf, hexId, type RawSpan } from "./trace";

const b64 = (hex: string) => Buffer.from(hex, "hex").toString("base64");
const id = (n: number) => n.toString(16).padStart(16, "0");

const raw = (n: number, parent: number | undefined, from: number, to: number, more: Partial<RawSpan> = {}): RawSpan => ({
  spanId: b64(id(n)),
  parentSpanId: parent === undefined ? undefined : b64(id(parent)),
  name: `span ${n}`,
  startTimeUnixNano: String(1_700_000_000_000_000_000n + BigInt(from)),
  endTimeUnixNano: String(1_700_000_000_000_000_000n + BigInt(to)),
  ...more,
});

const of = (...spans: RawSpan[]) =>
  buildTrace({ resourceSpans: [{ resource: { attributes: [{ key: "service.name", value: { stringValue: "s" } }] }, scopeSpans: [{ spans }] }] });

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
  const linked = of(producer, raw(2, undefined, 35, 40, { kind: "SPAN_KIND_CONSUMER", links: [{ spanId: b64(id(1)) }] }));
  expect(linked.spans[1]?.inBroker).toBe(25);
  expect(child.duration).toBe(40);
});

test("facts and the critical path", () => {
  const trace = of(raw(1, undefined, 0, 10, { attributes: [{ key: "db.query.text", value: { stringValue: "SELECT 1" } }], status: { code: 2, message: "boom" } }), raw(2, 1, 2, 30), raw(3, 1, 2, 4));
  expect(factsOf(trace.spans[0]!)).toBe("SELECT 1 · boom");
  expect([...criticalPath(trace)].sort()).toEqual([id(1), id(2)]);
  expect(trace.errors).toBe(1);
});
