// The lines themselves: only those in view are drawn; a click opens one.
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import type { LogLine } from "../../api/loki";
import { jsonFields, levelOf, messageOf, traceOf, withField, withLabel } from "../../lib/logs";
import { levelColor } from "../../lib/palette";
import { aroundMoment, pivotsOf } from "../../lib/pivot";
import { useRange } from "../../lib/range";
import { clock, dateTime } from "../../lib/time";
import { entityOfLabel } from "../../lib/entity";
import { setParams } from "../../lib/url";
import { A, EntityLink } from "../../ui/link";

export function LogLines({ lines, query }: { lines: LogLine[]; query?: string }) {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const list = useRef<HTMLDivElement>(null);
  const keys = useMemo(() => lineKeys(lines), [lines]);
  const rows = useWindowVirtualizer({
    count: lines.length,
    estimateSize: () => 23,
    overscan: 20,
    scrollMargin: list.current?.offsetTop ?? 0,
    getItemKey: (i) => keys[i] ?? i,
  });
  const toggle = (key: string) =>
    setOpen((was) => {
      const now = new Set(was);
      if (!now.delete(key)) now.add(key);
      return now;
    });
  return (
    <div ref={list} className="lines" style={{ height: rows.getTotalSize() }}>
      {rows.getVirtualItems().map((item) => {
        const line = lines[item.index];
        if (!line) return null;
        const key = String(item.key);
        return (
          <div
            key={key}
            ref={rows.measureElement}
            data-index={item.index}
            className="line-row"
            style={{ transform: `translateY(${item.start - rows.options.scrollMargin}px)` }}
          >
            <Line of={line} open={open.has(key)} toggle={() => toggle(key)} />
            {open.has(key) && <LineDetails of={line} query={query} />}
          </div>
        );
      })}
    </div>
  );
}

/** A line has no identity of its own: its time, and its place among those of that time. */
function lineKeys(lines: LogLine[]): string[] {
  const seen = new Map<string, number>();
  // From the oldest on, so that lines that a tail adds on top rename none.
  return lines.toReversed().map(({ ns }) => {
    const nth = (seen.get(ns) ?? 0) + 1;
    seen.set(ns, nth);
    return `${ns}/${nth}`;
  }).reverse();
}

function Line({ of, open, toggle }: { of: LogLine; open: boolean; toggle: () => void }) {
  const level = levelOf(of);
  const trace = traceOf(of);
  return (
    <div className={open ? "log open" : "log"}>
      <button type="button" className="log-main" onClick={toggle} aria-expanded={open} title={`${dateTime(of.at)}, ${level}`}>
        <i className="log-level" style={{ background: levelColor(level) }} />
        <time>{clock(of.at, true)}</time>
        <span className="log-source">{of.stream.service_name ?? of.stream.app ?? of.stream.job ?? ""}</span>
        <span className="log-text">{messageOf(of.line) ?? of.line}</span>
      </button>
      {trace && (
        <A to={`/trace/${trace}`} className="log-trace" title={`trace ${trace}`}>
          trace
        </A>
      )}
    </div>
  );
}

function LineDetails({ of, query }: { of: LogLine; query?: string }) {
  const range = useRange();
  const around = aroundMoment(of.at, range);
  const to = pivotsOf({ ...of.parsed, ...of.metadata, ...of.stream });
  const fromText = jsonFields(of.line);
  const groups: [string, Record<string, string>, "label" | "metadata" | "json"][] = [
    ["labels", of.stream, "label"],
    ["metadata", of.metadata, "metadata"],
    ["fields", { ...fromText, ...of.parsed }, "json"],
  ];
  const trace = traceOf(of);
  return (
    <div className="log-details">
      <pre>{of.line}</pre>
      <div className="log-links">
        {trace && <A to={`/trace/${trace}`}>Open the trace</A>}
        {to.metrics && (
          <A to={to.metrics} params={around}>
            Metrics around it
          </A>
        )}
        {to.traces && (
          <A to={to.traces} params={around}>
            Traces around it
          </A>
        )}
        {to.logs && (
          <A to={to.logs} params={around}>
            Lines around it
          </A>
        )}
      </div>
      {groups.map(([title, fields, origin]) =>
        Object.keys(fields).length === 0 ? null : (
          <table key={title} className="fields">
            <caption>{title}</caption>
            <tbody>
              {Object.entries(fields).map(([name, value]) => {
                const entity = entityOfLabel(name, value);
                return (
                  <tr key={name}>
                    <th>{name}</th>
                    <td>{entity ? <EntityLink of={entity} /> : value}</td>
                    {query !== undefined && (
                      <td className="field-filters">
                        <button type="button" onClick={() => filter(query, origin, name, value, false, of.line)} title={`only lines with ${name} = ${value}`}>
                          filter for value
                        </button>
                        <button type="button" onClick={() => filter(query, origin, name, value, true, of.line)} title={`no lines with ${name} = ${value}`}>
                          leave out
                        </button>
                      </td>
                    )}
                  </tr>
                );
              })}
            </tbody>
          </table>
        ),
      )}
    </div>
  );
}

function filter(query: string, origin: "label" | "metadata" | "json", name: string, value: string, negate: boolean, line: string): void {
  const field = name.replace(/[^a-zA-Z0-9_]/g, "_");
  const parser = origin === "json" ? (line.startsWith("{") ? ("json" as const) : ("logfmt" as const)) : undefined;
  setParams({ q: origin === "label" ? withLabel(query, name, value, negate) : withField(query, field, value, parser, negate) });
}
