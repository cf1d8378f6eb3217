import { expect, test } from "vitest";
import { bytes, number, percent, seconds, withUnit } from "./format";

test.each([
  [0, "0"],
  [0.5, "0.5"],
  [12.34, "12.3"],
  [999, "999"],
  [1234, "1234"],
  [12_345, "12.3 k"],
  [3_100_000, "3.1 M"],
  [-2.5e9, "-2.5 G"],
  [Number.NaN, "NaN"],
  [Number.POSITIVE_INFINITY, "+Inf"],
])("number %d", (value, wanted) => expect(number(value)).toBe(wanted));

test.each([
  [0, "0 s"],
  [3.4e-7, "340 ns"],
  [0.00034, "340 µs"],
  [0.0124, "12.4 ms"],
  [3.2, "3.2 s"],
  [250, "4 min 10 s"],
  [10_800, "3 h"],
])("seconds %d", (value, wanted) => expect(seconds(value)).toBe(wanted));

test.each([
  [512, "512 B"],
  [1536, "1.5 KiB"],
  [1_468_006, "1.4 MiB"],
])("bytes %d", (value, wanted) => expect(bytes(value)).toBe(wanted));

test.each([
  [0, "0 %"],
  [0.5, "50 %"],
  [0.9995, "99.95 %"],
  [0.0004, "0.04 %"],
])("percent %d", (value, wanted) => expect(percent(value)).toBe(wanted));

test("units of the server", () => {
  expect(withUnit(0.25, "ratio")).toBe("25 %");
  expect(withUnit(20, "ms")).toBe("20 ms");
  expect(withUnit(3, "messages")).toBe("3 messages");
});
