import { expect, test } from "vitest";
import { pageUrl } from "./url";
import { route } from "./route";
import { entityPath, parseEntity } from "./entity";
import { logsPath, pivotsOf } from "./pivot";

test("links keep range and tenant and drop the rest", () => {
  const here = "?tenant=blue&from=1&to=2&q=up&view=list";
  expect(pageUrl("/alerts", {}, here)).toBe("/alerts?tenant=blue&from=1&to=2");
  expect(pageUrl("/explore/logs?q=%7B%7D", { from: 5 }, here)).toBe("/explore/logs?q=%7B%7D&tenant=blue&from=5&to=2");
  expect(pageUrl("/incidents/7?from=9", {}, here)).toBe("/incidents/7?from=9&tenant=blue&to=2");
});

test("an entity's path and back, slashes included", () => {
  const entity = parseEntity("partition:events.raw/3");
  expect(entity).toEqual({ kind: "partition", name: "events.raw/3" });
  const path = entityPath(entity);
  expect(path).toBe("/entity/partition/events.raw%2F3");
  expect(route(path)).toEqual({ page: "entity", ...entity });
  expect(route("/entity/partition/events.raw/3")).toEqual({ page: "entity", ...entity });
});

test.each([
  ["/", "home"],
  ["/incidents", "incidents"],
  ["/incidents/abc", "incident"],
  ["/explore", "metrics"],
  ["/explore/logs", "logs"],
  ["/cardinality", "cardinality"],
  ["/trace/0af7", "trace"],
  ["/trace", "unknown"],
  ["/entity/service", "unknown"],
  ["/else", "unknown"],
  ["/incidents/%E0%A4%A", "incident"],
])("route %s", (path, page) => expect(route(path).page).toBe(page));

test("a series leads to logs and traces of its service, or of its topic", () => {
  const service = pivotsOf({ service_name: 'odd"name', topic: "t" });
  expect(service.logs).toBe(logsPath('{service_name="odd\\"name"}'));
  expect(service.metrics).toBe("/explore/metrics?entity=service%3Aodd%22name");
  expect(pivotsOf({ job: "pipeline/enricher" }).logs).toBe(logsPath('{service_name="enricher"}'));
  expect(service.entity).toBe("/entity/service/odd%22name");
  expect(pivotsOf({ topic: "events.raw" }).traces).toContain("messaging.destination.name");
  expect(pivotsOf({ cpu: "0" })).toEqual({});
});
