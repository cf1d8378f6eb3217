// The whole walk: the demo runs, something is broken from the page, the pager tells, the incident names it, it heals.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { DESKTOP, expectNoOverflow, PHONE, shot, watchErrors } from "./support/page";
import { start, type Weir } from "./support/weir";

/** What comes is compared with the minutes before: that many scrapes a second apart make a before. */
const SCRAPES_BEFORE = 45;

let weir: Weir;
const data = mkdtempSync(join(tmpdir(), "weir-demo-"));

test.beforeAll(async () => {
  test.setTimeout(180_000);
  weir = await start(["demo", "--listen", "127.0.0.1:0", "--data-dir", data], /^weir demo ready (\S+)/, 120_000);
});
test.afterAll(async () => {
  await weir?.stop();
  rmSync(data, { recursive: true, force: true });
});

async function scrapesSoFar(): Promise<number> {
  const query = encodeURIComponent("min(count_over_time(up[10m]))");
  const answer = await (await fetch(`${weir.url}/api/v1/query?query=${query}`)).json();
  return Number(answer.data.result[0]?.value[1] ?? 0);
}

test("an index is dropped from the page; the pager and the incident tell which, and it heals", async ({ page }) => {
  test.setTimeout(360_000);
  const errors = watchErrors(page);
  await page.setViewportSize(DESKTOP);
  await page.goto(weir.url);
  await expect(page.locator(".react-flow__node").filter({ hasText: "enricher" }).first()).toBeVisible({ timeout: 60_000 });
  await expect(page.getByText("No open incident.")).toBeVisible();
  await expect.poll(scrapesSoFar, { timeout: 120_000 }).toBeGreaterThan(SCRAPES_BEFORE);
  await expect(page.locator(".live .chart canvas").first()).toBeVisible();
  await shot(page, "demo-home");

  await page.getByRole("button", { name: "Break: Drop an index of enricher" }).click();
  await expect(page.getByRole("button", { name: "Heal: Drop an index of enricher" })).toBeVisible();
  await expect(page.getByRole("button", { name: /Pager · 1 open/ })).toBeVisible({ timeout: 60_000 });
  await expect(page.locator(".banner")).toContainText(/statement .* of enricher/, { timeout: 60_000 });
  await shot(page, "demo-broken");
  await page.getByRole("button", { name: /Pager/ }).click();
  await expect(page.locator(".pager .page")).toHaveCount(1);
  await shot(page, "demo-pager");
  await page.getByRole("link", { name: "Open the incident" }).click();

  await expect(page.getByRole("heading", { level: 1 })).toContainText(/^statement .* of enricher .* takes .* instead of/, { timeout: 60_000 });
  await expect(page.locator(".answer-facts")).toContainText(/\d+\s*%\s*sure/);
  await expect(page.locator(".incident .chart canvas").first()).toBeVisible();
  await shot(page, "demo-incident");
  await page.setViewportSize(PHONE);
  await expectNoOverflow(page);
  await shot(page, "demo-incident-phone");

  await page.goto(weir.url);
  await expectNoOverflow(page);
  await shot(page, "demo-broken-phone");
  await page.getByRole("button", { name: "Heal: Drop an index of enricher" }).click();
  await expect(page.getByText("No open incident.")).toBeVisible({ timeout: 120_000 });
  expect(errors).toEqual([]);
});
