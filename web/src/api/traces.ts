// One trace by its id, and the log lines that carry the id.
import { useQuery } from "@tanstack/react-query";
import type { RawTrace, Trace } from "../lib/trace";
import { quote } from "../lib/pivot";
import { currentTenant, get } from "./client";
import { type LogLine, queryLogs } from "./loki";

export const useTrace = (id: string) =>
  useQuery({
    queryKey: ["tempo", "trace", currentTenant(), id],
    queryFn: async ({ signal }) =>
      (await get<{ trace?: RawTrace }>(`/api/v2/traces/${encodeURIComponent(id)}`, {}, { signal })).trace ?? {},
    // A trace that is still growing is asked for again until it has been looked at for a while.
    refetchInterval: (query) => (query.state.dataUpdateCount < 6 ? 5000 : false),
    structuralSharing: true,
  });

const escape = (name: string) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Lines with the id as metadata, or in their text; each line once, oldest first. */
export function useTraceLogs(id: string, trace: Trace) {
  const range = { from: trace.startMs - 60_000, to: Math.ceil(trace.startMs + trace.duration / 1e6) + 60_000 };
  const selector = `{service_name=~${quote(trace.services.map(escape).join("|") || ".+")}}`;
  return useQuery({
    queryKey: ["loki", "trace", currentTenant(), id, selector],
    queryFn: async ({ signal }) => {
      const queries = [`${selector} | trace_id=${quote(id)}`, `${selector} |= ${quote(id)}`];
      const answers = await Promise.all(queries.map((query) => queryLogs(query, range, 500, 60, signal)));
      const once = new Map<string, LogLine>();
      for (const answer of answers)
        for (const line of answer.kind === "lines" ? answer.lines : []) once.set(`${line.ns} ${line.stream.service_name} ${line.line}`, line);
      return [...once.values()].sort((a, b) => a.at - b.at);
    },
    staleTime: 10_000,
  });
}
