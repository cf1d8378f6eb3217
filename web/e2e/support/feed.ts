// Ten minutes of a small pipeline, sent as applications and agents do: OTLP/HTTP JSON and Loki's push JSON.

export const SERVICES = { producer: "league-producer", enricher: "enricher", delivery: "delivery-api" };
export const TOPIC = "events.raw";
export const DATABASE = "players";

const nanos = (ms: number) => String(BigInt(Math.round(ms)) * 1_000_000n);
const text = (key: string, value: string) => ({ key, value: { stringValue: value } });
const attributes = (of: Record<string, string>) => Object.entries(of).map(([key, value]) => text(key, value));
const hex = (n: number, length: number) => n.toString(16).padStart(length, "0");

async function post(url: string, path: string, body: unknown, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(url + path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
}

const resource = (service: string, version = "1.0.0") => ({
  attributes: attributes({ "service.name": service, "service.version": version, "service.namespace": "pipeline", "service.instance.id": `${service}-0` }),
});

/** A counter and a gauge of the enricher, a point every ten seconds. */
export async function sendMetrics(url: string, from: number, to: number, depth: (t: number) => number): Promise<void> {
  const times: number[] = [];
  for (let t = from; t <= to; t += 10_000) times.push(t);
  await post(url, "/v1/metrics", {
    resourceMetrics: [{
      resource: resource(SERVICES.enricher),
      scopeMetrics: [{
        scope: { name: "test" },
        metrics: [
          { name: "events_processed", sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: times.map((t, i) => ({ startTimeUnixNano: nanos(from), timeUnixNano: nanos(t), asInt: String(i * 3000), attributes: attributes({ topic: TOPIC }) })) } },
          { name: "queue_depth", gauge: { dataPoints: times.map((t) => ({ timeUnixNano: nanos(t), asDouble: depth(t), attributes: [] })) } },
        ],
      }],
    }],
  });
}

export const traceId = (i: number): string => hex(0xfeed0000 + i, 32);

/** One event's way from the producer over the topic to the enricher, its database and the delivery; every sixth fails. */
export async function sendTraces(url: string, starts: number[]): Promise<void> {
  const span = (i: number, n: number, parent: number | undefined, name: string, kind: number, from: number, to: number, more: Record<string, string> = {}, failed = false) => ({
    traceId: traceId(i), spanId: hex((i + 1) * 100 + n, 16), parentSpanId: parent === undefined ? "" : hex((i + 1) * 100 + parent, 16),
    name, kind, startTimeUnixNano: nanos(from), endTimeUnixNano: nanos(to), attributes: attributes(more), status: failed ? { code: 2, message: "player unknown" } : {},
  });
  const kafka = { "messaging.system": "kafka", "messaging.destination.name": TOPIC };
  const of: Record<string, object[]> = { [SERVICES.producer]: [], [SERVICES.enricher]: [], [SERVICES.delivery]: [] };
  starts.forEach((t, i) => {
    const failed = i % 6 === 5;
    of[SERVICES.producer]?.push(span(i, 1, undefined, `publish ${TOPIC}`, 4, t, t + 4, { ...kafka, "messaging.operation.type": "send" }));
    of[SERVICES.enricher]?.push(
      span(i, 2, 1, `process ${TOPIC}`, 5, t + 40, t + 90 + (i % 7) * 20, { ...kafka, "messaging.operation.type": "process", "messaging.consumer.group.name": "enrich" }, failed),
      span(i, 3, 2, `SELECT ${DATABASE}`, 3, t + 45, t + 70, { "db.system.name": "sqlite", "db.namespace": DATABASE, "db.query.text": "SELECT name FROM players WHERE id = ?" }, failed),
      span(i, 4, 2, "POST /deliver", 3, t + 72, t + 88),
    );
    of[SERVICES.delivery]?.push(span(i, 5, 4, "POST /deliver", 2, t + 74, t + 86, { "http.route": "/deliver", "http.response.status_code": "200" }));
  });
  await post(url, "/v1/traces", {
    resourceSpans: Object.entries(of).map(([service, spans]) => ({ resource: resource(service), scopeSpans: [{ scope: { name: "test" }, spans }] })),
  });
}

/** JSON lines of the enricher by Loki push, with the trace each belongs to. */
export async function sendLogs(url: string, times: number[], message = "event enriched"): Promise<void> {
  await post(url, "/loki/api/v1/push", {
    streams: [{
      stream: { app: SERVICES.enricher, namespace: "pipeline", pod: `${SERVICES.enricher}-0` },
      values: times.map((t, i) => {
        const level = i % 6 === 5 ? "error" : i % 4 === 1 ? "warn" : "info";
        return [nanos(t), JSON.stringify({ level, message: level === "error" ? "player unknown" : message, topic: TOPIC, partition: i % 4, offset: 1000 + i, trace_id: traceId(i) })];
      }),
    }],
  });
}

/** A log line by OTLP, whose trace id is a field of its own. */
export async function sendOtlpLog(url: string, at: number, body: string, trace: number): Promise<void> {
  await post(url, "/v1/logs", {
    resourceLogs: [{ resource: resource(SERVICES.delivery), scopeLogs: [{ scope: { name: "test" }, logRecords: [{ timeUnixNano: nanos(at), severityNumber: 9, severityText: "INFO", body: { stringValue: body }, traceId: traceId(trace), spanId: hex((trace + 1) * 100 + 5, 16) }] }] }],
  });
}

/** Something that is refused, so that its reason shows. */
export async function sendNonsense(url: string): Promise<void> {
  const response = await fetch(`${url}/loki/api/v1/push`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"streams":[{"stream":{},"values":[["1","x"]]}]}' });
  if (response.ok) throw new Error("a stream without labels was accepted");
}
