import type { Entity } from "../../api/types";
import { useLogs } from "../../api/loki";
import { logsPath } from "../../lib/pivot";
import type { TimeRange } from "../../lib/range";
import { A } from "../../ui/link";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { LogLines } from "../explore/log-lines";

/** The newest lines of the range. */
export function LogTail({ of, range }: { of: Entity; range: TimeRange }) {
  const logs = useLogs(of.selectors.logs, range, 100, 60);
  if (!of.selectors.logs) return null;
  return (
    <Panel
      title="Newest log lines"
      aside={
        <span className="inline-list">
          <A to={logsPath(of.selectors.logs)}>all</A>
          <A to={logsPath(of.selectors.logs)} params={{ live: 1 }}>
            live
          </A>
        </span>
      }
    >
      <Load of={logs} what="the log lines">
        {(answer) => (answer.kind === "lines" && answer.lines.length > 0 ? <LogLines lines={answer.lines} /> : <Empty title="No line in this range" />)}
      </Load>
    </Panel>
  );
}
