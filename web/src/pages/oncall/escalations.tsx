// Pages that are not over, how far they have come, and a button that stops them.
import type { Escalation, OnCall, Told } from "../../api/types";
import { acknowledgePagePath, useEscalations } from "../../api/weir";
import { moment, parseIso, span } from "../../lib/time";
import { useParam } from "../../lib/url";
import { A } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { Acknowledge } from "../incident/acknowledge";
import { SegmentedControl } from "@mantine/core";

type People = OnCall["people"];

export function Escalations({ now, people }: { now: number; people: People }) {
  const [which, setWhich] = useParam("pages", "open");
  const pages = useEscalations(which === "over" ? "over" : "open");
  return (
    <Panel
      title="Pages"
      aside={
        <SegmentedControl
          size="xs"
          value={which}
          onChange={setWhich}
          data={[
            { value: "open", label: "Open" },
            { value: "over", label: "Over" },
          ]}
        />
      }
    >
      <Load of={pages} what="the pages">
        {({ escalations }) =>
          escalations.length === 0 ? (
            <Empty title={which === "over" ? "No page is remembered" : "Nobody is being paged"} />
          ) : (
            <ul className="rows escalations">
              {escalations.map((one) => (
                <Row key={one.id} of={one} now={now} people={people} />
              ))}
            </ul>
          )
        }
      </Load>
    </Panel>
  );
}

const TONES = { escalating: "bad", exhausted: "bad", told: "info", acknowledged: "ok", resolved: "idle", muted: "idle" } as const;

function Row({ of, now, people }: { of: Escalation; now: number; people: People }) {
  const started = parseIso(of.started_at) ?? now;
  const next = parseIso(of.next_at);
  const ended = parseIso(of.ended_at);
  const isOpen = ended === undefined;
  const first = of.alerts[0];
  return (
    <li>
      <Tag tone={TONES[of.state]}>{of.state}</Tag>
      <div className="grow">
        {first ? (
          <A to={`/incidents/${first.fingerprint}`}>
            <b>{of.title}</b>
          </A>
        ) : (
          <b>{of.title}</b>
        )}{" "}
        <span className="quiet">
          {of.tier && `${of.tier} · `}
          {of.chain}
          {of.step !== null && `, step ${of.step} of ${of.steps}`}
          {of.round > 1 && `, round ${of.round}`}
          {ended !== undefined && ` · took ${span(ended - started)}`}
        </span>
        {of.acknowledged && (
          <div>
            {of.acknowledged.by} is on it after {span((parseIso(of.acknowledged.at) ?? started) - started)}
            {of.acknowledged.comment && `: ${of.acknowledged.comment}`}
          </div>
        )}
        {next !== undefined && <div className="text-warn">{next > now ? `next step in ${span(next - now)}` : "the next step begins"}</div>}
        <ul className="told">
          {of.told.map((told, i) => (
            <li key={`${i}${told.at}`}>
              <Who of={told} people={people} />
              {told.error && <span className="text-bad"> {told.error}</span>}
            </li>
          ))}
        </ul>
        {of.notes.map((note) => (
          <div key={note} className="text-warn">
            {note}
          </div>
        ))}
      </div>
      {isOpen && <Acknowledge path={acknowledgePagePath(of.id)} again={of.acknowledged !== undefined} />}
      <time>{moment(started, now)}</time>
    </li>
  );
}

const WORDS = { under_way: "being told", sent: "told", failed: "not reached", stopped: "not told any more" } as const;

function Who({ of, people }: { of: Told; people: People }) {
  const who = of.receiver ?? people.find((p) => p.name === of.person)?.shown ?? of.person;
  return (
    <span className={of.state === "failed" ? "text-bad" : undefined}>
      {who} {WORDS[of.state]} {of.channel && `by ${of.channel}`}
    </span>
  );
}
