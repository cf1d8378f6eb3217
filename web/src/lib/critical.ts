// Which work decided how long a trace took.
//
// The path is walked backwards from the trace's end. While the place is inside a span, what that span waited for last
// was the child that ended last before the place: the time between the child's end and the place is the span's own,
// and the walk goes on inside the child, then at the child's start. Children that still ran at the place without
// ending before it were not waited for, save at the first step, where a child that outlives its parent counts up to
// the parent's end. (Jaeger's page and CRISP, Zhang et al., USENIX ATC 2022, do the same for calls.)
//
// Messages add one case: a consumer begins after its producer has ended. A place behind a span's own end therefore
// belongs to the child whose descendants reach furthest towards it, and the time between the span's end and that
// child's start was spent in the broker, or, without a producer and a consumer, in no span at all.
//
// Each nanosecond between the first start and the last end of a trace is in exactly one piece.
import { endOf, type Span, type Trace } from "./trace";

export interface Piece {
  /** Nanoseconds after the trace's start. */
  from: number;
  to: number;
  /** `own`: the span itself worked. `queue`: a message waited for `span`, its consumer. `gap`: nothing ran until `span` did. */
  kind: "own" | "queue" | "gap";
  span: Span;
}

interface Visit {
  span: Span;
  at: number;
  /** Nothing of this span or below counts before. */
  floor: number;
  /** Children by end, latest first, and which of them is looked at next. */
  ended: Span[];
  next: number;
  first: boolean;
}

/** Pieces in order of time, without holes; pieces of no length are left out. */
export function criticalPath(trace: Trace): Piece[] {
  const reach = reaches(trace);
  const last = trace.spans.filter((one) => one.depth === 0).reduce<Span | undefined>((a, b) => (a && reachOf(reach, a) >= reachOf(reach, b) ? a : b), undefined);
  if (!last) return [];
  const pieces: Piece[] = [];
  const add = (from: number, to: number, kind: Piece["kind"], span: Span) => {
    if (to > from) pieces.push({ from, to, kind, span });
  };
  const open: (Visit | Piece)[] = [visit(last, reachOf(reach, last), 0)];
  for (let top = open.at(-1); top; top = open.at(-1)) {
    if ("kind" in top) {
      open.pop();
      add(top.from, top.to, top.kind, top.span);
      continue;
    }
    const { span, floor } = top;
    const start = Math.max(span.start, floor);
    if (top.at <= start) {
      open.pop();
      continue;
    }
    if (top.at > endOf(span)) behindTheEnd(top, start, reach, open, add);
    else inside(top, start, open, add);
  }
  const begin = pieces.at(-1)?.from ?? 0;
  add(0, begin, "gap", pieces.at(-1)?.span ?? last);
  return pieces.reverse();
}

type Add = (from: number, to: number, kind: Piece["kind"], span: Span) => void;

const visit = (span: Span, at: number, floor: number): Visit => ({
  span,
  at,
  floor,
  ended: span.children.toSorted((a, b) => endOf(b) - endOf(a)),
  next: 0,
  first: true,
});

/** The last thing a span waited for, with what it did itself since. */
function inside(top: Visit, start: number, open: (Visit | Piece)[], add: Add): void {
  const { span, at } = top;
  while (top.next < top.ended.length) {
    const child = top.ended[top.next++];
    if (!child || child.start >= at || endOf(child) <= start) continue;
    if (endOf(child) > at && !top.first) continue;
    const until = Math.min(endOf(child), at);
    add(until, at, "own", span);
    top.at = Math.max(start, child.start);
    top.first = false;
    open.push(visit(child, until, start));
    return;
  }
  add(start, at, "own", span);
  top.at = start;
}

/** A place behind the span's own end: what came of it afterwards, and how long that waited to begin. */
function behindTheEnd(top: Visit, start: number, reach: Map<Span, number>, open: (Visit | Piece)[], add: Add): void {
  const { span, at } = top;
  const end = Math.max(start, endOf(span));
  let furthest: Span | undefined;
  for (const child of span.children) {
    if (child.start < at && reachOf(reach, child) > end && (!furthest || reachOf(reach, child) > reachOf(reach, furthest))) furthest = child;
  }
  top.at = end;
  if (!furthest) return add(end, at, "gap", span);
  const until = Math.min(reachOf(reach, furthest), at);
  add(until, at, "gap", furthest);
  const waited = furthest.sender === span || (span.kind === "producer" && furthest.kind === "consumer") ? "queue" : "gap";
  if (furthest.start >= end) open.push({ from: end, to: furthest.start, kind: waited, span: furthest });
  else top.at = Math.max(start, furthest.start);
  open.push(visit(furthest, until, start));
}

/** When the last of a span and its descendants ended. */
function reaches(trace: Trace): Map<Span, number> {
  const reach = new Map<Span, number>();
  // Parents stand before their children, so that backwards all children are known.
  for (let i = trace.spans.length - 1; i >= 0; i--) {
    const one = trace.spans[i];
    if (one) reach.set(one, one.children.reduce((latest, child) => Math.max(latest, reach.get(child) ?? 0), endOf(one)));
  }
  return reach;
}

const reachOf = (reach: Map<Span, number>, span: Span): number => reach.get(span) ?? endOf(span);

export function piecesBySpan(path: Piece[]): Map<string, Piece[]> {
  const bySpan = new Map<string, Piece[]>();
  for (const piece of path) {
    const own = bySpan.get(piece.span.id);
    if (own) own.push(piece);
    else bySpan.set(piece.span.id, [piece]);
  }
  return bySpan;
}

export const operationOf = (span: { service: string; name: string }): string => `${span.service}\n${span.name}`;

export interface Step {
  kind: Piece["kind"];
  service: string;
  name: string;
  /** Nanoseconds. */
  time: number;
  /** How many spans, or waits, of this kind are on the path. */
  spans: number;
  /** The span with the longest piece. */
  longest: Span;
}

/** The path by operation, most time first. */
export function stepsOf(path: Piece[]): Step[] {
  const steps = new Map<string, Step & { seen: Set<string>; most: number }>();
  for (const { from, to, kind, span } of path) {
    const key = `${kind}\n${operationOf(span)}`;
    let step = steps.get(key);
    if (!step) steps.set(key, (step = { kind, service: span.service, name: span.name, time: 0, spans: 0, longest: span, seen: new Set(), most: 0 }));
    step.time += to - from;
    step.seen.add(span.id);
    if (to - from > step.most) {
      step.most = to - from;
      step.longest = span;
    }
  }
  return [...steps.values()].map(({ seen, most: _, ...step }) => ({ ...step, spans: seen.size })).sort((a, b) => b.time - a.time || a.name.localeCompare(b.name));
}
