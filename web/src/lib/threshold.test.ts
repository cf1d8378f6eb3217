import { expect, test } from "vitest";
import { splitThreshold } from "./threshold";

test.each([
  ["up < 1", { query: "up", threshold: 1 }],
  ["sum(rate(a[1m])) / 2 > 0.05", { query: "sum(rate(a[1m])) / 2", threshold: 0.05 }],
  ["a >= bool 1e3", { query: "a", threshold: 1000 }],
  ["(a > 5)", { query: "(a > 5)" }],
  ["a > 1 and b > 2", { query: "a > 1 and b > 2" }],
  ['a{x="and"} > 2', { query: 'a{x="and"}', threshold: 2 }],
  ["a > b", { query: "a > b" }],
  ["a == 1", { query: "a == 1" }],
])("%s", (expr, wanted) => expect(splitThreshold(expr)).toEqual(wanted));
