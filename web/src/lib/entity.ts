// Entities are written `kind:name`.

export interface EntityRef {
  kind: string;
  name: string;
}

export function parseEntity(id: string): EntityRef {
  const at = id.indexOf(":");
  return at < 0 ? { kind: "service", name: id } : { kind: id.slice(0, at), name: id.slice(at + 1) };
}

/** The path of an entity's page; slashes inside the name (`topic/3`) are escaped. */
export const entityPath = ({ kind, name }: EntityRef): string =>
  `/entity/${encodeURIComponent(kind)}/${encodeURIComponent(name)}`;

const KINDS: Record<string, string> = {
  service: "service",
  instance: "instance",
  node: "node",
  topic: "topic",
  partition: "partition",
  consumer_group: "consumer group",
  database: "database",
  endpoint: "endpoint",
};

export const kindName = (kind: string): string => KINDS[kind] ?? kind.replaceAll("_", " ");

/** The entity that a label names, or `undefined` for labels that name none. */
export function entityOfLabel(label: string, value: string): EntityRef | undefined {
  const kind = LABELS[label];
  if (!kind || !value) return undefined;
  // OTLP's `job` is `namespace/service`.
  return { kind, name: label === "job" ? value.slice(value.lastIndexOf("/") + 1) : value };
}

const LABELS: Record<string, string> = {
  service: "service",
  job: "service",
  service_name: "service",
  "service.name": "service",
  instance: "instance",
  "service.instance.id": "instance",
  service_instance_id: "instance",
  topic: "topic",
  "messaging.destination.name": "topic",
  messaging_destination_name: "topic",
  group: "consumer_group",
  consumer_group: "consumer_group",
  consumergroup: "consumer_group",
  "messaging.consumer.group.name": "consumer_group",
  messaging_consumer_group_name: "consumer_group",
  db: "database",
  "db.name": "database",
  "db.namespace": "database",
  node: "node",
};
