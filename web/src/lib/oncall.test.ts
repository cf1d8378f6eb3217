import { expect, test } from "vitest";
import { bars, daysOf, fromInput, hueOf, inputTime, parseMatchers, showMatcher, weekStart } from "./oncall";

test("a week begins on Monday at midnight and has seven days", () => {
  const monday = weekStart(new Date(2026, 2, 29, 15, 0).getTime());
  expect(new Date(monday).toDateString()).toBe("Mon Mar 23 2026");
  const days = daysOf(monday);
  expect(days).toHaveLength(8);
  expect(days.map((d) => new Date(d).getHours())).toEqual(Array(8).fill(0));
  expect(weekStart(monday, 1)).toBe(days[7]);
});

test("bars are cut at the ends of their row", () => {
  const shift = (start: string, end: string, person: string | null, override?: string) => ({ start, end, person, override });
  const from = Date.parse("2026-01-05T00:00:00Z");
  const found = bars(
    [
      shift("2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z", "past"),
      shift("2026-01-04T00:00:00Z", "2026-01-05T12:00:00Z", "ana"),
      shift("2026-01-05T12:00:00Z", "2026-01-09T00:00:00Z", null, "o1"),
    ],
    from,
    from + 86_400_000,
  );
  expect(found.map((b) => [b.person, b.left, b.width, b.stands_in])).toEqual([
    ["ana", 0, 50, false],
    [null, 50, 50, true],
  ]);
});

test("matchers are read as people write them", () => {
  const read = (text: string) => {
    const found = parseMatchers(text);
    return typeof found === "string" ? found : found.map(showMatcher);
  };
  expect(read('severity="page"')).toEqual(['severity="page"']);
  expect(read('{job=~"a.*",env!=dev , team!~"x|y"}')).toEqual(['job=~"a.*"', 'env!="dev"', 'team!~"x|y"']);
  expect(read('alertname=Down\nhost="a, b \\"c\\""')).toEqual(['alertname="Down"', 'host="a, b \\"c\\""']);
  expect(read("")).toBe("give at least one matcher");
  expect(read("severity")).toContain("is not a matcher");
  expect(read("severity=")).toContain("compared with nothing");
  expect(read('a="b" ; c="d"')).toContain("comma is missing");
});

test("times go into inputs and come back", () => {
  const at = new Date(2026, 9, 25, 9, 5).getTime();
  expect(inputTime(at)).toBe("2026-10-25T09:05");
  expect(fromInput(inputTime(at))).toBe(at);
  expect(fromInput("soon")).toBeUndefined();
});

test("people differ in colour", () => {
  const people = [{ name: "a" }, { name: "b" }, { name: "c" }];
  expect(new Set(people.map((p) => hueOf(people, p.name))).size).toBe(3);
});
