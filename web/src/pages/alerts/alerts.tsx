// Every alert rule with what it sees, what fired before, and who was told.
import { SegmentedControl, TextInput } from "@mantine/core";
import { useRules } from "../../api/prom";
import { useAlertHistory, useNotifications } from "../../api/weir";
import { number } from "../../lib/format";
import { useNow, useRange } from "../../lib/range";
import { moment, parseIso } from "../../lib/time";
import { useParam } from "../../lib/url";
import { A } from "../../ui/link";
import { LabelList } from "../../ui/labels";
import { Panel, Tag, toneOfState } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { RuleRow, stateOf } from "./rule";

export default function Alerts() {
  const [tab, setTab] = useParam("tab", "rules");
  return (
    <div className="page stack">
      <SegmentedControl
        className="page-tabs"
        value={tab}
        onChange={setTab}
        data={[
          { value: "rules", label: "Rules" },
          { value: "history", label: "History" },
          { value: "notifications", label: "Notifications" },
        ]}
      />
      {tab === "history" ? <History /> : tab === "notifications" ? <Notifications /> : <Rules />}
    </div>
  );
}

const ORDER = ["firing", "unknown", "pending", "inactive"];

function Rules() {
  const [find, setFind] = useParam("q");
  const [state, setState] = useParam("state", "all");
  const rules = useRules();
  const now = useNow();
  return (
    <Load of={rules} what="the rules">
      {(groups) => {
        const all = groups.flatMap((group) => group.rules.filter((rule) => rule.type === "alerting").map((rule) => ({ group, rule })));
        const recording = groups.reduce((sum, group) => sum + group.rules.filter((rule) => rule.type === "recording").length, 0);
        const count = (wanted: string) => all.filter(({ rule }) => stateOf(rule) === wanted).length;
        const words = find.trim().toLowerCase();
        const shown = all
          .filter(({ rule }) => state === "all" || stateOf(rule) === state)
          .filter(({ rule }) => words === "" || `${rule.name} ${rule.query} ${JSON.stringify(rule.labels)}`.toLowerCase().includes(words))
          .sort((a, b) => ORDER.indexOf(stateOf(a.rule)) - ORDER.indexOf(stateOf(b.rule)) || a.rule.name.localeCompare(b.rule.name));
        return (
          <Panel
            title="Alert rules"
            aside={
              <span className="inline-list">
                <TextInput size="xs" aria-label="Find rules" placeholder="find rules" value={find} onChange={(event) => setFind(event.currentTarget.value)} />
                <SegmentedControl
                  size="xs"
                  value={state}
                  onChange={setState}
                  data={[
                    { value: "all", label: `All ${all.length}` },
                    { value: "firing", label: `Firing ${count("firing")}` },
                    { value: "pending", label: `Pending ${count("pending")}` },
                    ...(count("unknown") > 0 || state === "unknown" ? [{ value: "unknown", label: `Unknown ${count("unknown")}` }] : []),
                  ]}
                />
              </span>
            }
          >
            {all.length === 0 ? (
              <Empty title="No alert rules are loaded">
                Start weir with --prometheus-config prometheus.yml, whose rule_files name them. {recording > 0 && `${recording} recording rules are loaded.`}
              </Empty>
            ) : shown.length === 0 ? (
              <Empty title={state === "all" ? "No rule is called that" : `No rule is ${state}`} />
            ) : (
              <ul className="rows rules">
                {shown.map(({ group, rule }) => (
                  <RuleRow key={`${group.file}${group.name}${rule.name}${rule.query}`} group={group} rule={rule} now={now} open={words !== "" && shown.length === 1} />
                ))}
              </ul>
            )}
          </Panel>
        );
      }}
    </Load>
  );
}

function History() {
  const range = useRange();
  const now = useNow();
  const history = useAlertHistory(range);
  return (
    <Panel title="What alerts did in this range">
      <Load of={history} what="the history of alerts">
        {({ transitions }) =>
          transitions.length === 0 ? (
            <Empty title="No alert changed its state in this range" />
          ) : (
            <ul className="rows">
              {transitions.map((one, i) => (
                <li key={`${one.at}${one.fingerprint}${i}`}>
                  <Tag tone={toneOfState(one.phase)}>{one.phase}</Tag>
                  <div className="grow">
                    <A to={`/incidents/${one.fingerprint}`}>
                      <b>{one.labels.alertname}</b>
                    </A>{" "}
                    {one.annotations.summary}
                    <div>
                      <LabelList labels={one.labels} hide={["alertname"]} />
                    </div>
                  </div>
                  <span className="num">{Number.isFinite(one.value) ? number(one.value) : ""}</span>
                  <time>{moment(parseIso(one.at) ?? now, now)}</time>
                </li>
              ))}
            </ul>
          )
        }
      </Load>
    </Panel>
  );
}

function Notifications() {
  const now = useNow();
  const notifications = useNotifications();
  return (
    <Panel title="Notifications sent">
      <Load of={notifications} what="the notifications">
        {({ notifications: list }) =>
          list.length === 0 ? (
            <Empty title="Nobody has been told anything yet">Receivers come from --alertmanager-config alertmanager.yml.</Empty>
          ) : (
            <ul className="rows">
              {list.map((one, i) => (
                <li key={`${one.at}${i}`}>
                  <Tag tone={toneOfState(one.status)}>{one.status}</Tag>
                  <div className="grow">
                    <b>{one.receiver}</b> by {one.integration}, {one.alerts} {one.alerts === 1 ? "alert" : "alerts"}
                    {one.reason && <span className="quiet"> · {one.reason}</span>}
                    {one.error && <div className="text-bad">{one.error}</div>}
                    <div className="quiet">{one.group_key}</div>
                  </div>
                  <time>{moment(parseIso(one.at) ?? now, now)}</time>
                </li>
              ))}
            </ul>
          )
        }
      </Load>
    </Panel>
  );
}
