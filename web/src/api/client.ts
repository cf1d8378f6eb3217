// One way to ask the server: JSON, the tenant, and errors that say what was asked and what came back.
import { parseTime } from "../lib/time";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly what: string,
    message: string,
  ) {
    super(message);
  }
}

export const currentTenant = (): string =>
  new URLSearchParams(window.location.search).get("tenant") || "anonymous";

export function headers(): Record<string, string> {
  return { "X-Scope-OrgID": currentTenant() };
}

export type Query = Record<string, string | number | undefined | readonly string[]>;

export function withQuery(path: string, query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === "") continue;
    if (typeof value === "object") for (const one of value) params.append(name, one);
    else params.set(name, String(value));
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

/** The server's own words for an error: `error` (weir, Prometheus), `message`, or the text as it is. */
function errorText(body: string, status: number): string {
  try {
    const parsed = JSON.parse(body) as { error?: unknown; message?: unknown };
    for (const text of [parsed.error, parsed.message]) if (typeof text === "string" && text) return text;
  } catch {
    // Loki and Tempo answer in plain text.
  }
  const plain = body.trim();
  if (plain.startsWith("<")) return `the server answered ${status} with a page instead of data`;
  return plain.slice(0, 600) || `the server answered ${status} without a reason`;
}

async function ask(method: string, path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { method, ...init });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError(0, path, "the server cannot be reached; is weir running?");
  }
  if (!response.ok) {
    throw new ApiError(response.status, path, errorText(await response.text(), response.status));
  }
  return response;
}

export async function get<T>(
  path: string,
  query: Query = {},
  options: { signal?: AbortSignal; headers?: Record<string, string> } = {},
): Promise<T> {
  const response = await ask("GET", withQuery(path, query), {
    headers: { Accept: "application/json", ...headers(), ...options.headers },
    signal: options.signal,
  });
  const text = await response.text();
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError(response.status, path, errorText(text, response.status));
  }
}

export async function post(path: string, body?: unknown): Promise<void> {
  await ask("POST", path, {
    headers: { ...headers(), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

export async function remove(path: string): Promise<void> {
  await ask("DELETE", path, { headers: headers() });
}

export const seconds = (ms: number): string => (ms / 1000).toFixed(3).replace(/\.?0+$/, "");

/** Milliseconds of whatever form of time the server wrote. */
export const toMs = (text: string | number | undefined): number | undefined =>
  text === undefined ? undefined : typeof text === "number" ? text * 1000 : parseTime(text, Date.now());
