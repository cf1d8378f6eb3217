import { Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { currentTenant } from "../../api/client";
import { labelNames, labelValues } from "../../api/loki";
import { quote } from "../../lib/pivot";
import type { Range } from "../../lib/time";
import { useParam } from "../../lib/url";

/** A first selector without typing: one label, one value. */
export function Streams({ range, onPick }: { range: Range; onPick: (query: string) => void }) {
  const [label, setLabel] = useParam("label", "service_name");
  const minute = Math.floor(range.to / 60_000);
  const names = useQuery({
    queryKey: ["loki", "labels", currentTenant(), minute],
    queryFn: () => labelNames(range),
    staleTime: 60_000,
  });
  const values = useQuery({
    queryKey: ["loki", "values", currentTenant(), label, minute],
    queryFn: () => labelValues(label, undefined, range),
    staleTime: 30_000,
  });
  const known = names.data ?? [];
  return (
    <>
      <Select size="xs" className="stream-label" aria-label="Label" data={known.includes(label) ? known : [label, ...known]} value={label} onChange={(value) => value && setLabel(value)} searchable />
      <Select
        size="xs"
        className="stream-value"
        aria-label={`Value of ${label}`}
        placeholder={values.data ? `${values.data.length} values` : "values"}
        data={values.data ?? []}
        value={null}
        onChange={(value) => value && onPick(`{${label}=${quote(value)}}`)}
        searchable
        nothingFoundMessage="no such value in this range"
      />
    </>
  );
}
