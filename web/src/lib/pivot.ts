// One click from a metric to logs, to traces, and back: which query the other signal is asked.
import { type EntityRef, entityOfLabel, entityPath } from "./entity";
import type { Range } from "./time";

export interface PivotPaths {
  metrics?: string;
  logs?: string;
  traces?: string;
  entity?: string;
  entityName?: string;
}

const SERVICE = ["service_name", "service", "service.name", "job", "app"];
const TOPIC = ["topic", "messaging_destination_name", "messaging.destination.name"];

/** OTLP's `job` is `namespace/service`. */
const bare = (name: string): string => name.slice(name.lastIndexOf("/") + 1);

const first = (labels: Record<string, string>, names: string[]) => {
  for (const name of names) if (labels[name]) return labels[name];
  return undefined;
};

/** A value inside double quotes of any of the three languages. */
export const quote = (value: string): string => `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;

const path = (page: string, q: string) => `${page}?q=${encodeURIComponent(q)}`;

export const logsPath = (q: string): string => path("/explore/logs", q);
export const tracesPath = (q: string): string => path("/explore/traces", q);
export const metricsPath = (q: string): string => path("/explore/metrics", q);

/** The metrics of an entity: the page asks the server by which series they are told. */
export const entityMetricsPath = ({ kind, name }: EntityRef): string => `/explore/metrics?entity=${encodeURIComponent(`${kind}:${name}`)}`;

/** Where the labels of a series, a stream or a span lead. A topic's logs are those that name it. */
export function pivotsOf(labels: Record<string, string>, _range?: Range): PivotPaths {
  const own = first(labels, SERVICE);
  const service = own === undefined ? undefined : bare(own);
  const topic = first(labels, TOPIC);
  const named = namedEntity(labels);
  const found: PivotPaths = named ? { entity: entityPath(named), entityName: named.name } : {};
  if (service) {
    return {
      ...found,
      metrics: entityMetricsPath({ kind: "service", name: service }),
      logs: logsPath(`{service_name=${quote(service)}}`),
      traces: tracesPath(`{ resource.service.name = ${quote(service)} }`),
    };
  }
  if (topic) {
    return {
      ...found,
      metrics: entityMetricsPath({ kind: "topic", name: topic }),
      logs: logsPath(`{service_name=~".+"} |= ${quote(topic)}`),
      traces: tracesPath(`{ span.messaging.destination.name = ${quote(topic)} }`),
    };
  }
  return found;
}

function namedEntity(labels: Record<string, string>) {
  for (const name of [...SERVICE, ...TOPIC, "group", "consumergroup", "instance"]) {
    const value = labels[name];
    const entity = value ? (entityOfLabel(name, value) ?? { kind: "service", name: bare(value) }) : undefined;
    if (entity) return entity;
  }
  return undefined;
}

/** A window around a moment: a tenth of the range to both sides, between 30 s and 15 min. */
export function aroundMoment(at: number, range: Range): Range {
  const half = Math.min(900_000, Math.max(30_000, (range.to - range.from) / 10));
  return { from: Math.round(at - half), to: Math.round(at + half) };
}
