// Data in: who sends, what was refused and why, how much it is, and the settings to send more.
import { useSenders, useStatus, useUsage } from "../../api/weir";
import type { Status } from "../../api/types";
import { useTargets } from "../../api/prom";
import { bytes, number, percent, seconds } from "../../lib/format";
import { useNow } from "../../lib/range";
import { ago, parseIso } from "../../lib/time";
import { A, EntityLink } from "../../ui/link";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { ContractBoard } from "./contract";
import { Senders } from "./senders";
import { Settings } from "./settings";

export default function DataIn() {
  const status = useStatus();
  const senders = useSenders();
  const now = useNow();
  return (
    <div className="page stack">
      <Load of={status} what="the state of weir">
        {(found) => <Storage status={found} />}
      </Load>
      <Panel title="Senders">
        <Load of={senders} what="the senders">
          {({ senders: list }) => <Senders list={list} now={now} />}
        </Load>
      </Panel>
      <Targets now={now} />
      <Settings status={status.data} />
      <ContractBoard />
      <Usage />
    </div>
  );
}

function Storage({ status }: { status: Status }) {
  const whole = status.budgets.find((one) => one.account === "process") ?? status.budgets[0];
  return (
    <div className="banner">
      {whole && whole.limit_bytes > 0 && (
        <span className="quiet">
          {bytes(whole.used_bytes)} of {bytes(whole.limit_bytes)} used ({percent(whole.used_bytes / whole.limit_bytes)})
        </span>
      )}
      <span className="quiet">
        weir {status.version}, up {ago(parseIso(status.started_at) ?? Date.now(), Date.now()).replace(" ago", "")}
      </span>
      <A to="/cardinality">Series by metric and label</A>
      <details className="budgets">
        <summary className="quiet">Memory by account</summary>
        <table className="table">
          <tbody>
            {status.budgets.map((one) => (
              <tr key={one.account}>
                <td>{one.account}</td>
                <td className="num">{bytes(one.used_bytes)}</td>
                <td className="num">of {bytes(one.limit_bytes)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </div>
  );
}

function Targets({ now }: { now: number }) {
  const targets = useTargets();
  return (
    <Panel title="Scrape targets">
      <Load of={targets} what="the scrape targets">
        {(list) =>
          list.length === 0 ? (
            <Empty title="Nothing is scraped">Name targets under scrape_configs in a prometheus.yml and start weir with --prometheus-config.</Empty>
          ) : (
            <div className="scroll-x">
              <table className="table">
                <thead>
                  <tr>
                    <th>State</th>
                    <th>Job</th>
                    <th>Address</th>
                    <th>Last scrape</th>
                    <th className="num">Took</th>
                    <th>Error</th>
                  </tr>
                </thead>
                <tbody>
                  {[...list]
                    .sort((a, b) => Number(a.health === "up") - Number(b.health === "up") || a.scrapeUrl.localeCompare(b.scrapeUrl))
                    .map((one) => (
                      <tr key={one.scrapePool + one.scrapeUrl}>
                        <td>
                          <Tag tone={toneOfState(one.health)}>{one.health}</Tag>
                        </td>
                        <td>
                          <EntityLink of={{ kind: "service", name: one.labels.service ?? one.labels.job ?? one.scrapePool }} />
                        </td>
                        <td>{one.scrapeUrl}</td>
                        <td className="nowrap">{lastScrape(one.lastScrape, now)}</td>
                        <td className="num">{seconds(one.lastScrapeDuration)}</td>
                        <td className="text-bad">{one.lastError}</td>
                      </tr>
                    ))}
                </tbody>
              </table>
            </div>
          )
        }
      </Load>
    </Panel>
  );
}

function lastScrape(text: string, now: number): string {
  const at = parseIso(text);
  return at === undefined || at <= 0 ? "not yet" : ago(at, now);
}

function Usage() {
  const usage = useUsage();
  return (
    <Panel title="What it is made of" aside={<span className="quiet">since weir started</span>}>
      <Load of={usage} what="the usage">
        {({ rows }) => {
          if (rows.length === 0) return <Empty title="Nothing has been taken in yet" />;
          const whole = rows.reduce((sum, one) => sum + one.bytes, 0) || 1;
          return (
            <div className="scroll-x">
              <table className="table">
                <thead>
                  <tr>
                    <th>Signal</th>
                    <th>Namespace</th>
                    <th>Service</th>
                    <th className="num">Items</th>
                    <th className="num">Size</th>
                    <th className="num">Share</th>
                  </tr>
                </thead>
                <tbody>
                  {[...rows]
                    .sort((a, b) => b.bytes - a.bytes)
                    .slice(0, 100)
                    .map((one) => (
                      <tr key={`${one.signal}|${one.tenant}|${one.namespace}|${one.service}`}>
                        <td>{one.signal}</td>
                        <td>{one.namespace || "–"}</td>
                        <td>{one.service ? <EntityLink of={{ kind: "service", name: one.service }} /> : "–"}</td>
                        <td className="num">{number(one.items)}</td>
                        <td className="num">{bytes(one.bytes)}</td>
                        <td className="num">{percent(one.bytes / whole)}</td>
                      </tr>
                    ))}
                </tbody>
              </table>
            </div>
          );
        }}
      </Load>
    </Panel>
  );
}
