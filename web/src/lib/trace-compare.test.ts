import { expect, test } from "vitest";
import { differences, median, profileOf, usualOf } from "./trace-compare";
import { raw, traceOf } from "./trace.fixtures";

const trip = (wait: number, query: number, queries = 1) =>
  traceOf({
    web: [raw(1, undefined, 0, 10, { name: "send", kind: 4 })],
    api: [
      raw(2, 1, 10 + wait, 20 + wait + query * queries, { name: "take", kind: 5 }),
      ...Array.from({ length: queries }, (_, i) => raw(3 + i, 2, 15 + wait + i * query, 15 + wait + (i + 1) * query, { name: "SELECT" })),
    ],
  });

test("a profile has own time, queue and calls by operation", () => {
  const { duration, costs } = profileOf(trip(30, 50, 2));
  expect(duration).toBe(150);
  expect([...costs.values()]).toEqual([
    { service: "web", name: "send", calls: 1, errors: 0, self: 10, critical: 10, queue: 0 },
    { service: "api", name: "take", calls: 1, errors: 0, self: 10, critical: 10, queue: 30 },
    { service: "api", name: "SELECT", calls: 2, errors: 0, self: 100, critical: 100, queue: 0 },
  ]);
});

test("usual is the median, with 0 where an operation is not called", () => {
  expect([median([]), median([3]), median([4, 1, 9]), median([1, 2, 3, 10])]).toEqual([0, 3, 4, 2.5]);
  const usual = usualOf([trip(10, 50), trip(20, 60), trip(30, 900, 0)].map((one) => profileOf(one)));
  expect(usual.costs.get("api\nSELECT")).toMatchObject({ calls: 1, self: 50 });
  expect(usual.costs.get("api\ntake")?.queue).toBe(20);
});

test("differences by size, with operations that only one side has", () => {
  const rows = differences(profileOf(trip(30, 500)), profileOf(trip(40, 0, 0)));
  expect(rows.map(({ name, more, there }) => [name, more, there === undefined])).toEqual([["SELECT", 500, true], ["take", -10, false], ["send", 0, false]]);
});
