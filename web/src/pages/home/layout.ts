// Places for the nodes of the map: layers from left to right, computed off the main thread.
import ELK from "elkjs/lib/elk-api.js";
import workerUrl from "elkjs/lib/elk-worker.min.js?url";
import type { PipelineMap } from "../../api/types";
import { edgeId } from "../../lib/graph";

export const NODE_WIDTH = 172;
export const NODE_HEIGHT = 70;

export type Places = Map<string, { x: number; y: number }>;

let elk: InstanceType<typeof ELK> | undefined;

/** `gap`: between two layers. */
export async function layout(map: PipelineMap, gap = 72): Promise<Places> {
  elk ??= new ELK({ workerUrl });
  const known = new Set(map.nodes.map((node) => node.id));
  const graph = await elk.layout({
    id: "map",
    layoutOptions: {
      "elk.algorithm": "layered",
      "elk.direction": "RIGHT",
      "elk.spacing.nodeNode": "26",
      "elk.layered.spacing.nodeNodeBetweenLayers": String(gap),
      "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
      "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
      "elk.separateConnectedComponents": "true",
      "elk.spacing.componentComponent": "40",
    },
    children: [...map.nodes]
      .sort((a, b) => a.id.localeCompare(b.id))
      .map((node) => ({ id: node.id, width: NODE_WIDTH, height: NODE_HEIGHT })),
    edges: map.edges
      .filter((edge) => known.has(edge.from) && known.has(edge.to) && edge.from !== edge.to)
      .map((edge) => ({ id: edgeId(edge), sources: [edge.from], targets: [edge.to] }))
      .sort((a, b) => a.id.localeCompare(b.id)),
  });
  return new Map((graph.children ?? []).map((child) => [child.id, { x: child.x ?? 0, y: child.y ?? 0 }]));
}
