// The edges of the service graph as rows: which are in trouble, and which traces went over them.
import type { MapEdge, PipelineMap } from "../api/types";
import { parseEntity } from "./entity";
import { edgeId } from "./graph";
import { type Health, health, worse } from "./health";
import { quote } from "./pivot";

/** Below this share of followed messages a hop is worth a look, and below the second one cannot follow an event over it. */
const CONTINUITY_WARN = 0.99;
const CONTINUITY_BAD = 0.5;

/** The health of an edge, with whether traces can be followed over it. */
export function hopHealth(edge: MapEdge): Health {
  const { continuity } = edge;
  const followed: Health = continuity === undefined || continuity >= CONTINUITY_WARN ? "idle" : continuity >= CONTINUITY_BAD ? "warn" : "bad";
  return worse(health(edge), followed);
}

const ORDER: Record<Health, number> = { bad: 0, warn: 1, ok: 2, idle: 3 };

/** Edges between known nodes, those in trouble first, then the busiest. */
export function hopsOf(map: PipelineMap): MapEdge[] {
  const known = new Set(map.nodes.map((node) => node.id));
  return map.edges
    .filter((edge) => known.has(edge.from) && known.has(edge.to))
    .sort((a, b) => ORDER[hopHealth(a)] - ORDER[hopHealth(b)] || b.rate - a.rate || edgeId(a).localeCompare(edgeId(b)));
}

/** TraceQL for the spans that an edge is counted from, or for those of them that failed. */
export function tracesOver(edge: MapEdge, failed = false): string {
  const from = parseEntity(edge.from).name;
  const to = parseEntity(edge.to).name;
  const service = (name: string) => `resource.service.name = ${quote(name)}`;
  const status = failed ? " && status = error" : "";
  switch (edge.kind) {
    case "produce":
      return `{ ${service(from)} && kind = producer && span.messaging.destination.name = ${quote(to)}${status} }`;
    case "consume":
      return `{ ${service(to)} && kind = consumer && span.messaging.destination.name = ${quote(from)}${status} }`;
    case "query":
      return `{ ${service(from)} && (span.db.namespace = ${quote(to)} || span.db.name = ${quote(to)})${status} }`;
    case "call":
      return `{ ${service(from)} } > { ${service(to)} && kind = server${status} }`;
  }
}

/** The nodes whose name has `words`, their neighbours, and the edges between all of these; everything without words. */
export function around(map: PipelineMap, words: string): PipelineMap {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return map;
  const named = new Set(map.nodes.filter((node) => node.name.toLowerCase().includes(wanted)).map((node) => node.id));
  const edges = hopsOf(map).filter(({ from, to }) => named.has(from) || named.has(to));
  const kept = new Set([...named, ...edges.flatMap(({ from, to }) => [from, to])]);
  return { nodes: map.nodes.filter((node) => kept.has(node.id)), edges };
}
