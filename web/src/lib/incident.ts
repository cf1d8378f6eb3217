// Where an incident's buttons lead, and which time its charts show.
import type { Cause, Incident } from "../api/types";
import type { EntityRef } from "./entity";
import { parseEntity } from "./entity";
import { entityMetricsPath, logsPath, metricsPath, quote, tracesPath } from "./pivot";
import { parseIso, type Range } from "./time";

/** From the baseline's end part to now, so that "before" is in view; at most three hours. */
export function incidentWindow(of: Incident, now: number): Range {
  const since = parseIso(of.since) ?? parseIso(of.opened_at) ?? now;
  const end = parseIso(of.resolved_at) ?? now;
  const lead = Math.max(180_000, Math.min(1_800_000, end - since));
  const from = Math.floor((since - lead) / 1000) * 1000;
  const to = Math.min(now, end + 60_000);
  return { from: Math.max(from, to - 3 * 3_600_000), to: Math.max(to, from + 60_000) };
}

/** The thing to look at first: what broke, not who noticed. */
export function incidentEntity(of: Incident): EntityRef | undefined {
  const cause = of.causes[0];
  if (cause?.service) return { kind: "service", name: cause.service };
  if (cause?.thing.group) return { kind: "consumer_group", name: cause.thing.group };
  const first = of.affected[0];
  return first ? parseEntity(first) : undefined;
}

export function incidentPivots(of: Incident): { logs: string; traces: string; metrics: string } {
  const cause = of.causes[0];
  const named = linkTo(cause, "/explore/metrics");
  const entity = incidentEntity(of);
  if (!entity) {
    return { logs: "/explore/logs", traces: tracesPath("{ status = error }"), metrics: metricsPath(of.alerts[0]?.expr ?? "") };
  }
  const value = quote(entity.name);
  const own =
    entity.kind === "service"
      ? { logs: logsPath(`{service_name=${value}}`), traces: tracesPath(`{ resource.service.name = ${value} }`), metrics: entityMetricsPath(entity) }
      : { logs: logsPath(`{service_name=~".+"} |= ${value}`), traces: tracesPath("{ status = error }"), metrics: metricsPath(of.alerts[0]?.expr ?? "") };
  return {
    logs: linkTo(cause, "/explore/logs") ?? own.logs,
    traces: linkTo(cause, "/explore/traces") ?? own.traces,
    metrics: named ?? own.metrics,
  };
}

/** The first link of a cause's evidence that leads to this page of the UI. */
function linkTo(cause: Cause | undefined, page: string): string | undefined {
  return cause?.evidence.flatMap((one) => one.links).find((link) => link.url.startsWith(page))?.url;
}

/** What is broken, beside the service: the statement, the partition, the version. */
export function thingText(cause: Cause): string | undefined {
  const { thing } = cause;
  switch (thing.type) {
    case "statement":
      return thing.statement;
    case "partition":
      return `${thing.group ?? "group"} on ${thing.topic ?? "topic"}${thing.partition === undefined || thing.partition === null ? "" : `, partition ${thing.partition}`}`;
    case "version":
      return thing.previous ? `version ${thing.version}, before it ${thing.previous}` : `version ${thing.version}`;
    default:
      return undefined;
  }
}
