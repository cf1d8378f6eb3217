import type { Incident } from "../../api/types";
import { ago, parseIso, span } from "../../lib/time";
import { A } from "../../ui/link";
import { Tag } from "../../ui/panel";
import { Words } from "../../ui/words";

/** One sentence: what is wrong, or that nothing is. */
export function IncidentBanner({ incidents, now }: { incidents: Incident[]; now: number }) {
  const open = incidents.filter((one) => one.state !== "resolved");
  const firing = open.filter((one) => one.state === "firing");
  const worst = firing[0] ?? open[0];
  if (!worst) {
    const last = incidents[0];
    return (
      <div className="banner calm" role="status">
        <b>No open incident.</b>
        {last && (
          <A to={`/incidents/${encodeURIComponent(last.id)}`}>
            The last one was resolved {ago(parseIso(last.resolved_at) ?? now, now)}: {last.title}
          </A>
        )}
      </div>
    );
  }
  return (
    <div className={`banner ${worst.state === "firing" ? "bad" : "warn"}`} role="alert">
      <Tag tone={worst.state === "firing" ? "bad" : "warn"}>{worst.state}</Tag>
      <A to={`/incidents/${encodeURIComponent(worst.id)}`} className="banner-sentence">
        <Words of={worst.summary || worst.title} />
      </A>
      <span className="banner-since">for {span(now - (parseIso(worst.since) ?? now))}</span>
      {open.length > 1 && <A to="/incidents">and {open.length - 1} more</A>}
    </div>
  );
}
