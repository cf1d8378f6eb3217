import { expect, test } from "vitest";
import { settings } from "./settings";

test("settings carry address and tenant", () => {
  const plain = settings("http://127.0.0.1:9090", "anonymous");
  expect(plain.find((one) => one.id === "otel")?.text).toContain("OTLP_ENDPOINT=http://127.0.0.1:9090");
  expect(plain.every((one) => !one.text.includes("OrgID"))).toBe(true);
  const blue = settings("https://weir.example.org/", "blue");
  for (const one of blue) expect(one.text).toContain("blue");
  expect(blue.find((one) => one.id === "fluentbit")?.text).toMatch(/port +443[\s\S]*tls +on/);
  expect(blue.find((one) => one.id === "prometheus")?.text).toContain("https://weir.example.org/api/v1/write");
});
