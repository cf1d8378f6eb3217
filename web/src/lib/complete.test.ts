import { expect, test } from "vitest";
import { logContext, traceContext } from "./complete";

test.each([
  ["{", { kind: "label", word: "" }],
  ['{app="a", po', { kind: "label", word: "po" }],
  ['{app="x', { kind: "value", label: "app", word: "x", selector: undefined }],
  ['{app="a", pod=~"p', { kind: "value", label: "pod", word: "p", selector: '{app="a"}' }],
  ['{app="a"} | js', { kind: "stage", word: "js" }],
  ['{app="a"} |= "te', undefined],
  ["sum(ra", { kind: "function", word: "ra" }],
  ['{app="{', { kind: "value", label: "app", word: "{", selector: undefined }],
])("LogQL %s", (text, wanted) => expect(logContext(text)).toEqual(wanted));

test.each([
  ["{ resource.se", { kind: "attribute", word: "resource.se" }],
  ["{ status = ", { kind: "value", attribute: "status", quoted: false, word: "" }],
  ['{ resource.service.name = "en', { kind: "value", attribute: "resource.service.name", quoted: true, word: "en" }],
  ["{ a = 1 && dur", { kind: "attribute", word: "dur" }],
  ["{ a = 1 } | ra", { kind: "stage", word: "ra" }],
  ["", undefined],
])("TraceQL %s", (text, wanted) => expect(traceContext(text)).toEqual(wanted));
