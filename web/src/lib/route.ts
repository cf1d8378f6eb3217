// The pages and their paths, as docs/api.md lists them.

export type Route =
  | { page: "home" }
  | { page: "incidents" }
  | { page: "incident"; id: string }
  | { page: "entity"; kind: string; name: string }
  | { page: "graph" }
  | { page: "metrics" }
  | { page: "logs" }
  | { page: "traces" }
  | { page: "trace"; id: string }
  | { page: "alerts" }
  | { page: "slos" }
  | { page: "cardinality" }
  | { page: "oncall" }
  | { page: "silences" }
  | { page: "data" }
  | { page: "unknown" };

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

export function route(path: string): Route {
  const parts = path.split("/").filter((part) => part !== "");
  const [first, second] = parts;
  switch (first) {
    case undefined:
      return { page: "home" };
    case "incidents":
      return second ? { page: "incident", id: decode(second) } : { page: "incidents" };
    case "entity": {
      const name = parts.slice(2).map(decode).join("/");
      return second && name ? { page: "entity", kind: decode(second), name } : { page: "unknown" };
    }
    case "graph":
      return { page: "graph" };
    case "explore":
      if (second === "metrics" || second === "logs" || second === "traces") return { page: second };
      return second ? { page: "unknown" } : { page: "metrics" };
    case "trace":
      return second ? { page: "trace", id: decode(second) } : { page: "unknown" };
    case "alerts":
      return { page: "alerts" };
    case "slos":
      return { page: "slos" };
    case "cardinality":
      return { page: "cardinality" };
    case "oncall":
      return { page: "oncall" };
    case "silences":
      return { page: "silences" };
    case "data":
      return { page: "data" };
    default:
      return { page: "unknown" };
  }
}
