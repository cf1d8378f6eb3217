// The pipeline as a drawing: thickness is throughput, colour is health, a moving dash means data flows.
import "@xyflow/react/dist/base.css";
import {
  BaseEdge,
  Controls,
  type Edge,
  EdgeLabelRenderer,
  type EdgeProps,
  getBezierPath,
  Handle,
  type Node,
  type NodeProps,
  Position,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
} from "@xyflow/react";
import { useElementSize } from "@mantine/hooks";
import { useEffect, useMemo, useState } from "react";
import type { MapEdge, MapNode, PipelineMap } from "../../api/types";
import { entityPath, kindName } from "../../lib/entity";
import { milliseconds, percent, rate, seconds } from "../../lib/format";
import { edgeId, topology } from "../../lib/graph";
import { type Health, health } from "../../lib/health";
import { navigate, pageUrl } from "../../lib/url";
import { KindMark } from "../../ui/kind";
import { Failed, Waiting } from "../../ui/state";
import { layout, NODE_HEIGHT, NODE_WIDTH, type Places } from "./layout";

type EntityNode = Node<{ of: MapNode }, "entity">;
type FlowEdge = Edge<{ of: MapEdge; text: string; state: Health }, "flow">;

const FIT = { padding: 0.02, maxZoom: 1.1 };

interface FlowMapProps {
  map: PipelineMap;
  /** What stands on an edge; the one number worth reading by default. */
  edgeText?: (edge: MapEdge) => string;
  edgeHealth?: (edge: MapEdge) => Health;
  onEdge?: (edge: MapEdge) => void;
  /** Room between two layers, for what stands on edges. */
  gap?: number;
}

export default function FlowMap(props: FlowMapProps) {
  return (
    <ReactFlowProvider>
      <Drawing {...props} />
    </ReactFlowProvider>
  );
}

function Drawing({ map, edgeText = mainNumber, edgeHealth = health, onEdge, gap }: FlowMapProps) {
  const [places, setPlaces] = useState<Places>();
  const [error, setError] = useState<unknown>();
  const flow = useReactFlow();
  const { ref, width } = useElementSize();
  const shape = topology(map);
  useEffect(() => {
    let current = true;
    layout(map, gap)
      .then((found) => {
        if (!current) return;
        setPlaces(found);
      })
      .catch((cause: unknown) => current && setError(cause));
    return () => {
      current = false;
    };
    // Only a new shape moves the nodes; fresh numbers leave them where they are.
  }, [shape]);

  // A new layout or another width: the whole drawing comes into view again.
  useEffect(() => {
    if (!places || width === 0) return;
    const frame = requestAnimationFrame(() => flow.fitView(FIT));
    return () => cancelAnimationFrame(frame);
  }, [places, width]);

  const nodes = useMemo(() => map.nodes.map((node): EntityNode => entityNode(node, places)), [map, places]);
  const edges = useMemo(() => flowEdges(map, edgeText, edgeHealth), [map, edgeText, edgeHealth]);

  if (error) return <Failed what="the layout of the map" error={error} />;
  if (!places) return <Waiting what="the map" />;
  return (
    <div ref={ref} className="flow" style={{ height: mapHeight(places, width) }}>
      <ReactFlow
        nodes={nodes}
        edges={edges}
        nodeTypes={NODE_TYPES}
        edgeTypes={EDGE_TYPES}
        fitView
        fitViewOptions={FIT}
        minZoom={0.2}
        maxZoom={1.8}
        nodesDraggable={false}
        nodesConnectable={false}
        zoomOnScroll={false}
        preventScrolling={false}
        onEdgeClick={onEdge && ((_, edge) => edge.data && onEdge(edge.data.of))}
        onNodeClick={(_, node) => navigate(pageUrl(entityPath((node as EntityNode).data.of)))}
      >
        <Controls showInteractive={false} position="bottom-left" orientation="horizontal" />
      </ReactFlow>
    </div>
  );
}

/** As high as the drawing needs at this width, within what leaves room for the rest of the page. */
function mapHeight(places: Places, width: number): number {
  const lowest = Math.max(...[...places.values()].map((p) => p.y + NODE_HEIGHT));
  const rightmost = Math.max(...[...places.values()].map((p) => p.x + NODE_WIDTH));
  const scale = width > 0 ? Math.min(1.1, width / (rightmost * 1.04)) : 1;
  return Math.min(520, Math.max(190, lowest * scale + 50));
}

const entityNode = (node: MapNode, places: Places | undefined): EntityNode => ({
  id: node.id,
  type: "entity",
  position: places?.get(node.id) ?? { x: 0, y: 0 },
  data: { of: node },
  width: NODE_WIDTH,
  height: NODE_HEIGHT,
  ariaLabel: `${kindName(node.kind)} ${node.name}`,
});

function flowEdges(map: PipelineMap, text: (edge: MapEdge) => string, state: (edge: MapEdge) => Health): FlowEdge[] {
  const known = new Set(map.nodes.map((node) => node.id));
  return map.edges
    .filter((edge) => known.has(edge.from) && known.has(edge.to) && edge.from !== edge.to)
    .map((edge) => ({ id: edgeId(edge), source: edge.from, target: edge.to, type: "flow", data: { of: edge, text: text(edge), state: state(edge) } }));
}

function EntityBox({ data: { of } }: NodeProps<EntityNode>) {
  const state = health(of);
  return (
    <div className={`box health-${state}`}>
      <Handle type="target" position={Position.Left} />
      <div className="box-head">
        <KindMark kind={of.kind} />
        <span title={of.name}>{of.name}</span>
        {of.firing > 0 && <b className="count">{of.firing}</b>}
      </div>
      <div className="box-body">
        <span>{rate(of.rate)}</span>
        {of.p99_ms != null && of.p99_ms > 0 && <span title="99th percentile">p99 {milliseconds(of.p99_ms)}</span>}
        {of.error_ratio > 0 && <span className={of.error_ratio > 0.01 ? "text-bad" : ""}>{percent(of.error_ratio)} errors</span>}
        {of.lag_seconds !== undefined && <span className={of.lag_seconds > 10 ? "text-bad" : ""}>{seconds(of.lag_seconds)} behind</span>}
      </div>
      <Handle type="source" position={Position.Right} />
    </div>
  );
}

function FlowLine(props: EdgeProps<FlowEdge>) {
  const { of, text, state } = props.data ?? {};
  const [path, x, y] = getBezierPath(props);
  if (!of) return null;
  // From 1.5 px at a trickle to 6 px at ten thousand a second.
  const width = Math.min(6, 1.5 + Math.log10(1 + Math.max(0, of.rate)) * 1.1);
  return (
    <>
      <BaseEdge id={props.id} path={path} className={`line health-${state}`} style={{ strokeWidth: width }} />
      {of.rate > 0 && <path d={path} className="pulse" style={{ strokeWidth: Math.max(1, width * 0.45) }} />}
      {text && (
        <EdgeLabelRenderer>
          <div className={`edge-label health-${state}`} style={{ transform: `translate(-50%,-50%) translate(${x}px,${y}px)` }}>
            {text}
          </div>
        </EdgeLabelRenderer>
      )}
    </>
  );
}

/** The one number of an edge worth reading: being behind, then errors, then the rate. */
function mainNumber(edge: MapEdge): string {
  if (edge.lag_seconds !== undefined && edge.lag_seconds >= 1) return `${seconds(edge.lag_seconds)} behind`;
  if (edge.error_ratio > 0.001) return `${percent(edge.error_ratio)} errors`;
  return rate(edge.rate);
}

const NODE_TYPES = { entity: EntityBox };
const EDGE_TYPES = { flow: FlowLine };
