// Weeks of every schedule as bars, and overrides made where one sees that they are needed.
import { Button, NativeSelect, Popover, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post, remove } from "../../api/client";
import type { OnCall, Schedule } from "../../api/types";
import { calendarPath, overridesPath } from "../../api/weir";
import { bars, dayAndTime, daysOf, fromInput, hueOf, inputTime, isDayOf, weekStart } from "../../lib/oncall";
import { Panel } from "../../ui/panel";
import { NAME_KEY } from "../incident/acknowledge";

interface Props {
  of: OnCall;
  now: number;
  offset: number;
  weeks: number;
  onMove: (offset: number) => void;
}

export function Calendar({ of, now, offset, weeks, onMove }: Props) {
  if (of.schedules.length === 0) return null;
  const rows = Array.from({ length: weeks }, (_, n) => weekStart(now, offset + n));
  return (
    <Panel
      title="Weeks"
      aside={
        <span className="inline-list">
          <Button size="compact-xs" variant="default" onClick={() => onMove(offset - weeks)} aria-label="Earlier weeks">
            ←
          </Button>
          <Button size="compact-xs" variant="default" onClick={() => onMove(0)} disabled={offset === 0}>
            Today
          </Button>
          <Button size="compact-xs" variant="default" onClick={() => onMove(offset + weeks)} aria-label="Later weeks">
            →
          </Button>
          <NewOverride of={of} now={now} />
        </span>
      }
    >
      {rows.map((week) => (
        <Week key={week} of={of} week={week} now={now} />
      ))}
      <Overrides of={of} />
      <p className="quiet">
        Times are those of this browser. Calendars to subscribe to:{" "}
        {of.schedules.map((one) => (
          <a key={one.name} className="ics" href={calendarPath(one.name)}>
            {one.name}.ics
          </a>
        ))}
      </p>
    </Panel>
  );
}

function Week({ of, week, now }: { of: OnCall; week: number; now: number }) {
  const days = daysOf(week);
  const end = days[7] ?? week;
  const at = (ms: number) => `${((ms - week) / (end - week)) * 100}%`;
  return (
    <div className="week">
      <div className="week-days">
        {days.slice(0, 7).map((day) => (
          <span key={day} style={{ left: at(day) }} className={isDayOf(day, now) ? "today" : undefined}>
            {new Date(day).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "numeric" })}
          </span>
        ))}
      </div>
      {of.schedules.map((one) => (
        <Row key={one.name} of={one} all={of} from={week} to={end} now={now} />
      ))}
    </div>
  );
}

function Row({ of, all, from, to, now }: { of: Schedule; all: OnCall; from: number; to: number; now: number }) {
  return (
    <div className="week-row">
      <span className="week-name">{of.name}</span>
      <div className="week-bars">
        {bars(of.shifts, from, to).map((bar) => {
          const shown = bar.person ? (all.people.find((p) => p.name === bar.person)?.shown ?? bar.person) : "nobody";
          const title = `${shown}: ${dayAndTime(bar.start)} to ${dayAndTime(bar.end)}${bar.stands_in ? ", stands in" : ""}`;
          return (
            <span
              key={bar.start}
              className={`shift ${bar.person ? "" : "nobody"} ${bar.stands_in ? "stands-in" : ""}`}
              style={{ left: `${bar.left}%`, width: `${bar.width}%`, "--hue": hueOf(all.people, bar.person ?? "") } as React.CSSProperties}
              title={title}
            >
              {shown}
            </span>
          );
        })}
        {from <= now && now < to && <i className="now-line" style={{ left: `${((now - from) / (to - from)) * 100}%` }} />}
      </div>
    </div>
  );
}

function Overrides({ of }: { of: OnCall }) {
  const client = useQueryClient();
  const [failure, setFailure] = useState<string>();
  const all = of.schedules.flatMap((schedule) => schedule.overrides.map((one) => ({ schedule: schedule.name, one })));
  if (all.length === 0) return null;
  const end = async (id: string) => {
    setFailure(undefined);
    try {
      await remove(overridesPath(id));
      await client.invalidateQueries({ queryKey: ["weir"] });
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <ul className="rows overrides">
      {all.map(({ schedule, one }) => (
        <li key={one.id}>
          <div className="grow">
            <b>{of.people.find((p) => p.name === one.person)?.shown ?? one.person}</b> stands in for {schedule}, {dayAndTime(Date.parse(one.start))} to {dayAndTime(Date.parse(one.end))}{" "}
            <span className="quiet">by {one.by}</span>
          </div>
          {!one.file && (
            <Button size="compact-xs" variant="default" onClick={() => void end(one.id)}>
              Delete
            </Button>
          )}
        </li>
      ))}
      {failure && <li className="text-bad">{failure}</li>}
    </ul>
  );
}

const HOUR = 3_600_000;

function NewOverride({ of, now }: { of: OnCall; now: number }) {
  const client = useQueryClient();
  const [opened, setOpened] = useState(false);
  const hour = Math.ceil(now / HOUR) * HOUR;
  const [schedule, setSchedule] = useState(of.schedules[0]?.name ?? "");
  const [person, setPerson] = useState(of.people[0]?.name ?? "");
  const [start, setStart] = useState(inputTime(hour));
  const [end, setEnd] = useState(inputTime(hour + 12 * HOUR));
  const [by, setBy] = useState(() => localStorage.getItem(NAME_KEY) ?? "");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const send = async () => {
    const [from, to] = [fromInput(start), fromInput(end)];
    if (from === undefined || to === undefined || from >= to) {
      setFailure("it ends before it starts");
      return;
    }
    setBusy(true);
    setFailure(undefined);
    try {
      await post(overridesPath(), { schedule, person, start: new Date(from).toISOString(), end: new Date(to).toISOString(), by: by.trim() });
      localStorage.setItem(NAME_KEY, by.trim());
      await client.invalidateQueries({ queryKey: ["weir"] });
      setOpened(false);
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Popover opened={opened} onChange={setOpened} position="bottom-end" shadow="md" trapFocus width={300}>
      <Popover.Target>
        <Button size="compact-xs" color="teal" onClick={() => setOpened(!opened)}>
          Override
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            void send();
          }}
        >
          <NativeSelect label="Who stands in" value={person} onChange={(event) => setPerson(event.currentTarget.value)} data={of.people.map((p) => ({ value: p.name, label: p.shown }))} />
          <NativeSelect label="In schedule" value={schedule} onChange={(event) => setSchedule(event.currentTarget.value)} data={of.schedules.map((s) => s.name)} />
          <TextInput type="datetime-local" label="From" value={start} onChange={(event) => setStart(event.currentTarget.value)} required />
          <TextInput type="datetime-local" label="To" value={end} onChange={(event) => setEnd(event.currentTarget.value)} required />
          <TextInput label="Your name" value={by} onChange={(event) => setBy(event.currentTarget.value)} maxLength={80} required />
          {failure && <p className="text-bad">{failure}</p>}
          <Button type="submit" size="sm" color="teal" loading={busy} disabled={by.trim() === ""}>
            Override
          </Button>
        </form>
      </Popover.Dropdown>
    </Popover>
  );
}
