// A trace out of Tempo's answer: a tree of spans with their place in time.
import { attributeMap, type KeyValue } from "../api/tempo";

export interface RawSpan {
  traceId?: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind?: string | number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: KeyValue[];
  events?: { timeUnixNano?: string; name?: string; attributes?: KeyValue[] }[];
  links?: { traceId?: string; spanId?: string; attributes?: KeyValue[] }[];
  status?: { code?: string | number; message?: string };
}

export interface RawTrace {
  resourceSpans?: RawResource[];
  batches?: RawResource[];
}

interface RawResource {
  resource?: { attributes?: KeyValue[] };
  scopeSpans?: { scope?: { name?: string; version?: string }; spans?: RawSpan[] }[];
}

export interface SpanEvent {
  /** Nanoseconds after the trace's start. */
  at: number;
  name: string;
  attributes: Record<string, string>;
}

export interface Span {
  id: string;
  parent?: string;
  service: string;
  name: string;
  kind: string;
  /** Nanoseconds after the trace's start. */
  start: number;
  duration: number;
  error: boolean;
  statusMessage: string;
  attributes: Record<string, string>;
  resource: Record<string, string>;
  scope: string;
  events: SpanEvent[];
  links: { trace: string; span: string }[];
  depth: number;
  /** The span that it hangs under. */
  above?: Span;
  children: Span[];
  /** Time not covered by children, nanoseconds. */
  self: number;
  /** Nanoseconds between the end of the sending span and the start of this receiving one. */
  inBroker?: number;
  /** The span that produced what this one consumes. */
  sender?: Span;
  /** It hangs under the span that it links to, for it names no parent of this trace. */
  linked?: boolean;
  /** Its parent is not stored. */
  orphan?: boolean;
}

export interface Trace {
  /** In the order of the waterfall: each span before its children, children by start. */
  spans: Span[];
  /** Unix milliseconds. */
  startMs: number;
  /** Nanoseconds. */
  duration: number;
  services: string[];
  errors: number;
  root?: Span;
  /** Services whose clocks were seen to be off, and by how much their spans are moved here; what is stored stays. */
  skews: { service: string; nanos: number }[];
}

/** Hex of an id that is base64 (Tempo's JSON) or hex already (OTLP's JSON). */
export function hexId(id: string | undefined): string {
  if (!id) return "";
  if (/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/i.test(id)) return id.toLowerCase();
  try {
    return [...atob(id)].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  } catch {
    return id;
  }
}

const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"];

const kindOf = (kind: string | number | undefined): string =>
  typeof kind === "number" ? (KINDS[kind] ?? "unspecified") : (kind ?? "unspecified").replace("SPAN_KIND_", "").toLowerCase();

const isError = (code: string | number | undefined): boolean => code === 2 || code === "STATUS_CODE_ERROR";

export function buildTrace(raw: RawTrace): Trace {
  const resources = raw.resourceSpans ?? raw.batches ?? [];
  let first: bigint | undefined;
  for (const { scopeSpans } of resources)
    for (const { spans } of scopeSpans ?? [])
      for (const { startTimeUnixNano } of spans ?? []) {
        const start = BigInt(startTimeUnixNano || "0");
        if (first === undefined || start < first) first = start;
      }
  const origin = first ?? 0n;
  const flat = resources.flatMap(({ resource, scopeSpans }) => {
    const attributes = attributeMap(resource?.attributes);
    return (scopeSpans ?? []).flatMap(({ scope, spans }) => (spans ?? []).map((one) => toSpan(one, attributes, scope?.name ?? "", origin)));
  });
  const roots = link(flat);
  const spans: Span[] = [];
  walk(roots, 0, spans);
  const skews = correctClocks(spans);
  settle(spans, roots);
  const start = spans.reduce((least, one) => Math.min(least, one.start), spans[0]?.start ?? 0);
  if (start !== 0) for (const one of spans) move(one, -start);
  return {
    spans,
    startMs: Number((origin + BigInt(Math.round(start))) / 1_000_000n),
    duration: spans.reduce((latest, one) => Math.max(latest, endOf(one)), 0),
    services: [...new Set(spans.map((one) => one.service))],
    errors: spans.filter((one) => one.error).length,
    root: roots[0],
    skews,
  };
}

export const endOf = (span: Span): number => span.start + span.duration;

function move(span: Span, by: number): void {
  span.start += by;
  for (const event of span.events) event.at += by;
}

function toSpan(raw: RawSpan, resource: Record<string, string>, scope: string, origin: bigint): Span {
  const since = (nanos: string | undefined) => Number(BigInt(nanos || "0") - origin);
  const start = since(raw.startTimeUnixNano);
  return {
    id: hexId(raw.spanId),
    parent: hexId(raw.parentSpanId).replace(/^0+$/, "") || undefined,
    service: resource["service.name"] ?? "unknown_service",
    name: raw.name,
    kind: kindOf(raw.kind),
    start,
    duration: Math.max(0, since(raw.endTimeUnixNano) - start),
    error: isError(raw.status?.code),
    statusMessage: raw.status?.message ?? "",
    attributes: attributeMap(raw.attributes),
    resource,
    scope,
    events: (raw.events ?? []).map((one) => ({ at: since(one.timeUnixNano), name: one.name ?? "event", attributes: attributeMap(one.attributes) })),
    links: (raw.links ?? []).map((one) => ({ trace: hexId(one.traceId), span: hexId(one.spanId) })),
    depth: 0,
    children: [],
    self: 0,
  };
}

/** Hangs spans under their parents, or under the span that they link to; the rest, and the first of a ring, are roots. */
function link(flat: Span[]): Span[] {
  const byId = new Map(flat.map((one) => [one.id, one]));
  const above = new Map<Span, Span>();
  for (const one of flat) {
    const parent = one.parent ? byId.get(one.parent) : undefined;
    const linked = one.links.map(({ span }) => byId.get(span)).find((other) => other?.kind === "producer" && other !== one);
    one.orphan = one.parent !== undefined && !parent;
    one.linked = !parent && linked !== undefined;
    if (one.kind === "consumer") one.sender = parent?.kind === "producer" ? parent : linked;
    const higher = parent ?? linked;
    if (higher && higher !== one) above.set(one, higher);
  }
  openRings(flat, above);
  const roots: Span[] = [];
  for (const one of flat) {
    const parent = above.get(one);
    one.above = parent;
    if (parent) parent.children.push(one);
    else roots.push(one);
  }
  return roots.sort(byStart);
}

const byStart = (a: Span, b: Span): number => a.start - b.start || a.id.localeCompare(b.id);

/** Takes one span of each ring out of `above`. Each span is passed once, however deep the trace is. */
function openRings(flat: Span[], above: Map<Span, Span>): void {
  const passedIn = new Map<Span, number>();
  flat.forEach((first, walkIdx) => {
    for (let at: Span | undefined = first; at; at = above.get(at)) {
      const passed = passedIn.get(at);
      if (passed === walkIdx) above.delete(at);
      if (passed !== undefined) break;
      passedIn.set(at, walkIdx);
    }
  });
}

/** Where a span runs: spans of one host share a clock. */
const hostOf = (span: Span): string =>
  [span.service, span.resource["service.instance.id"] ?? span.resource["host.name"] ?? span.resource["k8s.pod.name"] ?? ""].join("/");

/**
 * Moves spans of hosts whose clock is visibly off, in the view alone. A server cannot start before its client
 * calls: where it does and is the shorter of the two, it is put into the middle of the call, as Jaeger does. A
 * consumer cannot start before its producer: it is put behind the producer's end. What a span calls on its own
 * host moves with it.
 */
function correctClocks(spans: Span[]): { service: string; nanos: number }[] {
  const moved = new Map<Span, number>();
  const skews = new Map<string, { service: string; nanos: number }>();
  for (const parent of spans) {
    for (const child of parent.children) {
      const shared = hostOf(parent) === hostOf(child);
      const by = shared ? (moved.get(parent) ?? 0) : skewOf(parent, child);
      if (by === 0) continue;
      move(child, by);
      moved.set(child, by);
      if (!shared) skews.set(hostOf(child), { service: child.service, nanos: by });
    }
  }
  return [...skews.values()];
}

function skewOf(parent: Span, child: Span): number {
  if (child.start >= parent.start) return 0;
  if (child.kind === "consumer") return endOf(parent) - child.start;
  if (child.kind !== "server" || child.duration > parent.duration) return 0;
  return parent.start + (parent.duration - child.duration) / 2 - child.start;
}

/** The order of children, and what follows from places in time, once these are settled. */
function settle(spans: Span[], roots: Span[]): void {
  for (const one of spans) one.children.sort(byStart);
  roots.sort(byStart);
  spans.length = 0;
  walk(roots, 0, spans);
  for (const one of spans) {
    one.self = selfTime(one);
    if (one.sender) one.inBroker = Math.max(0, one.start - endOf(one.sender));
  }
}

function selfTime(span: Span): number {
  let covered = 0;
  let until = span.start;
  for (const child of span.children) {
    const from = Math.max(child.start, until);
    const to = Math.min(endOf(child), endOf(span));
    if (to > from) {
      covered += to - from;
      until = to;
    }
  }
  return Math.max(0, span.duration - covered);
}

function walk(roots: Span[], depth: number, into: Span[]): void {
  const stack = roots.map((one) => ({ one, depth })).reverse();
  for (let top = stack.pop(); top; top = stack.pop()) {
    top.one.depth = top.depth;
    into.push(top.one);
    for (let i = top.one.children.length - 1; i >= 0; i--) {
      const one = top.one.children[i];
      if (one) stack.push({ one, depth: top.depth + 1 });
    }
  }
}

/** The few words that tell what a span did: its statement, topic, route or failure. */
export function factsOf(span: Span): string {
  const a = span.attributes;
  const topic = a["messaging.destination.name"];
  const parts = [
    a["db.query.text"] ?? a["db.statement"] ?? a["db.query.summary"],
    topic && `${topic}${partOf(a)}`,
    a["http.route"] ?? a["url.path"] ?? a["http.target"],
    a["http.response.status_code"] ?? a["http.status_code"],
    span.error ? span.statusMessage || "failed" : undefined,
  ];
  return parts.filter(Boolean).join(" · ");
}

function partOf(a: Record<string, string>): string {
  const partition = a["messaging.destination.partition.id"] ?? a["messaging.kafka.partition"];
  const offset = a["messaging.kafka.offset"] ?? a["messaging.kafka.message.offset"];
  return `${partition === undefined ? "" : `/${partition}`}${offset === undefined ? "" : ` @${offset}`}`;
}
