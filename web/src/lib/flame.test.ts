import { expect, test } from "vitest";
import { findFrame, flameOf, placeFrames } from "./flame";
import { raw, traceOf } from "./trace.fixtures";

const trace = traceOf({
  web: [raw(1, undefined, 0, 100, { name: "GET /" }), raw(2, 1, 10, 30, { name: "call" }), raw(3, 1, 40, 80, { name: "call" })],
  api: [raw(4, 2, 12, 28, { name: "serve" }), raw(5, 3, 42, 78, { name: "serve", status: { code: 2 } }), raw(6, 5, 50, 60, { name: "SELECT" })],
});

test("spans of one operation under one caller are one frame", () => {
  const [top, ...rest] = flameOf(trace);
  expect(rest).toEqual([]);
  expect(top).toMatchObject({ name: "GET /", calls: 1, self: 40, total: 100 });
  expect(top?.children).toMatchObject([{ name: "call", calls: 2, self: 8, total: 60 }]);
  expect(top?.children[0]?.children).toMatchObject([{ name: "serve", service: "api", calls: 2, errors: 1, self: 42, total: 52 }]);
});

test("frames stand under their caller, and a chosen one fills the width below its callers", () => {
  const roots = flameOf(trace);
  expect(placeFrames(roots, undefined).map(({ frame, row, left, width }) => [frame.name, row, left, width])).toEqual([
    ["GET /", 0, 0, 1],
    ["call", 1, 0, 0.6],
    ["serve", 2, 0, 0.52],
    ["SELECT", 3, 0, 0.1],
  ]);
  const serve = roots[0]?.children[0]?.children[0];
  expect(findFrame(roots, serve?.key ?? "")).toBe(serve);
  expect(placeFrames(roots, serve).map(({ frame, row, width }) => [frame.name, row, width])).toEqual([
    ["GET /", 0, 1],
    ["call", 1, 1],
    ["serve", 2, 1],
    ["SELECT", 3, 10 / 52],
  ]);
  expect(placeFrames(roots, undefined, 0.3).map(({ frame }) => frame.name)).toEqual(["GET /", "call", "serve"]);
});

test("spans of one operation below different callers stay apart", () => {
  const [a, b] = flameOf(traceOf({ s: [raw(1, undefined, 0, 10, { name: "a" }), raw(2, undefined, 0, 10, { name: "b" }), raw(3, 1, 0, 4, { name: "x" }), raw(4, 2, 0, 6, { name: "x" })] }));
  expect([a?.children[0]?.total, b?.children[0]?.total]).toEqual([4, 6]);
});
