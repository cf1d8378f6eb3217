// Hooks over Alertmanager's API: silences, and the alerts that matchers select.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { currentTenant, get } from "./client";
import type { FiringAlert, Silence } from "./types";

const BASE = "/api/v2";

export function useSilences() {
  return useQuery({
    queryKey: ["alertmanager", currentTenant(), "silences"],
    queryFn: ({ signal }) => get<Silence[]>(`${BASE}/silences`, {}, { signal }),
    refetchInterval: 5000,
  });
}

/** Alerts that fire and match all of the filters. The server reads them, as it will read the silence. */
export function useFiring(filter: string[], enabled: boolean) {
  return useQuery({
    queryKey: ["alertmanager", currentTenant(), "alerts", filter],
    enabled,
    queryFn: ({ signal }) => get<FiringAlert[]>(`${BASE}/alerts`, { filter }, { signal }),
    placeholderData: keepPreviousData,
    refetchInterval: 5000,
    retry: false,
  });
}

export const silencesPath = `${BASE}/silences`;
export const silencePath = (id: string) => `${BASE}/silence/${encodeURIComponent(id)}`;
