// Why a trace was slow, in sentences: what its critical path was spent on, against what is usual, and what failed.
import { operationOf, type Piece, type Step, stepsOf } from "./critical";
import { number, percent, seconds } from "./format";
import { endOf, type Span, type Trace } from "./trace";
import type { Cost, Profile } from "./trace-compare";

export interface Normal {
  /** Medians over traces of the same root operation. */
  profile: Profile;
  /** How many traces were looked at for them. */
  traces: number;
  /** How long all traces of that operation took that are stored of the hours before, and how many they are. */
  quantiles: { quantile: number; nanos: number }[];
  count: number;
}

export interface Finding {
  kind: "total" | "own" | "queue" | "gap" | "error" | "repeat" | "retry" | "clock" | "incomplete";
  tone: "bad" | "warn" | "info";
  text: string;
  /** The numbers behind the sentence. */
  evidence: string[];
  /** Where to look. */
  span?: Span;
  /** Nanoseconds of the trace that it explains. */
  time: number;
}

/** Smaller shares of a trace's time are not worth a sentence. */
const SHARE_LEAST = 0.1;
/** A call made as often as this, one after the other, would be one call if it were asked for together. */
const REPEATS_LEAST = 5;
/** A duration that exceeds the usual one by less is usual. */
const SLOWER_LEAST = 1.5;
const STEPS_MAX = 3;
const ERRORS_MAX = 3;

const time = (nanos: number): string => seconds(nanos / 1e9);
const times = (factor: number): string => `${number(factor >= 10 ? Math.round(factor) : Math.round(factor * 10) / 10)} times`;

export function why(trace: Trace, path: Piece[], normal?: Normal): Finding[] {
  if (trace.spans.length === 0) return [];
  const found = [
    ...failures(trace),
    ...steps(trace, stepsOf(path), normal),
    ...repeats(trace, normal),
    ...retries(trace),
  ].sort((a, b) => b.time - a.time);
  return [...total(trace, normal), ...found, ...notes(trace)];
}

function total(trace: Trace, normal: Normal | undefined): Finding[] {
  if (!normal) return [];
  const usual = normal.quantiles.find((one) => one.quantile === 0.5)?.nanos ?? normal.profile.duration;
  const factor = usual > 0 ? trace.duration / usual : 1;
  const slow = factor >= SLOWER_LEAST;
  const text = slow ? `It took ${time(trace.duration)}, ${times(factor)} the usual ${time(usual)}.` : `It took ${time(trace.duration)}; the median is ${time(usual)}.`;
  const beaten = normal.quantiles.filter(({ nanos }) => trace.duration > nanos).at(-1);
  const rank = beaten ? `longer than ${percent(beaten.quantile)} of ${number(normal.count)} traces of the same operation in the 6 hours before` : `${number(normal.count)} traces of the same operation in the 6 hours before`;
  return [{ kind: "total", tone: slow ? "warn" : "info", text, evidence: [rank], time: trace.duration }];
}

/** Operations, waits and holes that make up much of the way. */
function steps(trace: Trace, all: Step[], normal: Normal | undefined): Finding[] {
  const much = all.filter((step) => step.time >= trace.duration * SHARE_LEAST);
  return much.slice(0, STEPS_MAX + 1).map((step): Finding => {
    const share = `${percent(step.time / (trace.duration || 1))} of the way`;
    const usual = normal?.profile.costs.get(operationOf(step));
    if (step.kind === "queue") return queued(step, share, usual, normal);
    if (step.kind === "gap") {
      const text = `Nothing that is stored ran for ${time(step.time)} before ${step.name} of ${step.service}.`;
      return { kind: "gap", tone: "info", text, evidence: [share, "work without spans, or a wait that no span covers"], span: step.longest, time: step.time };
    }
    const before = usual?.critical ?? 0;
    const slow = normal !== undefined && step.time > before * SLOWER_LEAST;
    const calls = step.spans > 1 ? `in ${step.spans} spans` : "";
    const evidence = [share, calls, ...against(step.time, before, normal)].filter(Boolean);
    const fact = step.longest.attributes["db.query.text"] ?? step.longest.attributes["db.statement"];
    if (fact) evidence.push(fact.length > 160 ? `${fact.slice(0, 160)} …` : fact);
    return { kind: "own", tone: slow ? "warn" : "info", text: `${step.name} of ${step.service} worked ${time(step.time)} itself.`, evidence, span: step.longest, time: step.time };
  });
}

function queued(step: Step, share: string, usual: Cost | undefined, normal: Normal | undefined): Finding {
  const topic = step.longest.attributes["messaging.destination.name"] ?? "the broker";
  const before = usual?.queue ?? 0;
  return {
    kind: "queue",
    tone: normal && step.time > before * SLOWER_LEAST ? "warn" : "info",
    text: `Messages waited ${time(step.time)} in ${topic} before ${step.service} took them.`,
    evidence: [share, ...against(step.time, before, normal)],
    span: step.longest,
    time: step.time,
  };
}

function against(now: number, before: number, normal: Normal | undefined): string[] {
  if (!normal) return [];
  if (before <= 0) return ["usually none"];
  const factor = now / before;
  return [factor >= SLOWER_LEAST ? `usually ${time(before)}: ${times(factor)} as long` : `usually ${time(before)}`];
}

/** Failed spans below which none failed: where failures began. */
function failures(trace: Trace): Finding[] {
  const first = trace.spans.filter((span) => span.error && !span.children.some((child) => child.error));
  const byOperation = new Map<string, Span[]>();
  for (const span of first) {
    const key = operationOf(span);
    byOperation.set(key, [...(byOperation.get(key) ?? []), span]);
  }
  return [...byOperation.values()].sort((a, b) => b.length - a.length).slice(0, ERRORS_MAX).flatMap((spans): Finding[] => {
    const [span] = spans;
    if (!span) return [];
    const often = spans.length > 1 ? ` ${spans.length} times` : "";
    const exception = span.events.find((event) => event.name === "exception")?.attributes;
    const said = span.statusMessage || exception?.["exception.message"] || "";
    const passed = failedAbove(span);
    const evidence = [exception?.["exception.type"] ?? "", passed > 0 ? `${passed} ${passed === 1 ? "span" : "spans"} above failed with it` : "what called it did not fail"];
    return [{ kind: "error", tone: "bad", text: `${span.name} of ${span.service} failed${often}${said ? `: ${said}` : "."}`, evidence: evidence.filter(Boolean), span, time: Math.max(...spans.map((one) => one.duration)) }];
  });
}

/** How many spans straight above a failed one failed too. */
function failedAbove(span: Span): number {
  let passed = 0;
  for (let at = span.above; at?.error; at = at.above) passed += 1;
  return passed;
}

/** The same call again and again under one span, each after the other: work that would be one call together. */
function repeats(trace: Trace, normal: Normal | undefined): Finding[] {
  const found: Finding[] = [];
  for (const parent of trace.spans) {
    if (parent.children.length < REPEATS_LEAST) continue;
    for (const calls of byOperation(parent.children)) {
      const [first] = calls;
      if (!first || calls.length < REPEATS_LEAST || calls.some((call) => call.error) || !oneAfterTheOther(calls)) continue;
      const spent = calls.reduce((sum, call) => sum + call.duration, 0);
      if (spent < trace.duration * SHARE_LEAST) continue;
      const usual = normal?.profile.costs.get(operationOf(first))?.calls;
      const evidence = [`${percent(spent / (trace.duration || 1))} of the trace, ${time(spent / calls.length)} each`];
      if (usual !== undefined) evidence.push(`usually ${number(usual)} such spans in a trace`);
      found.push({ kind: "repeat", tone: "warn", text: `${parent.name} of ${parent.service} made the call ${first.name} ${calls.length} times, one after the other: ${time(spent)}.`, evidence, span: first, time: spent });
    }
  }
  return found.sort((a, b) => b.time - a.time).slice(0, 2);
}

function byOperation(spans: Span[]): Span[][] {
  const groups = new Map<string, Span[]>();
  for (const span of spans) {
    const group = groups.get(operationOf(span));
    if (group) group.push(span);
    else groups.set(operationOf(span), [span]);
  }
  return [...groups.values()];
}

/** Whether nine of ten began after the one before had ended. */
function oneAfterTheOther(calls: Span[]): boolean {
  let sequential = 0;
  calls.forEach((call, i) => {
    const before = calls[i - 1];
    if (before && call.start >= endOf(before)) sequential += 1;
  });
  return sequential >= (calls.length - 1) * 0.9;
}

/** Calls that were made again after they failed. */
function retries(trace: Trace): Finding[] {
  const found: Finding[] = [];
  for (const parent of trace.spans) {
    for (const calls of byOperation(parent.children)) {
      const failed = calls.filter((call, i) => call.error && calls.slice(i + 1, i + 2).some((next) => next.start >= endOf(call)));
      const [first] = failed;
      const last = calls.at(-1);
      if (!first || !last) continue;
      const spent = last.start - first.start;
      const outcome = last.error ? "and failed in the end" : "before it went well";
      found.push({ kind: "retry", tone: "warn", text: `${first.name} of ${first.service} was tried ${failed.length + 1} times ${outcome}.`, evidence: [`${time(spent)} until the last attempt began`], span: first, time: spent });
    }
  }
  return found.sort((a, b) => b.time - a.time).slice(0, 2);
}

function notes(trace: Trace): Finding[] {
  const found: Finding[] = trace.skews.map(({ service, nanos }) => ({
    kind: "clock",
    tone: "info",
    text: `The clock of ${service} ${nanos > 0 ? "is behind" : "is ahead"}: its spans are shown ${time(Math.abs(nanos))} ${nanos > 0 ? "later" : "earlier"} than they say.`,
    evidence: ["they would begin before what called them"],
    time: 0,
  }));
  const orphans = trace.spans.filter((span) => span.orphan);
  const [first] = orphans;
  if (first) {
    const whose = [...new Set(orphans.map((span) => span.service))].join(", ");
    found.push({ kind: "incomplete", tone: "info", text: `What called ${orphans.length === 1 ? "one span" : `${orphans.length} spans`} is not stored: the trace is incomplete.`, evidence: [`in ${whose}`], span: first, time: 0 });
  }
  return found;
}
