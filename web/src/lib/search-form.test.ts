import { expect, test } from "vitest";
import { EMPTY_FORM, formQuery, readForm } from "./search-form";

test.each([
  [{}, "{}"],
  [{ service: "a" }, '{ resource.service.name = "a" }'],
  [{ minDuration: "200", errors: true }, "{ duration > 200ms && status = error }"],
  [{ attribute: "http.status_code", value: "500" }, "{ .http.status_code = 500 }"],
  [{ attribute: "span.db.system", value: 'a"b' }, '{ span.db.system = "a\\"b" }'],
])("form %o", (part, wanted) => expect(formQuery({ ...EMPTY_FORM, ...part })).toBe(wanted));

test("a form survives its query", () => {
  const form = { service: "a", name: "GET /", minDuration: "1.5s", errors: true, attribute: "span.x", value: "y" };
  expect(readForm(formQuery(form))).toEqual(form);
  expect(readForm("")).toEqual(EMPTY_FORM);
});

test.each(["{ a = 1 } >> { b = 2 }", "{ a = 1 || b = 2 }", "{} | rate()", '{ name =~ "x" }'])("a query beyond the form: %s", (query) =>
  expect(readForm(query)).toBeUndefined(),
);
