import { expect, test } from "vitest";
import { entryTime, jsonFields, levelOf, selectorOf, traceOf, volumeQuery, withField, withLabel } from "./logs";

const line = (text: string, metadata: Record<string, string> = {}) => ({ line: text, metadata, parsed: {}, stream: {} });

test("nanoseconds keep their milliseconds", () => {
  expect(entryTime("1700000000123456789")).toBeCloseTo(1700000000123.456789, 3);
});

test.each([
  [line("x", { detected_level: "warning" }), "warn"],
  [line('{"level":"ERROR","msg":"x"}'), "error"],
  [line("ts=1 level=info msg=x"), "info"],
  [line("plain"), "unknown"],
])("level %#", (one, wanted) => expect(levelOf(one)).toBe(wanted));

test.each([
  [line("x", { trace_id: "0AF7651916CD43DD8448EB211C80319C" }), "0af7651916cd43dd8448eb211c80319c"],
  [line('{"trace_id":"0af7651916cd43dd8448eb211c80319c"}'), "0af7651916cd43dd8448eb211c80319c"],
  [line("trace_id=0af7651916cd43dd rest"), "0af7651916cd43dd"],
  [line("x", { trace_id: "00000000000000000000000000000000" }), undefined],
  [line("nothing"), undefined],
])("trace %#", (one, wanted) => expect(traceOf(one)).toBe(wanted));

test.each([
  ['{app="a"}', '{app="a", pod="p"}'],
  ["{}", '{pod="p"}'],
  ['{app="a}"} |= "x"', '{app="a}", pod="p"} |= "x"'],
  ['{pod="p"}', '{pod="p"}'],
  ["", '{pod="p"}'],
])("filter for a label in %s", (query, wanted) => expect(withLabel(query, "pod", "p")).toBe(wanted));

test("filter for a field adds its parser once", () => {
  const once = withField('{app="a"}', "code", "5", "json");
  expect(once).toBe('{app="a"} | json | code="5"');
  expect(withField(once, "zone", "b", "json")).toBe('{app="a"} | json | code="5" | zone="b"');
  expect(withField('{app="a"}', "trace_id", "9", undefined, true)).toBe('{app="a"} | trace_id!="9"');
});

test("selector and volume", () => {
  expect(selectorOf('{app="a"} |= "}"')).toBe('{app="a"}');
  expect(volumeQuery('{app="a"}', 5)).toBe('sum by (detected_level) (count_over_time({app="a"} [5s]))');
  expect(volumeQuery('rate({app="a"}[1m])', 5)).toBe("");
});

test("only objects have fields", () => {
  expect(jsonFields('{"a":1,"b":{"c":2}}')).toEqual({ a: "1", b: '{"c":2}' });
  expect(jsonFields("[1]")).toEqual({});
  expect(jsonFields("{broken")).toEqual({});
});
