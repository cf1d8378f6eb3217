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
  children: Span[];
  /** Time not covered by children, nanoseconds. */
  self: number;
  /** Nanoseconds between the end of the sending span and the start of this receiving one. */
  inBroker?: number;
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
  const end = Math.max(0, ...spans.map((one) => one.start + one.duration));
  return {
    spans,
    startMs: Number(origin / 1_000_000n),
    duration: end,
    services: [...new Set(spans.map((one) => one.service))],
    errors: spans.filter((one) => one.error).length,
    root: roots[0],
  };
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

/** Hangs spans under their parents; those whose parent is missing, or which form a ring, are roots. */
function link(flat: Span[]): Span[] {
  const byId = new Map(flat.map((one) => [one.id, one]));
  const roots: Span[] = [];
  for (const one of flat) {
    const parent = one.parent ? byId.get(one.parent) : undefined;
    if (!parent || parent === one || reaches(parent, one, byId)) roots.push(one);
    else parent.children.push(one);
    if (one.kind === "consumer") {
      const sender = parent?.kind === "producer" ? parent : byId.get(one.links[0]?.span ?? "");
      if (sender?.kind === "producer") one.inBroker = Math.max(0, one.start - (sender.start + sender.duration));
    }
  }
  for (const one of flat) one.children.sort((a, b) => a.start - b.start || a.id.localeCompare(b.id));
  for (const one of flat) one.self = selfTime(one);
  return roots.sort((a, b) => a.start - b.start);
}

/** Whether following parents from `from` meets `target`: then linking them would make a ring. */
function reaches(from: Span, target: Span, byId: Map<string, Span>): boolean {
  const seen = new Set<Span>();
  for (let at: Span | undefined = from; at && !seen.has(at); at = at.parent ? byId.get(at.parent) : undefined) {
    if (at === target) return true;
    seen.add(at);
  }
  return false;
}

function selfTime(span: Span): number {
  let covered = 0;
  let until = span.start;
  const end = span.start + span.duration;
  for (const child of span.children) {
    const from = Math.max(child.start, until);
    const to = Math.min(child.start + child.duration, end);
    if (to > from) {
      covered += to - from;
      until = to;
    }
  }
  return Math.max(0, span.duration - covered);
}

function walk(spans: Span[], depth: number, into: Span[]): void {
  const stack = spans.map((one) => ({ one, depth })).reverse();
  for (let top = stack.pop(); top; top = stack.pop()) {
    top.one.depth = top.depth;
    into.push(top.one);
    for (const child of [...top.one.children].reverse()) stack.push({ one: child, depth: top.depth + 1 });
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

/** Spans that decide how long the whole took: from the end backwards, the child that ended last. */
export function criticalPath(trace: Trace): Set<string> {
  const path = new Set<string>();
  let at = trace.spans.reduce<Span | undefined>((latest, one) => (!latest || one.start + one.duration > latest.start + latest.duration ? one : latest), undefined);
  const byId = new Map(trace.spans.map((one) => [one.id, one]));
  while (at && !path.has(at.id)) {
    path.add(at.id);
    at = at.parent ? byId.get(at.parent) : undefined;
  }
  return path;
}
