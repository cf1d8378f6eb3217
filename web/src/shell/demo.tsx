// Under `weir demo`: break and heal the pipeline from the page, and see what the pager got.
import { Button, Drawer, Tooltip } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../api/client";
import type { DemoFault, DemoPage } from "../api/types";
import { demoFaultPath, useDemo } from "../api/weir";
import { ago, moment, parseIso } from "../lib/time";
import { Tag } from "../ui/panel";
import { Empty } from "../ui/state";

export function DemoBar() {
  const demo = useDemo(true);
  const client = useQueryClient();
  const [pager, setPager] = useState(false);
  const [busy, setBusy] = useState<string>();
  const [failure, setFailure] = useState<string>();
  if (!demo.data) return null;
  const turn = async (fault: DemoFault) => {
    setBusy(fault.id);
    setFailure(undefined);
    try {
      await post(demoFaultPath(fault.id, fault.active ? "heal" : "break"));
      await client.invalidateQueries({ queryKey: ["weir", "demo"] });
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(undefined);
    }
  };
  const open = demo.data.pages.filter((page) => !page.resolved_at).length;
  return (
    <div className="demo" role="region" aria-label="Demo faults">
      <b className="demo-title">Demo</b>
      <div className="demo-faults">
        {demo.data.faults.map((fault) => (
          <Tooltip key={fault.id} label={fault.detail} multiline maw={320} openDelay={300}>
            <div className={fault.active ? "fault active" : "fault"}>
              <span className="fault-title">{fault.title}</span>
              {fault.active && fault.since && <span className="fault-since">{ago(parseIso(fault.since) ?? Date.now(), Date.now())}</span>}
              <Button
                size="compact-xs"
                variant={fault.active ? "filled" : "default"}
                color={fault.active ? "teal" : "red"}
                loading={busy === fault.id}
                onClick={() => turn(fault)}
                aria-label={`${fault.active ? "Heal" : "Break"}: ${fault.title}`}
              >
                {fault.active ? "Heal" : "Break"}
              </Button>
            </div>
          </Tooltip>
        ))}
      </div>
      {failure && <span className="demo-failure">{failure}</span>}
      <Button size="compact-xs" variant={open ? "filled" : "default"} color="red" onClick={() => setPager(true)} className="pager-open">
        Pager{open ? ` · ${open} open` : ""}
      </Button>
      <Drawer opened={pager} onClose={() => setPager(false)} position="right" size={420} title="What the pager shows">
        <Pager pages={demo.data.pages} />
      </Drawer>
    </div>
  );
}

function Pager({ pages }: { pages: DemoPage[] }) {
  if (pages.length === 0) return <Empty title="No page yet">Break something in the bar above and wait some seconds.</Empty>;
  const now = Date.now();
  return (
    <div className="pager">
      {pages.map((page) => (
        <article key={page.dedup_key + page.opened_at} className={page.resolved_at ? "page resolved" : "page"}>
          <header>
            <Tag tone={page.resolved_at ? "idle" : "bad"}>{page.resolved_at ? "resolved" : "open"}</Tag>
            <time>{moment(parseIso(page.opened_at) ?? now, now)}</time>
            {page.updates > 0 && <span>{page.updates} updates</span>}
          </header>
          <h3>{page.title}</h3>
          {page.lines.map((line, i) => (
            <p key={i}>{line}</p>
          ))}
          {page.link && <a href={page.link}>Open the incident</a>}
        </article>
      ))}
    </div>
  );
}
