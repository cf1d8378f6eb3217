// Spans as bars under one another; only rows in view are drawn.
import { useComputedColorScheme } from "@mantine/core";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import { seconds } from "../../lib/format";
import { colorOf } from "../../lib/palette";
import { criticalPath, factsOf, type Span, type Trace } from "../../lib/trace";

interface WaterfallProps {
  trace: Trace;
  selected?: string;
  find: string;
  onSelect: (id: string) => void;
}

const ROW = 27;

export function Waterfall({ trace, selected, find, onSelect }: WaterfallProps) {
  const dark = useComputedColorScheme("light") === "dark";
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const list = useRef<HTMLDivElement>(null);
  const critical = useMemo(() => criticalPath(trace), [trace]);
  const shown = useMemo(() => visible(trace.spans, closed), [trace, closed]);
  const rows = useWindowVirtualizer({
    count: shown.length,
    estimateSize: () => ROW,
    overscan: 30,
    scrollMargin: list.current?.offsetTop ?? 0,
  });
  const words = find.trim().toLowerCase();
  const toggle = (id: string) =>
    setClosed((was) => {
      const now = new Set(was);
      if (!now.delete(id)) now.add(id);
      return now;
    });
  return (
    <div className="waterfall">
      <div className="ruler" aria-hidden="true">
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <span key={part} style={{ left: `${part * 100}%` }}>
            {seconds((trace.duration * part) / 1e9)}
          </span>
        ))}
      </div>
      <div ref={list} style={{ height: rows.getTotalSize(), position: "relative" }}>
        {rows.getVirtualItems().map((item) => {
          const span = shown[item.index];
          if (!span) return null;
          return (
            <Row
              key={span.id}
              span={span}
              trace={trace}
              top={item.start - rows.options.scrollMargin}
              selected={span.id === selected}
              faded={words !== "" && !matches(span, words)}
              critical={critical.has(span.id)}
              closed={closed.has(span.id)}
              color={colorOf(trace.services.indexOf(span.service), dark)}
              onSelect={() => onSelect(span.id)}
              onToggle={() => toggle(span.id)}
            />
          );
        })}
      </div>
    </div>
  );
}

function visible(spans: Span[], closed: ReadonlySet<string>): Span[] {
  if (closed.size === 0) return spans;
  let hiddenBelow = Number.POSITIVE_INFINITY;
  return spans.filter((span) => {
    if (span.depth > hiddenBelow) return false;
    hiddenBelow = closed.has(span.id) ? span.depth : Number.POSITIVE_INFINITY;
    return true;
  });
}

const matches = (span: Span, words: string): boolean =>
  `${span.name} ${span.service} ${span.id}`.toLowerCase().includes(words) ||
  Object.entries(span.attributes).some(([key, value]) => `${key}=${value}`.toLowerCase().includes(words));

interface RowProps {
  span: Span;
  trace: Trace;
  top: number;
  selected: boolean;
  faded: boolean;
  critical: boolean;
  closed: boolean;
  color: string;
  onSelect: () => void;
  onToggle: () => void;
}

function Row({ span, trace, top, selected, faded, critical, closed, color, onSelect, onToggle }: RowProps) {
  const whole = trace.duration || 1;
  const left = (span.start / whole) * 100;
  const width = Math.max(0.15, (span.duration / whole) * 100);
  const broker = span.inBroker === undefined ? undefined : (span.inBroker / whole) * 100;
  const facts = factsOf(span);
  // The label stands where there is room: right of the bar, left of it, or on it.
  const room = left + width < 70 ? "right" : left - (broker ?? 0) > 32 ? "left" : "on";
  const place =
    room === "right"
      ? { left: `calc(${left + width}% + 6px)` }
      : room === "left"
        ? { right: `calc(${100 - left + (broker ?? 0)}% + 6px)` }
        : { left: `calc(${left}% + 6px)`, maxWidth: `calc(${width}% - 10px)` };
  return (
    <div className={`span-row${selected ? " selected" : ""}${faded ? " faded" : ""}`} style={{ transform: `translateY(${top}px)` }}>
      <div className="span-name" style={{ paddingLeft: Math.min(span.depth, 14) * 13 }}>
        {span.children.length > 0 ? (
          <button type="button" className="fold" onClick={onToggle} aria-label={closed ? "Open" : "Close"} aria-expanded={!closed}>
            {closed ? "▸" : "▾"}
          </button>
        ) : (
          <i className="fold" />
        )}
        <button type="button" className="span-open" onClick={onSelect} title={`${span.service}: ${span.name}`}>
          <i style={{ background: color }} />
          <span className="span-service">{span.service}</span>
          <span className={span.error ? "span-title text-bad" : "span-title"}>{span.name}</span>
        </button>
      </div>
      <button type="button" className="span-track" onClick={onSelect} tabIndex={-1} aria-label={`${span.name}, ${seconds(span.duration / 1e9)}`}>
        {broker !== undefined && broker > 0.1 && (
          <i className="span-broker" style={{ left: `${left - broker}%`, width: `${broker}%` }} title={`${seconds((span.inBroker ?? 0) / 1e9)} in the broker`} />
        )}
        <i className={`span-bar${span.error ? " error" : ""}${critical ? " critical" : ""}`} style={{ left: `${left}%`, width: `${width}%`, background: span.error ? undefined : color }} />
        {span.events.map((event, i) => (
          <i key={`${event.at}${i}`} className="span-event" style={{ left: `${(event.at / whole) * 100}%` }} title={event.name} />
        ))}
        <span className={`span-label room-${room}`} style={place}>
          {seconds(span.duration / 1e9)}
          {span.inBroker !== undefined && <em> {seconds(span.inBroker / 1e9)} in broker</em>}
          {facts && <small> {facts}</small>}
        </span>
      </button>
    </div>
  );
}
