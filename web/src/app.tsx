// The frame around every page, and which page a path shows.
import { lazy, Suspense } from "react";
import { type Route, route } from "./lib/route";
import { usePlace } from "./lib/url";
import { Boundary } from "./ui/boundary";
import { Empty, Waiting } from "./ui/state";
import { Shell } from "./shell/shell";
import { A } from "./ui/link";

const Home = lazy(() => import("./pages/home/home"));
const Metrics = lazy(() => import("./pages/explore/metrics"));

function page(at: Route) {
  switch (at.page) {
    case "home":
      return <Home />;
    case "metrics":
      return <Metrics />;
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
