// The URL is the page's only state: every hook here reads it, every change writes it.
import { useCallback, useSyncExternalStore } from "react";

const CHANGED = "weir:url";

/** Parameters that stay when one follows a link to another page. */
const KEPT = ["tenant", "from", "to", "refresh"];

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(CHANGED, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(CHANGED, listener);
  };
}

const snapshot = () => window.location.pathname + window.location.search;

export function navigate(to: string, how: { replace?: boolean } = {}): void {
  if (to === snapshot()) return;
  const before = window.location.pathname;
  window.history[how.replace ? "replaceState" : "pushState"](null, "", to);
  window.dispatchEvent(new Event(CHANGED));
  if (window.location.pathname !== before) window.scrollTo(0, 0);
}

export interface Place {
  path: string;
  query: URLSearchParams;
}

export function usePlace(): Place {
  const href = useSyncExternalStore(subscribe, snapshot);
  const [path = "/", query = ""] = href.split("?", 2) as [string, string | undefined];
  return { path, query: new URLSearchParams(query) };
}

export type Params = Record<string, string | number | undefined>;

/** `path` with `params` over those of the current URL that every page shares. */
export function pageUrl(path: string, params: Params = {}, search = window.location.search): string {
  const current = new URLSearchParams(search);
  const [bare = "/", own = ""] = path.split("?", 2) as [string, string | undefined];
  const query = new URLSearchParams(own);
  for (const name of KEPT) {
    const value = current.get(name);
    if (value !== null && !query.has(name)) query.set(name, value);
  }
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${bare}?${text}` : bare;
}

/** Changes parameters of the current page; `undefined` or "" removes one. */
export function setParams(params: Params, how: { replace?: boolean } = {}): void {
  const query = new URLSearchParams(window.location.search);
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  navigate(text ? `${window.location.pathname}?${text}` : window.location.pathname, how);
}

/** One parameter of the URL and its setter. */
export function useParam(name: string, fallback = ""): [string, (value: string) => void] {
  const { query } = usePlace();
  const set = useCallback(
    (value: string) => setParams({ [name]: value === fallback ? undefined : value }, { replace: true }),
    [name, fallback],
  );
  return [query.get(name) ?? fallback, set];
}

/** The address of this view for somebody else: absolute times and the tenant written out. */
export function shareUrl(base: string, range: { from: number; to: number }, tenant: string): string {
  const query = new URLSearchParams(window.location.search);
  query.set("from", String(Math.round(range.from)));
  query.set("to", String(Math.round(range.to)));
  query.set("tenant", tenant);
  query.delete("refresh");
  return `${base.replace(/\/$/, "")}${window.location.pathname}?${query}`;
}
