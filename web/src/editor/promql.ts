import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import type { Extension } from "@codemirror/state";
import { headers } from "../api/client";

/** PromQL with linting, and completion of names and values from this server and tenant. */
export function promql(): Extension {
  const extension = new PromQLExtension().setComplete({
    remote: {
      url: "",
      httpMethod: "GET",
      fetchFn: (input, init) => fetch(input, { ...init, headers: { ...(init?.headers as Record<string, string>), ...headers() } }),
      httpErrorHandler: () => {
        // Completion is a comfort: without an answer one types by hand.
      },
      cache: { maxAge: 60_000 },
    },
  });
  return extension.asExtension();
}
