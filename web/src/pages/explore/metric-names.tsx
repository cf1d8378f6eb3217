import { Autocomplete } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { currentTenant, get } from "../../api/client";

interface Meta {
  type: string;
  help: string;
}

/** A searchable list of metric names; a counter is asked for as a rate. */
export function MetricNames({ onPick }: { onPick: (query: string) => void }) {
  const [text, setText] = useState("");
  const names = useQuery({
    queryKey: ["prom", "names", currentTenant()],
    queryFn: async ({ signal }) => (await get<{ data: string[] }>("/api/v1/label/__name__/values", {}, { signal })).data,
    staleTime: 15_000,
  });
  const metadata = useQuery({
    queryKey: ["prom", "metadata", currentTenant()],
    queryFn: async ({ signal }) => (await get<{ data: Record<string, Meta[]> }>("/api/v1/metadata", {}, { signal })).data,
    staleTime: 60_000,
    retry: false,
  });
  const pick = (name: string) => {
    setText("");
    const type = metadata.data?.[name]?.[0]?.type ?? metadata.data?.[name.replace(/_total$/, "")]?.[0]?.type;
    onPick(firstQuery(name, type));
  };
  return (
    <Autocomplete
      size="xs"
      className="metric-names"
      placeholder={names.data ? `${names.data.length} metrics` : "metric names"}
      aria-label="Metric name"
      data={names.data ?? []}
      limit={60}
      value={text}
      onChange={setText}
      onOptionSubmit={pick}
      comboboxProps={{ width: 420, position: "bottom-start" }}
      clearable
    />
  );
}

/** What one most likely wants to see of a metric of this type. */
export function firstQuery(name: string, type: string | undefined): string {
  if (name.endsWith("_bucket")) return `histogram_quantile(0.99, sum by (le) (rate(${name}[1m])))`;
  const counter = type === "counter" || (type === undefined || type === "unknown" || type === "histogram" || type === "summary") && /_(total|count|sum)$/.test(name);
  return counter ? `rate(${name}[1m])` : name;
}
