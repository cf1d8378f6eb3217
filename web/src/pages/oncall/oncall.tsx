// Who is on call, what is being escalated, the weeks to come, and what it has cost.
import { useOnCall } from "../../api/weir";
import type { OnCall as OnCallData, Schedule } from "../../api/types";
import { dayAndTime, weekStart } from "../../lib/oncall";
import { useNow } from "../../lib/range";
import { ago, parseIso, span } from "../../lib/time";
import { useParam } from "../../lib/url";
import { Panel, Tag } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { Calendar } from "./calendar";
import { Cost } from "./figures";
import { Escalations } from "./escalations";

const WEEKS = 4;

export default function OnCall() {
  const now = useNow();
  const [later, setLater] = useParam("week", "0");
  const offset = Number.parseInt(later, 10) || 0;
  const oncall = useOnCall({ from: weekStart(now, offset), to: weekStart(now, offset + WEEKS) });
  return (
    <div className="page stack">
      <Load of={oncall} what="who is on call">
        {(data) =>
          data.configured ? (
            <>
              <Panel title="On call now" aside={data.watchdog_seconds !== null && <span className="quiet">weir tells the outside that it lives every {span(data.watchdog_seconds * 1000)}</span>}>
                {data.schedules.length === 0 ? <Empty title="No schedules">Chains name people and receivers alone.</Empty> : <Now of={data} now={now} />}
              </Panel>
              <Escalations now={now} people={data.people} />
              <Calendar of={data} now={now} offset={offset} weeks={WEEKS} onMove={(by) => setLater(String(by))} />
              <Cost />
            </>
          ) : (
            <Panel title="On call">
              <Empty title="Nobody is on call">
                Start weir with <code>--oncall-config oncall.yml</code>: people, schedules and escalation chains. <code>weir check oncall</code> reads a file without a server.
              </Empty>
            </Panel>
          )
        }
      </Load>
    </div>
  );
}

function Now({ of, now }: { of: OnCallData; now: number }) {
  return (
    <ul className="oncall-now">
      {of.schedules.map((one) => (
        <li key={one.name}>
          <div className="quiet">{one.name}</div>
          {one.now ? <b>{shownAs(of, one.now)}</b> : <Tag tone="warn">nobody</Tag>}
          <Handoff of={one} all={of} now={now} />
        </li>
      ))}
    </ul>
  );
}

const shownAs = (of: OnCallData, name: string): string => of.people.find((p) => p.name === name)?.shown ?? name;

function Handoff({ of, all, now }: { of: Schedule; all: OnCallData; now: number }) {
  const at = parseIso(of.next?.at);
  if (!of.next || at === undefined) return <div className="quiet">no handoff in sight</div>;
  return (
    <div className="quiet" title={`${of.time_zone}: ${new Date(at).toLocaleString("en-GB", { timeZone: of.time_zone })}`}>
      {of.next.person ? shownAs(all, of.next.person) : "nobody"} from {dayAndTime(at)}, {at > now ? `in ${span(at - now)}` : ago(at, now)}
    </div>
  );
}
