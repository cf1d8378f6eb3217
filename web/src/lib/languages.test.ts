import { expect, test } from "vitest";
import { asTraceMetric, explorePath, spansOf } from "./languages";

test("span selections are drawn as rates, metrics as they are", () => {
  expect(asTraceMetric("{ status = error }")).toBe("{ status = error } | rate()");
  expect(asTraceMetric("{} | quantile_over_time(duration, .9)")).toBe("{} | quantile_over_time(duration, .9)");
  expect(spansOf("{ a = 1 } | rate() by (b)")).toBe("{ a = 1 }");
  expect(spansOf("{ a = 1 } | count() > 2")).toBe("{ a = 1 } | count() > 2");
  expect(explorePath("logql", '{a="b"}')).toBe("/explore/logs?q=%7Ba%3D%22b%22%7D");
});
