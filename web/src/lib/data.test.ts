import { expect, test } from "vitest";
import { joinSeries } from "./align";
import { inFlowOrder } from "./graph";
import { health } from "./health";
import { objectives } from "./slo";
import { legendNames } from "../api/prom";
import type { MapNode } from "../api/types";

test("series of one axis keep their gaps", () => {
  const joined = joinSeries([
    { name: "a", times: [1, 2, 4], values: [1, 2, 4] },
    { name: "b", times: [2, 3], values: [Number.NaN, 9] },
  ]);
  expect(joined[0]).toEqual([1, 2, 3, 4]);
  expect(joined[1]?.[0]).toBe(1);
  expect(joined[2]).toEqual([null, null, 9, null]);
});

test("series of interleaved axes are joined, holes stay", () => {
  const [, a] = joinSeries([
    { name: "a", times: [0, 10, 20, 60], values: [0, 10, 20, 60] },
    { name: "b", times: [5, 15, 40], values: [1, 1, 1] },
  ]);
  expect(a).toEqual([0, 5, 10, 15, 20, null, 60]);
});

const node = (id: string): MapNode => ({ id, kind: "service", name: id, rate: 1, error_ratio: 0, p50_ms: 0, p95_ms: 0, p99_ms: 0, firing: 0, pending: 0, versions: [] });
const edge = (from: string, to: string) => ({ from, to, kind: "call" as const, rate: 1, error_ratio: 0, p50_ms: 0, p95_ms: 0, p99_ms: 0 });

test("nodes stand in the order of the flow, also with a cycle", () => {
  const map = { nodes: ["c", "a", "b"].map(node), edges: [edge("a", "b"), edge("b", "c")] };
  expect(inFlowOrder(map).map((n) => n.id)).toEqual(["a", "b", "c"]);
  const cycle = { nodes: ["x", "y"].map(node), edges: [edge("x", "y"), edge("y", "x")] };
  expect(inFlowOrder(cycle)).toHaveLength(2);
});

test.each([
  [{ rate: 1, error_ratio: 0 }, "ok"],
  [{ rate: 0, error_ratio: 0 }, "idle"],
  [{ rate: 1, error_ratio: 0.02 }, "warn"],
  [{ rate: 1, error_ratio: 0, firing: 1 }, "bad"],
  [{ rate: 1, error_ratio: 0, lag_seconds: 61 }, "bad"],
  [{ rate: 1, error_ratio: 0, lag_seconds: 11 }, "warn"],
] as const)("health %o", (vitals, wanted) => expect(health(vitals)).toBe(wanted));

test("objectives from recording rules", () => {
  const found = objectives([
    { labels: { __name__: "slo:error_budget_remaining:ratio", slo: "latency" }, value: 0.4 },
    { labels: { __name__: "slo:burn_rate:ratio6h", slo: "latency" }, value: 2 },
    { labels: { __name__: "slo:burn_rate:ratio1h", slo: "latency" }, value: 9 },
    { labels: { __name__: "slo:burn_rate:ratio1h" }, value: 9 },
  ]);
  expect(found).toEqual([{ name: "latency", remaining: 0.4, burn: [{ window: "1h", rate: 9 }, { window: "6h", rate: 2 }] }]);
});

test("legends name what differs", () => {
  expect(legendNames([{ labels: { job: "a", zone: "1" } }, { labels: { job: "b", zone: "1" } }])).toEqual(["a", "b"]);
  expect(legendNames([{ labels: { __name__: "up", job: "a" } }])).toEqual(["a"]);
});
