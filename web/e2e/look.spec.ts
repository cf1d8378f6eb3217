// Every page with a known pipeline: what it says, that nothing overflows, and a picture in each form.
import { expect, type Page, test } from "@playwright/test";
import { LARGE_TRACE_ID, mockApi, TRACE_ID } from "./fixtures/mock";
import { serveDist } from "./support/dist";
import { DESKTOP, expectNoOverflow, PHONE, setScheme, shot, watchErrors } from "./support/page";

let server: Awaited<ReturnType<typeof serveDist>>;
test.beforeAll(async () => {
  server = await serveDist();
});
test.afterAll(() => server.stop());

const enricher = encodeURIComponent('{service_name="enricher"}');

const PAGES: { name: string; path: string; see: (page: Page) => Promise<void> }[] = [
  {
    name: "home",
    path: "/",
    see: async (page) => {
      await expect(page.getByRole("alert")).toContainText("enricher reads every row of players");
      await expect(page.getByText("burning 16× over 1h")).toBeVisible();
      await expect(page.getByText("delivery-api").first()).toBeVisible();
      await expect(page.locator(".react-flow__node, .map-view tbody tr")).toHaveCount(11);
    },
  },
  { name: "incidents", path: "/incidents", see: (page) => expect(page.locator(".incidents > li")).toHaveCount(2) },
  {
    name: "incident",
    path: "/incidents/01hx",
    see: async (page) => {
      await expect(page.getByRole("heading", { level: 1 })).toContainText("enricher reads every row of players");
      await expect(page.getByText("93 % sure")).toBeVisible();
      await expect(page.locator(".query-chart canvas")).toHaveCount(4);
      await expect(page.locator(".cause").first()).toContainText("SELECT name, team FROM players");
    },
  },
  { name: "entity", path: "/entity/service/enricher", see: (page) => expect(page.locator(".query-chart canvas")).toHaveCount(3) },
  { name: "metrics", path: "/explore/metrics?q=rate(events_total[1m])", see: (page) => expect(page.locator(".chart canvas")).toHaveCount(1) },
  {
    name: "logs",
    path: `/explore/logs?q=${enricher}`,
    see: async (page) => {
      await expect(page.getByText("slow lookup").first()).toBeVisible();
      await expect(page.locator(".volume canvas")).toHaveCount(1);
    },
  },
  { name: "traces", path: "/explore/traces", see: (page) => expect(page.locator("table.traces tbody tr")).toHaveCount(60) },
  {
    name: "trace",
    path: `/trace/${TRACE_ID}`,
    see: async (page) => {
      await expect(page.locator(".span-row")).toHaveCount(10);
      await expect(page.getByText("37.8 ms in broker")).toBeVisible();
      await expect(page.locator(".why")).toContainText("SELECT players of enricher worked 371 ms itself");
      await expect(page.locator(".why")).toContainText("times the usual 47 ms");
      await expect(page.locator(".why")).toContainText("fan-out of delivery-api failed: 3 of 1800 fans did not take it");
      await expect(page.locator(".span-critical.queue")).toHaveCount(3);
    },
  },
  {
    name: "trace-path",
    path: `/trace/${TRACE_ID}?view=path`,
    see: async (page) => {
      const first = page.locator(".critical-list tbody tr").first();
      await expect(first).toContainText("SELECT players");
      await expect(first).toContainText("78.9 %");
      await expect(page.locator(".critical-list .piece-queue").first()).toContainText("in the broker before");
    },
  },
  {
    name: "trace-flame",
    path: `/trace/${TRACE_ID}?view=flame`,
    see: async (page) => {
      await expect(page.locator(".frame")).toHaveCount(10);
      await page.locator(".frame").filter({ hasText: "process events.raw" }).click();
      await expect(page.locator(".frame.above")).toHaveCount(1);
      await expect(page.getByRole("button", { name: "Show all" })).toBeVisible();
    },
  },
  {
    name: "trace-compare",
    path: `/trace/${TRACE_ID}?view=compare`,
    see: async (page) => {
      await expect(page.locator(".compare tbody tr").first()).toContainText("+368 ms");
      await expect(page.locator(".compare tbody tr").nth(1)).toContainText("SELECT players");
    },
  },
  {
    name: "graph",
    path: "/graph",
    see: async (page) => {
      const first = page.locator(".hops tbody tr").first();
      await expect(first).toContainText("context lost");
      await expect(first).toContainText("momentum-kafka-client");
      await expect(page.locator(".hops tbody tr")).toHaveCount(11);
      if ((page.viewportSize()?.width ?? 0) > 760) await expect(page.locator(".edge-label").filter({ hasText: "37 % followed" })).toBeVisible();
    },
  },
  { name: "alerts", path: "/alerts", see: (page) => expect(page.locator(".rules > li")).toHaveCount(3) },
  {
    name: "slos",
    path: "/slos",
    see: async (page) => {
      await expect(page.locator(".slos > li")).toHaveCount(2);
      await expect(page.getByText("42 % left")).toBeVisible();
      await expect(page.locator(".page-times").first()).toContainText("54 s");
      await expect(page.locator(".query-chart canvas").first()).toBeVisible();
    },
  },
  {
    name: "cardinality",
    path: "/cardinality?metric=login_attempts_total",
    see: async (page) => {
      await expect(page.locator(".slos > li")).toHaveCount(2);
      await expect(page.locator(".slos > li").first()).toContainText("which hides 82.1 k");
      await expect(page.getByText("10.0.3.18:8080").first()).toBeVisible();
      await expect(page.getByText("container_cpu_cfs_periods_total")).toBeVisible();
    },
  },
  {
    name: "oncall",
    path: "/oncall",
    see: async (page) => {
      await expect(page.locator(".oncall-now > li")).toHaveCount(2);
      await expect(page.locator(".escalations")).toContainText("Ben Okafor being told by call");
      await expect(page.locator(".week")).toHaveCount(4);
      await expect(page.locator(".shift.stands-in").first()).toBeVisible();
      await expect(page.getByText("85.7 %").first()).toBeVisible();
    },
  },
  {
    name: "silences",
    path: "/silences",
    see: async (page) => {
      await expect(page.locator(".silences > li")).toHaveCount(1);
      await expect(page.locator(".silence-preview li")).toHaveCount(2);
    },
  },
  {
    name: "data",
    path: "/data",
    see: async (page) => {
      await expect(page.getByText("Memory by account")).toBeVisible();
      await expect(page.locator(".contract tbody tr").first()).toContainText("billing-batch");
      await expect(page.locator(".contract tbody tr").first()).toContainText("13.2 %");
    },
  },
];

for (const { name, path, see } of PAGES) {
  for (const [form, size] of [["desktop", DESKTOP], ["phone", PHONE]] as const) {
    for (const scheme of ["light", "dark"] as const) {
      test(`${name}, ${form}, ${scheme}`, async ({ page }) => {
        const errors = watchErrors(page);
        await setScheme(page, scheme);
        await page.setViewportSize(size);
        await mockApi(page);
        await page.goto(server.url + path);
        await see(page);
        await expectNoOverflow(page);
        await shot(page, `${name}-${form}-${scheme}`);
        expect(errors).toEqual([]);
      });
    }
  }
}

test("a wrong query says where it is wrong", async ({ page }) => {
  const errors = watchErrors(page, [/400/]);
  await mockApi(page);
  await page.goto(`${server.url}/explore/metrics?q=${encodeURIComponent("broken(")}`);
  await expect(page.getByRole("alert")).toContainText("1:8: parse error");
  expect(errors).toEqual([]);
});

test("somebody stands in for a night, and a page is acknowledged", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/oncall`);
  const asked: { path: string; body: Record<string, string> }[] = [];
  page.on("request", (request) => {
    if (request.method() === "POST") asked.push({ path: new URL(request.url()).pathname, body: request.postDataJSON() });
  });
  await page.getByRole("button", { name: "Override" }).first().click();
  await page.getByLabel("Who stands in").selectOption("lead");
  await page.locator('input[type="datetime-local"]').first().fill("2026-12-24T18:00");
  await page.locator('input[type="datetime-local"]').last().fill("2026-12-25T09:00");
  await page.getByLabel("Your name").fill("Ana");
  await shot(page, "oncall-override");
  await page.locator("form").getByRole("button", { name: "Override" }).click();
  await expect.poll(() => asked[0]).toEqual({
    path: "/api/weir/v1/oncall/overrides",
    body: { schedule: "primary", person: "lead", start: "2026-12-24T18:00:00.000Z", end: "2026-12-25T09:00:00.000Z", by: "Ana" },
  });
  await page.getByRole("button", { name: "Acknowledge" }).click();
  await page.getByRole("button", { name: "I am on it" }).click();
  await expect.poll(() => asked[1]).toEqual({ path: "/api/weir/v1/escalations/e1/acknowledge", body: { by: "Ana", comment: "" } });
});

test("a silence shows what it mutes before it is made", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/silences`);
  const asked: { matchers: unknown; comment: string }[] = [];
  page.on("request", (request) => request.method() === "POST" && asked.push(request.postDataJSON()));
  await page.getByLabel("Matchers").fill("alertname");
  await expect(page.getByText("is not a matcher")).toBeVisible();
  await page.getByLabel("Matchers").fill("alertname=DeliveryLatencyHigh");
  await expect(page.getByText("Mutes 1 of the alerts that fire now")).toBeVisible();
  await expect(page.getByRole("button", { name: "Silence" })).toBeDisabled();
  await page.getByLabel("Your name").fill("Ana");
  await page.getByLabel("Why").fill("known");
  await page.getByRole("button", { name: "Silence" }).click();
  await expect.poll(() => asked[0]).toMatchObject({ matchers: [{ name: "alertname", value: "DeliveryLatencyHigh", isRegex: false, isEqual: true }], comment: "known" });
});

test("faults are broken and healed from the bar, and the pager shows its page", async ({ page }) => {
  await mockApi(page);
  await page.goto(server.url);
  const asked: string[] = [];
  page.on("request", (request) => request.method() === "POST" && asked.push(new URL(request.url()).pathname));
  await page.getByRole("button", { name: "Break: Poison record for the sink" }).click();
  await page.getByRole("button", { name: "Heal: Drop the players index" }).click();
  await expect.poll(() => asked).toEqual(["/api/weir/v1/demo/faults/stall-sink/break", "/api/weir/v1/demo/faults/index-enricher/heal"]);
  await page.getByRole("button", { name: /^Pager/ }).click();
  await expect(page.getByText("cause: enricher, statement on players (93 %)")).toBeVisible();
  await shot(page, "pager");
});

test("any entity is found by ctrl K", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/alerts?tenant=blue`);
  // The keys are heard once the page stands.
  await expect(page.locator(".search-open")).toBeVisible();
  await page.keyboard.press("Control+k");
  await page.locator('input[aria-label="Search entities"]').fill("enrich");
  await expect(page.getByRole("option").first()).toContainText("enrich");
  await shot(page, "search");
  await page.getByRole("option", { name: /^enricher/ }).click();
  await expect(page).toHaveURL(/\/entity\/service\/enricher\?tenant=blue/);
});

test("a range is chosen, kept over pages and copied absolute", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await mockApi(page);
  await page.goto(`${server.url}/incidents`);
  await page.getByRole("button", { name: "last 15 min" }).click();
  await page.getByRole("button", { name: "1 h", exact: true }).click();
  await expect(page).toHaveURL(/from=now-1h/);
  await page.getByRole("link", { name: "Alerts" }).click();
  await expect(page).toHaveURL(/\/alerts\?from=now-1h/);
  await page.getByRole("button", { name: "Copy link to this view" }).click();
  const copied = new URL(await page.evaluate(() => navigator.clipboard.readText()));
  expect(copied.origin).toBe("https://weir.example.org");
  expect(copied.searchParams.get("from")).toMatch(/^\d{13}$/);
  expect(copied.searchParams.get("tenant")).toBe("anonymous");
});

test("a point of a chart leads to its logs, a line to its trace, a span to its metrics", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/explore/metrics?q=events_total`);
  const plot = page.locator(".u-over").first();
  await expect(plot).toBeVisible();
  const box = (await plot.boundingBox())!;
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.up();
  await page.getByRole("button", { name: "Logs around it" }).click();
  await expect(page).toHaveURL(/explore\/logs\?q=.*enricher.*from=\d{13}/);
  await page.locator(".log-trace").first().click();
  await expect(page).toHaveURL(new RegExp(`/trace/${TRACE_ID}\\?from=\\d{13}`));
  await page.getByRole("link", { name: /^Metrics of/ }).click();
  await expect(page).toHaveURL(/explore\/metrics\?.*(q=|entity=).*from=|explore\/metrics\?.*from=.*q=/);
});

test("a trace of 10,000 spans is scrolled, searched and folded", async ({ page }) => {
  const errors = watchErrors(page);
  await mockApi(page);
  await page.goto(`${server.url}/trace/${LARGE_TRACE_ID}`);
  await expect(page.getByText("10001 spans")).toBeVisible();
  expect(await page.locator(".span-row").count()).toBeLessThan(200);
  await page.getByLabel("Find spans").fill("call 9876");
  await expect(page.getByText("1 found")).toBeVisible();
  await page.getByLabel("Find spans").press("Enter");
  await expect(page.locator(".span-row.selected")).toContainText("call 9876");
  await expect(page.locator(".span-row.selected")).toBeInViewport();
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.getByRole("button", { name: "Close" }).first().click();
  await expect(page.locator(".span-row")).toHaveCount(1);
  expect(errors).toEqual([]);
});

test("a hop of the graph leads to its traces, a name narrows the graph", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/graph`);
  await page.getByLabel("Only around").fill("delivery");
  await expect(page.locator(".react-flow__node")).toHaveCount(2);
  await expect(page.locator(".hops tbody tr")).toHaveCount(1);
  await page.getByRole("link", { name: "3.1 %" }).click();
  await expect(page).toHaveURL(/explore\/traces\?q=.*consumer.*status/);
});

test("log lines stand under their span, and a finding leads to its span", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/trace/${TRACE_ID}`);
  await expect(page.locator(".span-line").first()).toContainText("lookup timed out");
  await page.getByLabel("log lines").uncheck();
  await expect(page.locator(".span-line")).toHaveCount(0);
  await page.getByRole("button", { name: /^SELECT players of enricher/ }).click();
  await expect(page.locator(".span-row.selected")).toContainText("SELECT players");
  await expect(page.locator(".trace-side h3")).toHaveText("SELECT players");
});

test("a line opens, and one of its values becomes a filter", async ({ page }) => {
  await mockApi(page);
  await page.goto(`${server.url}/explore/logs?q=${enricher}`);
  await page.locator(".log-main").first().click();
  const pod = page.locator(".log-details tr").filter({ hasText: "pod" });
  await pod.getByRole("button", { name: "filter for value" }).click();
  await expect(page).toHaveURL(/pod%3D%22enricher-0%22/);
  await shot(page, "log-open");
});
