// All incidents, open ones first.
import { SegmentedControl } from "@mantine/core";
import type { Incident } from "../../api/types";
import { useIncidents } from "../../api/weir";
import { percent } from "../../lib/format";
import { useNow } from "../../lib/range";
import { moment, parseIso, span } from "../../lib/time";
import { useParam } from "../../lib/url";
import { A, EntityLink } from "../../ui/link";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { Words } from "../../ui/words";

export default function IncidentList() {
  const [state, setState] = useParam("state", "all");
  const incidents = useIncidents(200);
  const now = useNow();
  return (
    <div className="page">
      <Panel
        title="Incidents"
        aside={
          <SegmentedControl
            size="xs"
            value={state}
            onChange={setState}
            data={[
              { value: "all", label: "All" },
              { value: "open", label: "Open" },
              { value: "resolved", label: "Resolved" },
            ]}
          />
        }
      >
        <Load of={incidents} what="incidents">
          {({ incidents: all }) => {
            const list = all.filter((one) => state === "all" || (state === "resolved") === (one.state === "resolved"));
            if (list.length === 0) {
              return (
                <Empty title={state === "open" ? "No open incident" : "No incident yet"}>
                  An incident opens when an alert is pending or fires; its cause is looked for at once.
                </Empty>
              );
            }
            const open = list.filter((one) => one.state !== "resolved");
            const closed = list.filter((one) => one.state === "resolved");
            return (
              <ul className="rows incidents">
                {[...open, ...closed].map((one) => (
                  <Row key={one.id} of={one} now={now} />
                ))}
              </ul>
            );
          }}
        </Load>
      </Panel>
    </div>
  );
}

function Row({ of, now }: { of: Incident; now: number }) {
  const since = parseIso(of.since) ?? parseIso(of.opened_at) ?? now;
  const end = parseIso(of.resolved_at) ?? now;
  return (
    <li>
      <Tag tone={toneOfState(of.state)}>{of.state}</Tag>
      <div className="grow">
        <A to={`/incidents/${encodeURIComponent(of.id)}`} className="incident-title">
          <Words of={of.summary || of.title} />
        </A>
        <div className="quiet incident-meta">
          <span>{of.title}</span>
          {of.known && <span>{percent(of.confidence)} sure</span>}
          {of.acknowledged && <span>{of.acknowledged.by} is on it</span>}
          {of.affected.slice(0, 4).map((id) => (
            <EntityLink key={id} of={id} />
          ))}
        </div>
      </div>
      <time>
        {moment(since, now)}
        <br />
        {of.state === "resolved" ? "lasted" : "for"} {span(end - since)}
      </time>
    </li>
  );
}
