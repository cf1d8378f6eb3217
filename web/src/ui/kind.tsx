// One small drawing per kind of entity, so that a topic is told from a service at a glance.

const PATHS: Record<string, string> = {
  service: "M3 3h10v10H3z",
  instance: "M5 5h6v6H5z",
  node: "M2 4h12v3H2zM2 9h12v3H2z",
  topic: "M2 4h12M2 8h12M2 12h12",
  partition: "M2 8h12M5 5v6M11 5v6",
  consumer_group: "M8 8m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0M8 8m-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0",
  database: "M3 4.5c0-2 10-2 10 0v7c0 2-10 2-10 0zM3 4.5c0 2 10 2 10 0M3 8c0 2 10 2 10 0",
  endpoint: "M2 8h8M7 5l3 3-3 3M13 3v10",
};

export function KindMark({ kind }: { kind: string }) {
  return (
    <svg className={`kind kind-${kind}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[kind] ?? PATHS.instance} />
    </svg>
  );
}
