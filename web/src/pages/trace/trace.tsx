// One trace: why it took that long, where its time went, what each span says, and the log lines beside it.
import { Button, SegmentedControl } from "@mantine/core";
import { useMemo } from "react";
import type { LogLine } from "../../api/loki";
import { useUsual } from "../../api/normal";
import { useTrace, useTraceLogs } from "../../api/traces";
import { criticalPath } from "../../lib/critical";
import { seconds } from "../../lib/format";
import { setRange } from "../../lib/range";
import { buildTrace, type Span, type Trace } from "../../lib/trace";
import { dateTime } from "../../lib/time";
import { profileOf } from "../../lib/trace-compare";
import { linesBySpan } from "../../lib/trace-logs";
import { setParams, useParam } from "../../lib/url";
import { why } from "../../lib/why";
import { EntityLink } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { LogLines } from "../explore/log-lines";
import { Compare } from "./compare";
import { CriticalList } from "./critical-list";
import { FlameGraph } from "./flame";
import { SpanDetails } from "./span-details";
import { Waterfall } from "./waterfall";
import { Why } from "./why";

export default function TracePage({ id }: { id: string }) {
  const answer = useTrace(id);
  return (
    <div className="page trace-page">
      <Load of={answer} what={`trace ${id}`}>
        {(raw) => (
          <Built id={id} raw={raw} />
        )}
      </Load>
    </div>
  );
}

function Built({ id, raw }: { id: string; raw: Parameters<typeof buildTrace>[0] }) {
  const trace = useMemo(() => buildTrace(raw), [raw]);
  if (trace.spans.length === 0) {
    return (
      <Empty title="No span of this trace is stored">
        It may be older than what is kept, still on its way, or belong to another tenant. Id: <code>{id}</code>
      </Empty>
    );
  }
  return <View id={id} trace={trace} />;
}

const VIEWS = [
  { value: "waterfall", label: "Waterfall" },
  { value: "path", label: "Critical path" },
  { value: "flame", label: "Flame graph" },
  { value: "compare", label: "Compare" },
];

function View({ id, trace }: { id: string; trace: Trace }) {
  const [selected] = useParam("span");
  const [view, setView] = useParam("view", "waterfall");
  const logs = useTraceLogs(id, trace);
  const usual = useUsual(id, trace);
  const path = useMemo(() => criticalPath(trace), [trace]);
  const profile = useMemo(() => profileOf(trace, path), [trace, path]);
  const findings = useMemo(() => why(trace, path, usual.data ?? undefined), [trace, path, usual.data]);
  const lines = useMemo(() => linesBySpan(trace, logs.data ?? []), [trace, logs.data]);
  const span = trace.spans.find((one) => one.id === selected) ?? trace.spans.find((one) => one.error) ?? trace.spans[0];
  const select = (one: string) => setParams({ span: one, side: undefined }, { replace: true });
  const show = (one: string) => setParams({ span: one, side: undefined, view: undefined }, { replace: true });
  return (
    <>
      <Head id={id} trace={trace} />
      <Panel title="Why it took that long">
        <Why findings={findings} usual={usual} onSelect={show} />
      </Panel>
      <div className="trace-columns">
        <Panel className="trace-main" title={<SegmentedControl size="xs" value={view} onChange={setView} data={VIEWS} />}>
          {view === "path" ? (
            <CriticalList trace={trace} path={path} usual={usual.data?.profile.costs} onSelect={select} />
          ) : view === "flame" ? (
            <FlameGraph trace={trace} />
          ) : view === "compare" ? (
            <Compare here={profile} usual={usual} />
          ) : (
            <Waterfall trace={trace} path={path} lines={lines} selected={span?.id} onSelect={select} />
          )}
        </Panel>
        <Side id={id} trace={trace} span={span} lines={lines} logs={logs} />
      </div>
    </>
  );
}

function Head({ id, trace }: { id: string; trace: Trace }) {
  const root = trace.root;
  return (
    <section className="answer calm">
      <div className="answer-head">
        <code>{id}</code>
      </div>
      <h1>
        {root?.name} <span className="quiet">in</span> {root && <EntityLink of={{ kind: "service", name: root.service }} />}
      </h1>
      <div className="answer-facts">
        <span>
          <b>{seconds(trace.duration / 1e9)}</b> in all
        </span>
        <span>{trace.spans.length} spans</span>
        {trace.errors > 0 && <Tag tone="bad">{trace.errors} failed</Tag>}
        <span>{dateTime(trace.startMs)}</span>
        <span className="inline-list">
          {trace.services.map((name) => (
            <EntityLink key={name} of={{ kind: "service", name }} />
          ))}
        </span>
        <Button size="compact-xs" variant="default" onClick={() => setRange(trace.startMs - 300_000, Math.ceil(trace.startMs + trace.duration / 1e6) + 300_000)}>
          Set range around it
        </Button>
      </div>
    </section>
  );
}

interface SideProps {
  id: string;
  trace: Trace;
  span?: Span;
  lines: Map<string, LogLine[]>;
  logs: ReturnType<typeof useTraceLogs>;
}

function Side({ id, trace, span, lines, logs }: SideProps) {
  const [tab, setTab] = useParam("side", "span");
  return (
    <Panel
      className="trace-side"
      title={
        <SegmentedControl
          size="xs"
          value={tab}
          onChange={setTab}
          data={[
            { value: "span", label: "Span" },
            { value: "logs", label: `Logs${logs.data ? ` (${logs.data.length})` : ""}` },
          ]}
        />
      }
    >
      {tab === "logs" ? (
        <Load of={logs} what="the logs of this trace">
          {(all) => (all.length ? <LogLines lines={all} /> : <Empty title="No log line carries this trace id" />)}
        </Load>
      ) : (
        span && <SpanDetails of={span} trace={trace} id={id} lines={lines.get(span.id) ?? []} />
      )}
    </Panel>
  );
}
