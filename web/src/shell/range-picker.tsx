import { Button, Popover, SegmentedControl, TextInput } from "@mantine/core";
import { useState } from "react";
import { DEFAULT_FROM, refreshNow, setRange, useRange } from "../lib/range";
import { dateTime, parseTime, rangeLabel } from "../lib/time";
import { setParams } from "../lib/url";

const QUICK: [string, string][] = [
  ["now-5m", "5 min"],
  ["now-15m", "15 min"],
  ["now-30m", "30 min"],
  ["now-1h", "1 h"],
  ["now-3h", "3 h"],
  ["now-6h", "6 h"],
  ["now-12h", "12 h"],
  ["now-24h", "24 h"],
  ["now-2d", "2 d"],
  ["now-7d", "7 d"],
];

export function RangePicker() {
  const range = useRange();
  const [open, setOpen] = useState(false);
  const pick = (from: string) => {
    setParams({ from: from === DEFAULT_FROM ? undefined : from, to: undefined });
    setOpen(false);
  };
  return (
    <Popover opened={open} onChange={setOpen} position="bottom-end" width={300} shadow="md" withinPortal trapFocus>
      <Popover.Target>
        <Button variant="default" size="compact-sm" className="tool" onClick={() => setOpen((was) => !was)}>
          <i className={range.live ? "dot live" : "dot"} aria-hidden="true" />
          {rangeLabel(range.rawFrom, range.rawTo, Date.now())}
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <div className="quick">
          {QUICK.map(([from, name]) => (
            <Button
              key={from}
              size="compact-xs"
              variant={range.rawFrom === from && range.rawTo === "now" ? "filled" : "default"}
              onClick={() => pick(from)}
            >
              {name}
            </Button>
          ))}
        </div>
        <Absolute key={`${range.rawFrom}${range.rawTo}${open}`} from={range.from} to={range.to} raw={[range.rawFrom, range.rawTo]} done={() => setOpen(false)} />
        <div className="refresh">
          <span>Refresh</span>
          <SegmentedControl
            size="xs"
            value={range.live ? "on" : "off"}
            data={[
              { value: "on", label: "every 5 s" },
              { value: "off", label: "off" },
            ]}
            onChange={(value) => {
              refreshNow();
              if (value === "off") setParams({ refresh: "off" });
              else setParams({ refresh: undefined, ...(range.rawTo === "now" ? {} : { from: undefined, to: undefined }) });
            }}
          />
          <Button size="compact-xs" variant="default" onClick={refreshNow} title="r">
            Now
          </Button>
        </div>
      </Popover.Dropdown>
    </Popover>
  );
}

/** Two text fields that take `now-2h`, `2026-11-21 03:00:00` or Unix seconds. */
function Absolute(props: { from: number; to: number; raw: [string, string]; done: () => void }) {
  const shown = (raw: string, ms: number) => (raw.startsWith("now") ? raw : dateTime(ms));
  const [from, setFrom] = useState(shown(props.raw[0], props.from));
  const [to, setTo] = useState(shown(props.raw[1], props.to));
  const now = Date.now();
  const start = parseTime(from, now);
  const end = parseTime(to, now);
  const wrong = start === undefined || end === undefined ? undefined : start >= end ? "must be after the start" : undefined;
  const apply = () => {
    if (start === undefined || end === undefined || wrong) return;
    const keep = (text: string, ms: number) => (text.trim().startsWith("now") ? text.trim() : ms);
    setRange(keep(from, start), keep(to, end));
    props.done();
  };
  return (
    <form
      className="absolute"
      onSubmit={(event) => {
        event.preventDefault();
        apply();
      }}
    >
      <TextInput size="xs" label="From" value={from} onChange={(e) => setFrom(e.currentTarget.value)} error={start === undefined ? "not a time" : undefined} />
      <TextInput size="xs" label="To" value={to} onChange={(e) => setTo(e.currentTarget.value)} error={end === undefined ? "not a time" : wrong} />
      <Button size="compact-sm" type="submit">
        Show
      </Button>
    </form>
  );
}
