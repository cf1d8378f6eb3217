import { Button } from "@mantine/core";
import { aroundMoment, pivotsOf } from "../../lib/pivot";
import type { Range } from "../../lib/time";
import { navigate, pageUrl } from "../../lib/url";

/** From one point of one series to the logs, traces and the entity at that time. */
export function Pivots(props: { labels: Record<string, string>; at: number; range: Range; title: string; close: () => void }) {
  const window = aroundMoment(props.at, props.range);
  const to = pivotsOf(props.labels, window);
  const go = (path: string | undefined) => path && navigate(pageUrl(path, { from: window.from, to: window.to }));
  return (
    <div className="pivots">
      <span className="pivots-title">{props.title}</span>
      <Button size="compact-sm" disabled={!to.logs} onClick={() => go(to.logs)}>
        Logs around it
      </Button>
      <Button size="compact-sm" disabled={!to.traces} onClick={() => go(to.traces)}>
        Traces around it
      </Button>
      {to.entity && (
        <Button size="compact-sm" variant="default" onClick={() => go(to.entity)}>
          {to.entityName}
        </Button>
      )}
      {!to.logs && <span className="quiet">This series names no service, topic or instance.</span>}
      <Button size="compact-sm" variant="subtle" color="gray" onClick={props.close} aria-label="Close">
        ✕
      </Button>
    </div>
  );
}
