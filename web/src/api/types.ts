// weir's own API, as docs/api.md writes it. Times are RFC 3339 texts.

export interface Status {
  version: string;
  started_at: string;
  now: string;
  storage: Record<"metrics" | "logs" | "traces", "memory" | "disk">;
  external_url: string;
  demo: boolean;
  budgets: { account: string; used_bytes: number; limit_bytes: number }[];
}

export interface MapNode {
  id: string;
  kind: string;
  name: string;
  rate: number;
  error_ratio: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  firing: number;
  pending: number;
  lag_messages?: number;
  lag_seconds?: number;
  versions: string[];
}

export interface MapEdge {
  from: string;
  to: string;
  kind: "produce" | "consume" | "call" | "query";
  group?: string;
  rate: number;
  error_ratio: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  lag_messages?: number;
  lag_seconds?: number;
  /** Of a consume edge: share of messages whose producer's span is known. */
  continuity?: number;
  /** The library whose span last took a message without any trace context. */
  context_lost_by?: string;
}

export interface PipelineMap {
  nodes: MapNode[];
  edges: MapEdge[];
}

export interface EntityRow {
  id: string;
  kind: string;
  name: string;
  last_seen: string;
}

export interface Entity extends EntityRow {
  first_seen: string;
  instances: string[];
  namespaces: string[];
  versions: { version: string; from: string; to?: string }[];
  upstream: string[];
  downstream: string[];
  selectors: { metrics: string; logs: string; traces: string };
  golden: { title: string; unit: string; query: string }[];
}

export interface Change {
  at: string;
  kind: string;
  entity: { kind: string; name: string };
  title: string;
  from?: string;
  to?: string;
  instances?: string[];
  source: string;
  attributes?: Record<string, string>;
}

export interface Evidence {
  text: string;
  signal: "metrics" | "spans" | "logs" | "changes" | "lag";
  before?: number;
  during?: number;
  unit?: string;
  chart?: { language: "promql" | "logql" | "traceql"; query: string; unit?: string; threshold?: number };
  links: { title: string; url: string }[];
}

export interface Cause {
  service: string;
  instance?: string;
  kind: string;
  signal: string;
  score: number;
  since?: string;
  summary: string;
  thing: {
    type: "none" | "statement" | "partition" | "version";
    statement?: string;
    database?: string;
    group?: string;
    topic?: string;
    partition?: number;
    version?: string;
    previous?: string;
  };
  evidence: Evidence[];
}

export interface IncidentAlert {
  fingerprint: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  phase: string;
  active_at: string;
  value: number;
  expr: string;
}

export interface Incident {
  id: string;
  state: "pending" | "firing" | "resolved";
  title: string;
  summary: string;
  known: boolean;
  confidence: number;
  since: string;
  opened_at: string;
  fired_at?: string;
  resolved_at?: string;
  acknowledged?: { by: string; at: string; comment: string };
  window: { start: string; end: string };
  baseline: { start: string; end: string };
  alerts: IncidentAlert[];
  causes: Cause[];
  changes: Change[];
  impact: string[];
  affected: string[];
  timeline: { at: string; kind: string; text: string }[];
  ruled_out: string[];
}

export interface Slo {
  id: string;
  name: string;
  service: string;
  description: string;
  objective: number;
  tier: string | null;
  labels: Record<string, string>;
  file: string;
  period: { start: string; end: string };
  state: "ok" | "burning" | "exhausted" | "unknown";
  error_ratio?: number;
  budget_left?: number;
  burn_rate?: number;
  exhausted_at?: string;
  alerts: { name: string; severity: string; window: string; state: string; since: string }[];
  windows: { severity: string; factor: number; long_seconds: number; short_seconds: number; threshold: number }[];
  page_times: {
    ratio: number;
    window_seconds: number | null;
    scrape_seconds: number;
    evaluation_seconds: number;
    group_wait_seconds: number;
    total_seconds: number | null;
  }[];
}

/** How many series a metric has, and whether anybody looks at them. */
export interface MetricCount {
  name: string;
  series: number;
  grown: { by: number; since: string } | null;
  rules: number;
  queried_at: string | null;
}

export interface LabelCount {
  name: string;
  n_values: number;
  values: { value: string; series: number }[];
}

export interface TargetCount {
  job: string;
  instance: string;
  series: number;
}

/** A budget of series that is nearly used up, or was. */
export interface SeriesBudget {
  budget: string;
  action: "warn" | "fold" | "drop" | "refuse";
  /** `null`: of all metrics of the tenant. */
  metric: string | null;
  series: number;
  max_series: number;
  used_ratio: number;
  culprit: { metric: string; label: LabelCount | null; target: TargetCount | null };
  folded_labels: string[];
  hidden_series: number;
  samples: { folded: number; dropped: number; refused: number };
  example: string;
}

export interface Cardinality {
  series: number;
  n_metrics: number;
  n_matching: number;
  unused: { metrics: number; series: number; since: string };
  budgets: SeriesBudget[];
  metrics: MetricCount[];
}

export interface MetricCensus {
  name: string;
  series: number;
  series_looked_at: number;
  labels: LabelCount[];
  targets: TargetCount[];
  rules: string[];
  queried_at: string | null;
}

/** Which of a service's lines carry what a line should. */
export interface LogContract {
  fields: string[];
  services: { namespace: string; service: string; lines: number; carrying: Record<string, number> }[];
}

export interface Sender {
  id: string;
  protocol: string;
  address: string;
  user_agent: string;
  tenant: string;
  last_seen: string;
  accepted: { items: number; bytes: number };
  refused: { reason: string; count: number; last_example: string; last_at: string }[];
}

export interface UsageRow {
  signal: string;
  tenant: string;
  namespace: string;
  service: string;
  items: number;
  bytes: number;
}

export interface LagRow {
  cluster: string;
  group: string;
  topic: string;
  partition: number;
  lag: number | null;
  lag_seconds: number | null;
  position: number;
  end_offset: number;
  source: string;
}

export interface Transition {
  at: string;
  phase: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  value: number;
  fingerprint: string;
}

export interface Notification {
  at: string;
  receiver: string;
  integration: string;
  status: "sent" | "failed";
  error?: string;
  group_key: string;
  alerts: number;
  reason: string;
}

export interface Shift {
  start: string;
  end: string;
  person: string | null;
  layer?: string;
  override?: string;
}

export interface Override {
  id: string;
  person: string;
  start: string;
  end: string;
  by: string;
  /** It stands in oncall.yml. */
  file: boolean;
}

export interface Schedule {
  name: string;
  time_zone: string;
  now: string | null;
  next: { at: string; person: string | null } | null;
  shifts: Shift[];
  layers: { name: string; people: string[]; shifts: Shift[] }[];
  overrides: Override[];
}

export interface OnCall {
  configured: boolean;
  now: string;
  time_zone: string;
  people: { name: string; shown: string; contacts: string[] }[];
  schedules: Schedule[];
  watchdog_seconds: number | null;
}

export interface Told {
  person?: string;
  channel?: string;
  receiver?: string;
  step: number;
  round: number;
  at: string;
  state: "under_way" | "sent" | "failed" | "stopped";
  answered_at?: string;
  error?: string;
}

export interface Escalation {
  id: string;
  rule: string;
  title: string;
  tier?: string;
  chain: string;
  state: "escalating" | "told" | "exhausted" | "acknowledged" | "resolved" | "muted";
  started_at: string;
  step: number | null;
  steps: number;
  round: number;
  next_at?: string;
  ended_at?: string;
  told: Told[];
  notes: string[];
  acknowledged?: { by: string; at: string; comment: string };
  alerts: { fingerprint: string; labels: Record<string, string> }[];
}

export interface Counted {
  name: string;
  pages: number;
  acknowledged: number;
  exhausted: number;
  at_night: number;
  acted_upon: number | null;
  mtta_seconds: number | null;
  mttr_seconds: number | null;
}

export interface Figures {
  start: string;
  end: string;
  all: Omit<Counted, "name">;
  by_rule: Counted[];
  by_person: Counted[];
  by_night: Counted[];
}

export interface Silence {
  id: string;
  status: { state: "active" | "pending" | "expired" };
  matchers: { name: string; value: string; isRegex: boolean; isEqual: boolean }[];
  startsAt: string;
  endsAt: string;
  updatedAt: string;
  createdBy: string;
  comment: string;
}

export interface FiringAlert {
  fingerprint: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  startsAt: string;
  status: { state: "active" | "suppressed" | "unprocessed"; silencedBy: string[]; inhibitedBy: string[] };
}

export interface DemoFault {
  id: string;
  title: string;
  detail: string;
  active: boolean;
  since?: string;
}

export interface DemoPage {
  dedup_key: string;
  title: string;
  opened_at: string;
  resolved_at?: string;
  updates: number;
  link?: string;
  lines: string[];
}

export interface Demo {
  faults: DemoFault[];
  pages: DemoPage[];
}
