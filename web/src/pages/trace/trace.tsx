// One trace: where its time went, what each span says, and the log lines beside it.
import { Button, SegmentedControl, TextInput } from "@mantine/core";
import { useMemo } from "react";
import { useTrace, useTraceLogs } from "../../api/traces";
import { seconds } from "../../lib/format";
import { setRange } from "../../lib/range";
import { buildTrace, type Trace } from "../../lib/trace";
import { dateTime } from "../../lib/time";
import { setParams, useParam } from "../../lib/url";
import { EntityLink } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { LogLines } from "../explore/log-lines";
import { SpanDetails } from "./span-details";
import { Waterfall } from "./waterfall";

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

function View({ id, trace }: { id: string; trace: Trace }) {
  const [selected] = useParam("span");
  const [tab, setTab] = useParam("side", "span");
  const [find, setFind] = useParam("find");
  const span = trace.spans.find((one) => one.id === selected) ?? trace.spans.find((one) => one.error) ?? trace.spans[0];
  const logs = useTraceLogs(id, trace);
  const root = trace.root;
  return (
    <>
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
      <div className="trace-columns">
        <Panel
          title="Waterfall"
          aside={
            <TextInput size="xs" aria-label="Find spans" placeholder="find spans" value={find} onChange={(event) => setFind(event.currentTarget.value)} />
          }
        >
          <Waterfall trace={trace} selected={span?.id} find={find} onSelect={(one) => setParams({ span: one, side: undefined }, { replace: true })} />
        </Panel>
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
              {(lines) => (lines.length ? <LogLines lines={lines} /> : <Empty title="No log line carries this trace id" />)}
            </Load>
          ) : (
            span && <SpanDetails of={span} trace={trace} id={id} lines={logs.data ?? []} />
          )}
        </Panel>
      </div>
    </>
  );
}
