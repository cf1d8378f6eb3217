// The map, or, where there is no room for it, the same nodes as a list.
import { SegmentedControl } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { lazy, Suspense } from "react";
import type { PipelineMap } from "../../api/types";
import { useParam } from "../../lib/url";
import { A } from "../../ui/link";
import { Empty, Waiting } from "../../ui/state";
import { NodeList } from "./node-list";

const FlowMap = lazy(() => import("./flow-map"));

export function MapView({ map }: { map: PipelineMap }) {
  const narrow = useMediaQuery("(max-width: 760px)", false, { getInitialValueInEffect: false }) ?? false;
  const [view, setView] = useParam("view", narrow ? "list" : "map");
  if (map.nodes.length === 0) {
    return (
      <Empty title="No service, topic or database has been seen in this range">
        Send traces or metrics: the settings to copy stand under <A to="/data">Data in</A>. A longer range may also help.
      </Empty>
    );
  }
  return (
    <div className="map-view">
      <SegmentedControl className="map-switch" size="xs" value={view} onChange={setView} data={[{ value: "map", label: "Map" }, { value: "list", label: "List" }]} />
      {view === "list" ? (
        <NodeList map={map} />
      ) : (
        <Suspense fallback={<Waiting what="the map" />}>
          <FlowMap map={map} />
        </Suspense>
      )}
    </div>
  );
}
