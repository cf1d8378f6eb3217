// The page of the real program, over data that arrived by its public APIs.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { serveDist } from "./support/dist";
import { DATABASE, sendLogs, sendMetrics, sendNonsense, sendOtlpLog, sendTraces, SERVICES, TOPIC, traceId } from "./support/feed";
import { expectNoOverflow, PHONE, shot, watchErrors } from "./support/page";
import { startServe, type Weir } from "./support/weir";

let weir: Weir;
/** Where the page is opened: the program itself, or, with WEIR_PAGE=dist, the files just built. */
let base: string;
let close = () => {};
/** The newest sample's time. */
let sent = 0;

const RULES = `
groups:
  - name: symptoms
    interval: 1s
    rules:
      - alert: QueueTooDeep
        expr: max by (job) (queue_depth) > 100
        for: 1s
        labels: { severity: page }
        annotations:
          summary: "{{ $labels.job }} has {{ $value }} waiting"
          runbook_url: https://runbooks.example.org/queue
      - record: slo:error_budget_remaining:ratio
        expr: vector(0.75)
        labels: { slo: deliveries }
`;

test.beforeAll(async () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-web-"));
  writeFileSync(join(dir, "rules.yml"), RULES);
  writeFileSync(join(dir, "prometheus.yml"), "rule_files: [rules.yml]\n");
  weir = await startServe(["--prometheus-config", join(dir, "prometheus.yml")]);
  const dist = process.env.WEIR_PAGE === "dist" ? await serveDist(weir.url) : undefined;
  base = dist?.url ?? weir.url;
  close = dist?.stop ?? close;
  const now = Date.now();
  sent = now;
  await sendMetrics(weir.url, now - 600_000, now, () => 5);
  const starts = Array.from({ length: 120 }, (_, i) => now - 300_000 + i * 2400);
  await sendTraces(weir.url, starts);
  await sendLogs(weir.url, starts);
  await sendOtlpLog(weir.url, starts[3] ?? now, "delivered to 1800 fans", 3);
  await sendNonsense(weir.url);
});
test.afterAll(async () => {
  close();
  await weir?.stop();
});

test("home draws the pipeline and its numbers", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(base);
  for (const name of [SERVICES.producer, TOPIC, SERVICES.enricher, DATABASE, SERVICES.delivery]) {
    await expect(page.locator(".react-flow__node").filter({ hasText: name }).first()).toBeVisible();
  }
  await expect(page.getByText("No open incident.")).toBeVisible();
  await expect(page.getByText("75 % left")).toBeVisible();
  await expect(page.locator(".live .chart canvas")).toHaveCount(2);
  await expectNoOverflow(page);
  await shot(page, "real-home");
  await page.locator(".react-flow__node").filter({ hasText: SERVICES.enricher }).first().click();
  await expect(page).toHaveURL(/\/entity\/service\/enricher/);
  expect(errors).toEqual([]);
});

test("an entity tells its versions, traces, logs and neighbours", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${base}/entity/service/${SERVICES.enricher}`);
  await expect(page.getByRole("heading", { level: 1, name: SERVICES.enricher })).toBeVisible();
  await expect(page.locator(".neighbours")).toContainText(TOPIC);
  await expect(page.locator(".neighbours")).toContainText(DATABASE);
  await expect(page.locator(".trace-ms").first()).toBeVisible();
  await expect(page.locator(".log-text").first()).toContainText(/event enriched|player unknown/);
  await shot(page, "real-entity");
  expect(errors).toEqual([]);
});

test("metrics: completion, a chart, and the way to logs at that moment", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${base}/explore/metrics`);
  await page.getByLabel("PromQL query A").click();
  await page.keyboard.type("events_proc");
  await expect(page.locator(".cm-tooltip-autocomplete")).toContainText("events_processed");
  await page.keyboard.press("Escape");
  // A window that ends with the data: what comes after would make the rate fall.
  const query = encodeURIComponent("sum by (job) (rate(events_processed_total[1m]))");
  await page.goto(`${base}/explore/metrics?q=${query}&from=${sent - 600_000}&to=${sent}`);
  await expect(page.locator(".chart canvas")).toHaveCount(1);
  await expect(page.locator(".legend b").first()).toHaveText("300");
  await shot(page, "real-metrics");
  const box = (await page.locator(".u-over").first().boundingBox())!;
  await page.mouse.click(box.x + box.width * 0.8, box.y + box.height / 2);
  await page.getByRole("button", { name: "Logs around it" }).click();
  await expect(page).toHaveURL(/explore\/logs.*from=\d{13}/);
  await expect(page.locator(".log-text").first()).toBeVisible();
  expect(errors).toEqual([]);
});

test("logs: volume, a filter from a field, the trace of a line, and back to metrics", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${base}/explore/logs?q=${encodeURIComponent(`{service_name="${SERVICES.enricher}"}`)}`);
  await expect(page.getByText("120 lines")).toBeVisible();
  await expect(page.locator(".volume .legend")).toContainText("error20");
  await shot(page, "real-logs");
  await page.locator(".log-main").filter({ hasText: "player unknown" }).first().click();
  await page.locator(".log-details tr").filter({ hasText: /^partition/ }).getByRole("button", { name: "filter for value" }).click();
  await expect(page).toHaveURL(/json.*partition/);
  await expect(page.getByText("30 lines")).toBeVisible();
  await page.locator(".log-trace").first().click();
  await expect(page.locator(".span-row")).toHaveCount(5);
  await page.getByRole("link", { name: /^Metrics of/ }).click();
  await expect(page.locator(".chart canvas")).toHaveCount(1);
  await expect(page).toHaveURL(/events_processed_total/);
  expect(errors).toEqual([]);
});

test("logs arrive live", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${weir.url}/explore/logs?live=1&q=${encodeURIComponent(`{service_name="${SERVICES.enricher}"}`)}`);
  await expect(page.getByText("live", { exact: true })).toBeVisible();
  await sendLogs(weir.url, [Date.now()], "a line that came just now");
  await expect(page.getByText("a line that came just now")).toBeVisible();
  expect(errors).toEqual([]);
});

test("traces: the form, failures, and a waterfall with the time in the broker", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${base}/explore/traces`);
  await expect(page.locator("table.traces tbody tr")).toHaveCount(120);
  await page.getByLabel("failed only").check();
  await expect(page).toHaveURL(/status\+%3D\+error|status%20%3D%20error/);
  await expect(page.locator("table.traces tbody tr")).toHaveCount(20);
  await shot(page, "real-traces");
  await page.goto(`${base}/trace/${traceId(3)}`);
  await expect(page.locator(".span-row")).toHaveCount(5);
  await expect(page.getByText("36 ms in broker")).toBeVisible();
  await expect(page.locator(".span-line")).toContainText(["event enriched", "delivered to 1800 fans"]);
  await page.goto(`${base}/trace/${traceId(110)}`);
  await expect(page.locator(".why")).toContainText(/It took \d+ ms[,;]/);
  await expect(page.locator(".why")).toContainText(/process events.raw of enricher worked .* itself/);
  await expect(page.getByText(/ordinary traces of this operation/)).toBeVisible();
  await page.getByText("Compare", { exact: true }).click();
  await expect(page.locator(".compare tbody tr")).toHaveCount(6);
  await page.goto(`${base}/trace/${traceId(3)}`);
  await page.getByText(/^Logs \(2\)/).click();
  await expect(page.locator(".log-text").filter({ hasText: "delivered to 1800 fans" })).toBeVisible();
  await shot(page, "real-trace");
  expect(errors).toEqual([]);
});

test("the service graph has topics as nodes and follows messages over them", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${base}/graph`);
  const consume = page.locator(".hops tbody tr").filter({ hasText: "is consumed by" });
  await expect(consume).toContainText(TOPIC);
  await expect(page.locator(".react-flow__node").filter({ hasText: TOPIC })).toBeVisible();
  if (process.env.WEIR_PAGE !== "dist") await expect(consume).toContainText("100 %");
  await expectNoOverflow(page);
  await shot(page, "real-graph");
  await consume.getByRole("link", { name: "traces" }).click();
  await expect(page.locator("table.traces tbody tr")).toHaveCount(120);
  expect(errors).toEqual([]);
});

test("data in: senders, the refusal with its example, and usage", async ({ page }) => {
  const errors = watchErrors(page);
  await page.goto(`${base}/data`);
  await expect(page.getByText("Memory by account")).toBeVisible();
  await expect(page.locator("table.senders tbody tr").first()).toBeVisible();
  await page.locator(".refusal summary").first().click();
  await expect(page.locator(".refusal pre").first()).not.toBeEmpty();
  await expect(page.locator(".table").last()).toContainText(SERVICES.enricher);
  await shot(page, "real-data");
  expect(errors).toEqual([]);
});

test("an alert fires, its incident opens, and both are read on a phone", async ({ page }) => {
  const errors = watchErrors(page);
  const now = Date.now();
  await sendMetrics(weir.url, now, now + 1000, () => 500);
  await page.goto(`${base}/alerts`);
  const rule = page.locator(".rules > li").filter({ hasText: "QueueTooDeep" });
  await expect(rule.locator(".active-alerts")).toContainText("pipeline/enricher has 500 waiting");
  await expect(rule.getByText("firing").first()).toBeVisible();
  await rule.locator("summary").click();
  await expect(rule.locator(".chart canvas")).toHaveCount(1);
  await shot(page, "real-alerts");
  await page.goto(base);
  await page.locator(".banner-sentence").click();
  await expect(page).toHaveURL(/\/incidents\//);
  await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  await expect(page.locator(".query-chart canvas").first()).toBeVisible();
  await page.getByRole("button", { name: "Acknowledge" }).click();
  await page.getByLabel("Your name").fill("Ada");
  await page.getByLabel("What you are doing").fill("rolling back");
  await shot(page, "real-incident-acknowledge");
  await page.getByRole("button", { name: "I am on it" }).click();
  await expect(page.locator(".answer-taken")).toContainText(/Ada is on it since .*: rolling back/);
  await expect(page.locator(".timeline")).toContainText("Ada");
  await shot(page, "real-incident");
  await page.setViewportSize(PHONE);
  await expectNoOverflow(page);
  await shot(page, "real-incident-phone");
  expect(errors).toEqual([]);
});

test("an unknown entity and an unknown trace say what to do", async ({ page }) => {
  await page.goto(`${base}/entity/service/nobody`);
  await expect(page.getByText("No service called nobody has been seen")).toBeVisible();
  await page.goto(`${base}/trace/${"9".repeat(32)}`);
  await expect(page.getByText("No span of this trace is stored")).toBeVisible();
});
