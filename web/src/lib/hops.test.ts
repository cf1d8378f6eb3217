import { expect, test } from "vitest";
import type { MapEdge, MapNode } from "../api/types";
import { around, hopHealth, hopsOf, tracesOver } from "./hops";

const node = (id: string): MapNode => ({ id, kind: id.split(":")[0] ?? "", name: id.split(":")[1] ?? "", rate: 1, error_ratio: 0, p50_ms: 1, p95_ms: 1, p99_ms: 1, firing: 0, pending: 0, versions: [] });
const edge = (from: string, to: string, kind: MapEdge["kind"], more: Partial<MapEdge> = {}): MapEdge => ({ from, to, kind, rate: 1, error_ratio: 0, p50_ms: 1, p95_ms: 1, p99_ms: 1, ...more });

const map = {
  nodes: [node("service:web"), node("service:api"), node("topic:events"), node("service:sink"), node("database:main")],
  edges: [
    edge("service:web", "service:api", "call", { rate: 9 }),
    edge("service:api", "topic:events", "produce", { rate: 5 }),
    edge("topic:events", "service:sink", "consume", { continuity: 0.2 }),
    edge("service:sink", "database:main", "query", { error_ratio: 0.02 }),
    edge("service:sink", "database:gone", "query"),
  ],
};

test("hops in trouble first, then the busiest; none to a node that is not there", () => {
  expect(hopsOf(map).map(({ from, to }) => `${from}>${to}`)).toEqual(["topic:events>service:sink", "service:sink>database:main", "service:web>service:api", "service:api>topic:events"]);
});

test.each([
  [{}, "ok"],
  [{ continuity: 1 }, "ok"],
  [{ continuity: 0.98 }, "warn"],
  [{ continuity: 0.49 }, "bad"],
  [{ rate: 0 }, "idle"],
  [{ continuity: 0.98, error_ratio: 0.5 }, "bad"],
])("the health of an edge with %j", (more, want) => expect(hopHealth(edge("a", "b", "consume", more))).toBe(want));

test.each([
  ["call", '{ resource.service.name = "a" } > { resource.service.name = "b" && kind = server }'],
  ["produce", '{ resource.service.name = "a" && kind = producer && span.messaging.destination.name = "b" }'],
  ["consume", '{ resource.service.name = "b" && kind = consumer && span.messaging.destination.name = "a" }'],
  ["query", '{ resource.service.name = "a" && (span.db.namespace = "b" || span.db.name = "b") }'],
] as const)("traces over an edge of kind %s", (kind, want) => {
  expect(tracesOver(edge("x:a", "y:b", kind))).toBe(want);
  expect(tracesOver(edge("x:a", "y:b", kind), true)).toBe(want.replace(/ }$/, " && status = error }"));
});

test("around a name: what it speaks with", () => {
  const { nodes, edges } = around(map, "SINK");
  expect(nodes.map(({ name }) => name)).toEqual(["events", "sink", "main"]);
  expect(edges).toHaveLength(2);
  expect(around(map, " ")).toBe(map);
  expect(around(map, "nobody").nodes).toEqual([]);
});
