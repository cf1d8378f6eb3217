// The frame: where one is, when one looks, and whether something burns.
import { ActionIcon, Tooltip, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { type ReactNode, useEffect } from "react";
import { useIncidents, useStatus } from "../api/weir";
import { refreshNow } from "../lib/range";
import { navigate, pageUrl, usePlace } from "../lib/url";
import { A } from "../ui/link";
import { DemoBar } from "./demo";
import { RangePicker } from "./range-picker";
import { Search } from "./search";
import { Share } from "./share";
import { TenantSwitch } from "./tenant";

const PAGES = [
  { path: "/", name: "Map", key: "m" },
  { path: "/graph", name: "Graph", key: "h" },
  { path: "/incidents", name: "Incidents", key: "i" },
  { path: "/alerts", name: "Alerts", key: "a" },
  { path: "/silences", name: "Silences", key: "s" },
  { path: "/oncall", name: "On-call", key: "c" },
  { path: "/slos", name: "Objectives", key: "o" },
  { path: "/explore/metrics", name: "Metrics", key: "e" },
  { path: "/explore/logs", name: "Logs", key: "l" },
  { path: "/explore/traces", name: "Traces", key: "t" },
  { path: "/data", name: "Data in", key: "d" },
];

export function Shell({ children }: { children: ReactNode }) {
  const { path } = usePlace();
  const status = useStatus();
  const incidents = useIncidents(20);
  const open = (incidents.data?.incidents ?? []).filter((one) => one.state !== "resolved").length;
  useShortcuts();
  const here = (to: string) => (to === "/" ? path === "/" : path.startsWith(to));
  return (
    <div className="shell">
      <header className="top">
        <A to="/" className="brand" aria-label="weir, pipeline map">
          <img src="/favicon.svg" alt="" width={22} height={22} />
          weir
        </A>
        <nav className="nav" aria-label="Pages">
          {PAGES.map((one) => (
            <A key={one.path} to={one.path} aria-current={here(one.path) ? "page" : undefined} title={`g then ${one.key}`}>
              {one.name}
              {one.path === "/incidents" && open > 0 && <span className="count">{open}</span>}
            </A>
          ))}
        </nav>
        <div className="tools">
          <Search />
          <RangePicker />
          <TenantSwitch />
          <Share status={status.data} />
          <SchemeSwitch />
        </div>
      </header>
      {status.error != null && !status.data && (
        <div className="offline" role="alert">
          weir does not answer: {status.error instanceof Error ? status.error.message : "no reason given"}
        </div>
      )}
      {status.data?.demo && <DemoBar />}
      <main className="main">{children}</main>
    </div>
  );
}

function SchemeSwitch() {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  return (
    <Tooltip label={dark ? "Light colours" : "Dark colours"}>
      <ActionIcon
        variant="subtle"
        color="gray"
        size={30}
        aria-label={dark ? "Light colours" : "Dark colours"}
        onClick={() => setColorScheme(dark ? "light" : "dark")}
      >
        <svg className="glyph" viewBox="0 0 16 16" aria-hidden="true">
          <path d={dark ? "M8 5a3 3 0 1 0 0 6a3 3 0 0 0 0-6M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1" : "M13 9.5A5.5 5.5 0 0 1 6.5 3A5.5 5.5 0 1 0 13 9.5"} />
        </svg>
      </ActionIcon>
    </Tooltip>
  );
}

/** `g` and a letter goes to a page, `r` asks again; never while something is being typed. */
function useShortcuts() {
  useEffect(() => {
    let armedUntil = 0;
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
      if (event.key === "g") {
        armedUntil = Date.now() + 1200;
        return;
      }
      if (Date.now() < armedUntil) {
        armedUntil = 0;
        const page = PAGES.find((one) => one.key === event.key);
        if (page) navigate(pageUrl(page.path));
        return;
      }
      if (event.key === "r") refreshNow();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, []);
}
