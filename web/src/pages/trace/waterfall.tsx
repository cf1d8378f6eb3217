// Spans as bars under one another, log lines at their span; only rows in view are drawn.
import { ActionIcon, Checkbox, TextInput, useComputedColorScheme } from "@mantine/core";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import type { LogLine } from "../../api/loki";
import { type Piece, piecesBySpan } from "../../lib/critical";
import { seconds } from "../../lib/format";
import { levelOf, messageOf } from "../../lib/logs";
import { colorOf, levelColor } from "../../lib/palette";
import { factsOf, type Span, type Trace } from "../../lib/trace";
import { nanosAfter, type Row, rowsOf } from "../../lib/trace-logs";
import { setParams, useParam } from "../../lib/url";

interface WaterfallProps {
  trace: Trace;
  path: Piece[];
  lines: Map<string, LogLine[]>;
  selected?: string;
  onSelect: (id: string) => void;
}

const HEIGHTS: Record<Row["kind"], number> = { span: 27, line: 20, more: 20 };

export function Waterfall({ trace, path, lines, selected, onSelect }: WaterfallProps) {
  const dark = useComputedColorScheme("light") === "dark";
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const [withLines, setWithLines] = useParam("lines", "yes");
  const [find] = useParam("find");
  const list = useRef<HTMLDivElement>(null);
  const pieces = useMemo(() => piecesBySpan(path), [path]);
  const colors = useMemo(() => new Map(trace.services.map((name, i) => [name, colorOf(i, dark)])), [trace, dark]);
  const shown = useMemo(() => rowsOf(trace.spans, closed, withLines === "yes" ? lines : undefined), [trace, closed, lines, withLines]);
  const words = find.trim().toLowerCase();
  const found = useMemo(() => (words ? new Set(trace.spans.filter((span) => matches(span, words)).map((span) => span.id)) : undefined), [trace, words]);
  const rows = useWindowVirtualizer({
    count: shown.length,
    estimateSize: (i) => HEIGHTS[shown[i]?.kind ?? "span"],
    getItemKey: (i) => keyOf(shown[i], i),
    overscan: 30,
    scrollMargin: list.current?.offsetTop ?? 0,
  });
  const toggle = (id: string) =>
    setClosed((was) => {
      const now = new Set(was);
      if (!now.delete(id)) now.add(id);
      return now;
    });
  const goTo = (id: string) => {
    onSelect(id);
    const at = shown.findIndex((row) => row.kind === "span" && row.span.id === id);
    if (at >= 0) rows.scrollToIndex(at, { align: "center" });
  };
  return (
    <div className="waterfall">
      <div className="waterfall-tools">
        <Find found={found} order={trace.spans} selected={selected} onFound={goTo} />
        {lines.size > 0 && <Checkbox size="xs" label="log lines" checked={withLines === "yes"} onChange={(event) => setWithLines(event.currentTarget.checked ? "yes" : "no")} />}
        <span className="quiet waterfall-key">
          <i className="key-critical" /> critical path <i className="key-broker" /> in the broker
        </span>
      </div>
      <div className="ruler" aria-hidden="true">
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <span key={part} style={{ left: `${part * 100}%` }}>
            {seconds((trace.duration * part) / 1e9)}
          </span>
        ))}
      </div>
      <div ref={list} style={{ height: rows.getTotalSize(), position: "relative" }}>
        {rows.getVirtualItems().map((item) => {
          const row = shown[item.index];
          if (!row) return null;
          const { span } = row;
          const top = item.start - rows.options.scrollMargin;
          if (row.kind !== "span") return <LineRow key={item.key} row={row} trace={trace} top={top} onSelect={() => setParams({ span: span.id, side: row.kind === "more" ? "logs" : undefined }, { replace: true })} />;
          return (
            <SpanRow
              key={item.key}
              span={span}
              whole={trace.duration || 1}
              top={top}
              selected={span.id === selected}
              faded={found !== undefined && !found.has(span.id)}
              pieces={pieces.get(span.id)}
              closed={closed.has(span.id)}
              color={colors.get(span.service) ?? ""}
              onSelect={() => onSelect(span.id)}
              onToggle={() => toggle(span.id)}
            />
          );
        })}
      </div>
    </div>
  );
}

/** Two spans may share an id; their place tells them apart. */
const keyOf = (row: Row | undefined, i: number): string => (row?.kind === "span" ? `${row.span.id}/${i}` : `${row?.kind}${i}`);

const matches = (span: Span, words: string): boolean =>
  `${span.name} ${span.service} ${span.id}`.toLowerCase().includes(words) ||
  Object.entries(span.attributes).some(([key, value]) => `${key}=${value}`.toLowerCase().includes(words));

interface FindProps {
  found?: Set<string>;
  order: Span[];
  selected?: string;
  onFound: (id: string) => void;
}

/** A search over all spans; Enter and the arrows go from one that was found to the next. */
function Find({ found, order, selected, onFound }: FindProps) {
  const [find, setFind] = useParam("find");
  const list = useMemo(() => (found ? order.filter((span) => found.has(span.id)) : []), [found, order]);
  const at = list.findIndex((span) => span.id === selected);
  const go = (by: number) => {
    const next = list[at < 0 ? 0 : (at + by + list.length) % list.length];
    if (next) onFound(next.id);
  };
  return (
    <form
      className="waterfall-find"
      onSubmit={(event) => {
        event.preventDefault();
        go(1);
      }}
    >
      <TextInput size="xs" aria-label="Find spans" placeholder="find spans" value={find} onChange={(event) => setFind(event.currentTarget.value)} />
      {found && (
        <>
          <span className="quiet nowrap">{list.length === 0 ? "none" : at < 0 ? `${list.length} found` : `${at + 1} of ${list.length}`}</span>
          <ActionIcon size="sm" variant="subtle" color="gray" aria-label="Previous" disabled={list.length === 0} onClick={() => go(-1)}>
            ↑
          </ActionIcon>
          <ActionIcon size="sm" variant="subtle" color="gray" aria-label="Next" disabled={list.length === 0} onClick={() => go(1)}>
            ↓
          </ActionIcon>
        </>
      )}
    </form>
  );
}

function LineRow({ row, trace, top, onSelect }: { row: Exclude<Row, { kind: "span" }>; trace: Trace; top: number; onSelect: () => void }) {
  const indent = { paddingLeft: Math.min(row.span.depth + 1, 15) * 13 };
  const place = { transform: `translateY(${top}px)` };
  if (row.kind === "more") {
    return (
      <button type="button" className="span-line" style={{ ...place, ...indent }} onClick={onSelect}>
        <span className="quiet">{row.hidden} more lines</span>
      </button>
    );
  }
  const { line } = row;
  const level = levelOf(line);
  return (
    <button type="button" className="span-line" style={{ ...place, ...indent }} onClick={onSelect} title={`${level}, after ${seconds(nanosAfter(trace, line) / 1e9)}\n${line.line}`}>
      <i style={{ background: levelColor(level) }} />
      <time>{seconds(nanosAfter(trace, line) / 1e9)}</time>
      <span>{messageOf(line.line) ?? line.line}</span>
    </button>
  );
}

interface SpanRowProps {
  span: Span;
  /** Nanoseconds that the width stands for. */
  whole: number;
  top: number;
  selected: boolean;
  faded: boolean;
  pieces?: Piece[];
  closed: boolean;
  color: string;
  onSelect: () => void;
  onToggle: () => void;
}

function SpanRow({ span, whole, top, selected, faded, pieces, closed, color, onSelect, onToggle }: SpanRowProps) {
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
      <Track span={span} whole={whole} pieces={pieces} color={color} onSelect={onSelect} />
    </div>
  );
}

/** The bar, the wait in the broker before it, its part of the critical path, its events, and its duration in words. */
function Track({ span, whole, pieces, color, onSelect }: Pick<SpanRowProps, "span" | "whole" | "pieces" | "color" | "onSelect">) {
  const share = (nanos: number) => (nanos / whole) * 100;
  const left = share(span.start);
  const width = Math.max(0.15, share(span.duration));
  const broker = span.inBroker === undefined ? 0 : share(span.inBroker);
  const facts = factsOf(span);
  // The label stands where there is room: right of the bar, left of it, or on it.
  const room = left + width < 70 ? "right" : left - broker > 32 ? "left" : "on";
  const place =
    room === "right"
      ? { left: `calc(${left + width}% + 6px)` }
      : room === "left"
        ? { right: `calc(${100 - left + broker}% + 6px)` }
        : { left: `calc(${left}% + 6px)`, maxWidth: `calc(${width}% - 10px)` };
  return (
    <button type="button" className="span-track" onClick={onSelect} tabIndex={-1} aria-label={`${span.name}, ${seconds(span.duration / 1e9)}`}>
      {broker > 0.1 && <i className="span-broker" style={{ left: `${left - broker}%`, width: `${broker}%` }} title={`${seconds((span.inBroker ?? 0) / 1e9)} in the broker`} />}
      <i className={`span-bar${span.error ? " error" : ""}`} style={{ left: `${left}%`, width: `${width}%`, background: span.error ? undefined : color }} />
      {pieces?.map((piece) => (
        <i key={piece.from} className={`span-critical ${piece.kind}`} style={{ left: `${share(piece.from)}%`, width: `${share(piece.to - piece.from)}%` }} title={`${seconds((piece.to - piece.from) / 1e9)} of the critical path`} />
      ))}
      {span.events.map((event, i) => (
        <i key={`${event.at}${i}`} className="span-event" style={{ left: `${share(event.at)}%` }} title={event.name} />
      ))}
      <span className={`span-label room-${room}`} style={place}>
        {seconds(span.duration / 1e9)}
        {span.inBroker !== undefined && <em> {seconds(span.inBroker / 1e9)} in broker</em>}
        {facts && <small> {facts}</small>}
      </span>
    </button>
  );
}
