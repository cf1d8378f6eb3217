// Hooks over weir's own API. Lists that change by themselves are asked again every five seconds.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { Range } from "../lib/time";
import { ApiError, currentTenant, get, seconds } from "./client";
import type {
  Cardinality,
  Change,
  Demo,
  Entity,
  EntityRow,
  Escalation,
  Figures,
  Incident,
  LagRow,
  LogContract,
  MetricCensus,
  Notification,
  OnCall,
  PipelineMap,
  Sender,
  Slo,
  Status,
  Transition,
  UsageRow,
} from "./types";

const BASE = "/api/weir/v1";
const LIVE = 5000;

function useWeir<T>(path: string, query: Record<string, string | number | undefined> = {}, every: number | false = LIVE) {
  return useQuery({
    queryKey: ["weir", currentTenant(), path, query],
    queryFn: ({ signal }) => get<T>(`${BASE}${path}`, query, { signal }),
    refetchInterval: every,
    placeholderData: keepPreviousData,
  });
}

const during = (range: Range) => ({ start: seconds(range.from), end: seconds(range.to) });

export const useStatus = () => useWeir<Status>("/status", {}, 30_000);
export const useMap = (range: Range) => useWeir<PipelineMap>("/map", during(range), false);
export const useEntities = (q: string, limit = 50, kind?: string) =>
  useWeir<{ entities: EntityRow[] }>("/entities", { q, limit, kind }, false);
export const useEntity = (kind: string, name: string) =>
  useWeir<Entity>(`/entities/${encodeURIComponent(kind)}/${encodeURIComponent(name)}`, {}, 15_000);
export const useIncidents = (limit = 100, state?: string) =>
  useWeir<{ incidents: Incident[] }>("/incidents", { limit, state });
export const useIncident = (id: string) => useWeir<Incident>(`/incidents/${encodeURIComponent(id)}`);
export const useChanges = (range: Range) => useWeir<{ changes: Change[] }>("/changes", during(range), false);
export const useSlos = () => useWeir<{ slos: Slo[] }>("/slos", {}, 15_000);
export const useCardinality = (search: string, unused: boolean) =>
  useWeir<Cardinality>("/cardinality", { search: search || undefined, unused: unused ? "true" : undefined }, 15_000);
export const useMetricCensus = (name: string) => useWeir<MetricCensus>("/cardinality/metric", { name }, 30_000);
export const useOnCall = (range: Range) => useWeir<OnCall>("/oncall", during(range), 15_000);
export const useEscalations = (state: "open" | "over", limit = 50) => useWeir<{ escalations: Escalation[] }>("/escalations", { state, limit });
export const useFigures = () => useWeir<Figures>("/escalations/figures", {}, 60_000);
export const useLogContract = () => useWeir<LogContract>("/log-contract", {}, 15_000);
export const useSenders = () => useWeir<{ senders: Sender[] }>("/senders");
export const useUsage = () => useWeir<{ rows: UsageRow[] }>("/usage");
export const useLag = () => useWeir<{ partitions: LagRow[] }>("/lag");
export const useAlertHistory = (range: Range, limit = 500) =>
  useWeir<{ transitions: Transition[] }>("/alerts/history", { ...during(range), limit }, false);
export const useNotifications = (limit = 100) => useWeir<{ notifications: Notification[] }>("/notifications", { limit });

/** The demo's faults, or `null` when this is not a demo. Asked only when the server says it is one. */
export function useDemo(enabled: boolean) {
  return useQuery({
    queryKey: ["weir", "demo"],
    enabled,
    refetchInterval: 3000,
    queryFn: async ({ signal }) => {
      try {
        return await get<Demo>(`${BASE}/demo`, {}, { signal });
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      }
    },
  });
}

export const acknowledgePath = (id: string) => `${BASE}/incidents/${encodeURIComponent(id)}/acknowledge`;

export const acknowledgePagePath = (id: string) => `${BASE}/escalations/${encodeURIComponent(id)}/acknowledge`;
export const overridesPath = (id?: string) => `${BASE}/oncall/overrides${id ? `/${encodeURIComponent(id)}` : ""}`;
export const calendarPath = (schedule: string) => `${BASE}/oncall/schedules/${encodeURIComponent(schedule)}.ics`;

export const demoFaultPath = (id: string, action: "break" | "heal") =>
  `${BASE}/demo/faults/${encodeURIComponent(id)}/${action}`;
