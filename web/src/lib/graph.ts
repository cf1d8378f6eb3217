// Order along the flow of data.
import type { MapNode, PipelineMap } from "../api/types";

/** Nodes before those they feed; nodes of a cycle stand where they are first met. */
export function inFlowOrder(map: PipelineMap): MapNode[] {
  const after = new Map<string, string[]>();
  const into = new Map<string, number>(map.nodes.map((node) => [node.id, 0]));
  for (const { from, to } of map.edges) {
    if (from === to || !into.has(from) || !into.has(to)) continue;
    after.set(from, [...(after.get(from) ?? []), to]);
    into.set(to, (into.get(to) ?? 0) + 1);
  }
  const byId = new Map(map.nodes.map((node) => [node.id, node]));
  const ordered: MapNode[] = [];
  const left = new Set(byId.keys());
  while (left.size > 0) {
    const free = [...left].filter((id) => into.get(id) === 0).sort();
    // A cycle: the node with the fewest open inputs goes next.
    const next = free.length ? free : [...left].sort((a, b) => (into.get(a) ?? 0) - (into.get(b) ?? 0) || a.localeCompare(b)).slice(0, 1);
    for (const id of next) {
      left.delete(id);
      const node = byId.get(id);
      if (node) ordered.push(node);
      for (const to of after.get(id) ?? []) into.set(to, (into.get(to) ?? 0) - 1);
    }
  }
  return ordered;
}

/** Changes only when nodes or edges come or go: the sign to lay the map out anew. */
export const topology = (map: PipelineMap): string =>
  [...map.nodes.map((n) => n.id).sort(), ...map.edges.map((e) => edgeId(e)).sort()].join("\n");

export const edgeId = (edge: { from: string; to: string; kind: string; group?: string }): string =>
  `${edge.from}>${edge.to}>${edge.kind}>${edge.group ?? ""}`;
