import { expect, test } from "vitest";
import { alignToStep, parseDuration, parseTime, rangeLabel, resolveRange, span, stepFor } from "./time";

const NOW = Date.UTC(2026, 10, 21, 3, 0, 0);

test.each([
  ["90s", 90_000],
  ["1h30m", 5_400_000],
  ["7d", 604_800_000],
  ["1.5h", 5_400_000],
  ["250ms", 250],
  ["", undefined],
  ["5", undefined],
  ["5x", undefined],
  ["5m junk", undefined],
])("duration %j", (text, wanted) => expect(parseDuration(text)).toBe(wanted));

test.each([
  ["now", NOW],
  ["now-15m", NOW - 900_000],
  [String(NOW), NOW],
  [String(NOW / 1000), NOW],
  ["2026-11-21T03:00:00Z", NOW],
  ["now-", undefined],
  ["yesterday", undefined],
])("time %j", (text, wanted) => expect(parseTime(text, NOW)).toBe(wanted));

test("a range that cannot be read, or stands on its head, still is a range", () => {
  expect(resolveRange("?", "?", NOW)).toEqual({ from: NOW - 900_000, to: NOW });
  const turned = resolveRange("now", "now-1h", NOW);
  expect(turned.from).toBeLessThan(turned.to);
});

test.each([
  [60_000, 1],
  [900_000, 5],
  [86_400_000, 600],
  [604_800_000, 3600],
])("step for %d ms", (length, wanted) => expect(stepFor({ from: 0, to: length })).toBe(wanted));

test("aligned ends are whole steps", () => {
  expect(alignToStep({ from: 1_001, to: 19_999 }, 5)).toEqual({ from: 0, to: 15_000 });
});

test.each([
  [0, "0 s"],
  [89_999, "89 s"],
  [5 * 60_000, "5 min"],
  [3 * 3_600_000, "3 h"],
  [3 * 86_400_000, "3 d"],
])("span of %d ms", (ms, wanted) => expect(span(ms)).toBe(wanted));

test("label of a relative range", () => expect(rangeLabel("now-15m", "now", NOW)).toBe("last 15 min"));
