// Traces for tests: spans by number, times in nanoseconds after a fixed start.
import { buildTrace, type RawSpan, type Trace } from "./trace";

export const id = (n: number): string => n.toString(16).padStart(16, "0");

const START = 1_700_000_000_000_000_000n;

type More = Partial<Omit<RawSpan, "attributes" | "links">> & { attributes?: Record<string, string>; links?: { spanId: string; traceId?: string }[] };

const base64 = (hex: string): string => btoa(String.fromCharCode(...(hex.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16))));

export const raw = (n: number, parent: number | undefined, from: number, to: number, { attributes = {}, ...more }: More = {}): RawSpan => ({
  spanId: base64(id(n)),
  parentSpanId: parent === undefined ? undefined : base64(id(parent)),
  name: `span ${n}`,
  startTimeUnixNano: String(START + BigInt(from)),
  endTimeUnixNano: String(START + BigInt(to)),
  attributes: Object.entries(attributes).map(([key, stringValue]) => ({ key, value: { stringValue } })),
  ...more,
});

/** A trace of spans by service. */
export const traceOf = (services: Record<string, RawSpan[]>): Trace =>
  buildTrace({
    resourceSpans: Object.entries(services).map(([service, spans]) => ({
      resource: { attributes: [{ key: "service.name", value: { stringValue: service } }] },
      scopeSpans: [{ spans }],
    })),
  });

export const of = (...spans: RawSpan[]): Trace => traceOf({ s: spans });
