// The frame around every page, and which page a path shows.
import { lazy, Suspense } from "react";
import { type Route, route } from "./lib/route";
import { usePlace } from "./lib/url";
import { Boundary } from "./ui/boundary";
import { Empty, Waiting } from "./ui/state";
import { Shell } from "./shell/shell";
import { A } from "./ui/link";

const Home = lazy(() => import("./pages/home/home"));
const IncidentList = lazy(() => import("./pages/incident/list"));
const IncidentPage = lazy(() => import("./pages/incident/incident"));
const EntityPage = lazy(() => import("./pages/entity/entity"));
const GraphPage = lazy(() => import("./pages/graph/graph"));
const Metrics = lazy(() => import("./pages/explore/metrics"));
const Logs = lazy(() => import("./pages/explore/logs"));
const Traces = lazy(() => import("./pages/explore/traces"));
const TracePage = lazy(() => import("./pages/trace/trace"));
const Alerts = lazy(() => import("./pages/alerts/alerts"));
const Slos = lazy(() => import("./pages/slos/slos"));
const Cardinality = lazy(() => import("./pages/cardinality/cardinality"));
const OnCall = lazy(() => import("./pages/oncall/oncall"));
const Silences = lazy(() => import("./pages/silences/silences"));
const DataIn = lazy(() => import("./pages/data/data"));

function page(at: Route) {
  switch (at.page) {
    case "home":
      return <Home />;
    case "incidents":
      return <IncidentList />;
    case "incident":
      return <IncidentPage id={at.id} />;
    case "entity":
      return <EntityPage kind={at.kind} name={at.name} />;
    case "graph":
      return <GraphPage />;
    case "metrics":
      return <Metrics />;
    case "logs":
      return <Logs />;
    case "traces":
      return <Traces />;
    case "trace":
      return <TracePage id={at.id} />;
    case "alerts":
      return <Alerts />;
    case "slos":
      return <Slos />;
    case "cardinality":
      return <Cardinality />;
    case "oncall":
      return <OnCall />;
    case "silences":
      return <Silences />;
    case "data":
      return <DataIn />;
    default:
      return (
        <Empty title="There is no such page">
          <A to="/">Go to the pipeline map</A>
        </Empty>
      );
  }
}

export function App() {
  const { path } = usePlace();
  return (
    <Shell>
      <Boundary key={path}>
        <Suspense fallback={<Waiting what="the page" />}>{page(route(path))}</Suspense>
      </Boundary>
    </Shell>
  );
}
