// What burns, where, and how much is left: the first thing one sees at night.
import { useMap, useIncidents } from "../../api/weir";
import { useNow, useRange } from "../../lib/range";
import { Load } from "../../ui/state";
import { Panel } from "../../ui/panel";
import { Budgets } from "./budgets";
import { Firing } from "./firing";
import { IncidentBanner } from "./banner";
import { LiveCharts } from "./live";
import { MapView } from "./map-view";

export default function Home() {
  const range = useRange();
  const now = useNow();
  const map = useMap(range);
  const incidents = useIncidents(20);
  return (
    <div className="page home">
      <Load of={incidents} what="incidents">
        {({ incidents: list }) => <IncidentBanner incidents={list} now={now} />}
      </Load>
      <Panel title="Pipeline" className="map-panel">
        <Load of={map} what="the pipeline map">
          {(data) => <MapView map={data} />}
        </Load>
      </Panel>
      <Firing now={now} />
      <Budgets at={range.to} />
      <LiveCharts range={range} />
    </div>
  );
}
