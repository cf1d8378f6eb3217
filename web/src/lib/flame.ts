// A trace as a flame graph: spans of one operation under one caller are one frame, as wide as the work in it.
import { operationOf } from "./critical";
import type { Trace } from "./trace";

export interface Frame {
  /** The operations from the root to here; the same in every drawing of the trace. */
  key: string;
  service: string;
  name: string;
  depth: number;
  calls: number;
  errors: number;
  /** Nanoseconds that these spans worked themselves, their children not counted. */
  self: number;
  /** The same with everything below. Work side by side adds up, so this may exceed the trace's duration. */
  total: number;
  parent?: Frame;
  children: Frame[];
}

/** The top frames, widest first. */
export function flameOf(trace: Trace): Frame[] {
  const roots: Frame[] = [];
  const frames: Frame[] = [];
  const index = new Map<Frame | undefined, Map<string, Frame>>();
  // The frame of the last span at each depth: in the waterfall's order that is the parent of the next deeper one.
  const above: Frame[] = [];
  for (const span of trace.spans) {
    const parent = span.depth > 0 ? above[span.depth - 1] : undefined;
    let siblings = index.get(parent);
    if (!siblings) index.set(parent, (siblings = new Map()));
    const operation = operationOf(span);
    let frame = siblings.get(operation);
    if (!frame) {
      const nth = frames.length.toString(36);
      frame = { key: nth, service: span.service, name: span.name, depth: span.depth, calls: 0, errors: 0, self: 0, total: 0, parent, children: [] };
      siblings.set(operation, frame);
      frames.push(frame);
      (parent?.children ?? roots).push(frame);
    }
    frame.calls += 1;
    frame.self += span.self;
    if (span.error) frame.errors += 1;
    above[span.depth] = frame;
  }
  for (const frame of frames.toReversed()) {
    frame.total += frame.self;
    if (frame.parent) frame.parent.total += frame.total;
    frame.children.sort((a, b) => b.total - a.total);
  }
  return roots.sort((a, b) => b.total - a.total);
}

export interface Placed {
  frame: Frame;
  row: number;
  /** Shares of the width, 0 to 1. */
  left: number;
  width: number;
}

/** Where frames stand when `focus`, or all, fills the width; those narrower than `least` are left out, and so is what is below them. */
export function placeFrames(roots: Frame[], focus: Frame | undefined, least = 0.0008): Placed[] {
  const placed: Placed[] = [];
  const ways: Frame[] = [];
  for (let at = focus?.parent; at; at = at.parent) ways.unshift(at);
  ways.forEach((frame, row) => placed.push({ frame, row, left: 0, width: 1 }));
  const top = focus ? [focus] : roots;
  const whole = top.reduce((sum, one) => sum + one.total, 0) || 1;
  const stack: { frames: Frame[]; row: number; left: number }[] = [{ frames: top, row: ways.length, left: 0 }];
  for (let next = stack.pop(); next; next = stack.pop()) {
    let left = next.left;
    for (const frame of next.frames) {
      const width = frame.total / whole;
      if (width >= least) {
        placed.push({ frame, row: next.row, left, width });
        if (frame.children.length > 0) stack.push({ frames: frame.children, row: next.row + 1, left });
      }
      left += width;
    }
  }
  return placed;
}

/** The frame with a key, wherever it is. */
export function findFrame(roots: Frame[], key: string): Frame | undefined {
  const stack = [...roots];
  for (let one = stack.pop(); one; one = stack.pop()) {
    if (one.key === key) return one;
    stack.push(...one.children);
  }
  return undefined;
}
