// What is muted, by whom and until when; new silences show beforehand which alerts they mute.
import { Button, SegmentedControl } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { silencePath, useSilences } from "../../api/alertmanager";
import { remove } from "../../api/client";
import type { Silence } from "../../api/types";
import { showMatcher } from "../../lib/oncall";
import { useNow } from "../../lib/range";
import { ago, moment, parseIso, span } from "../../lib/time";
import { useParam } from "../../lib/url";
import { Panel, Tag } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { NewSilence } from "./new";

export default function Silences() {
  const silences = useSilences();
  const now = useNow();
  const [which, setWhich] = useParam("state", "current");
  return (
    <div className="page stack">
      <NewSilence now={now} />
      <Panel
        title="Silences"
        aside={
          <SegmentedControl
            size="xs"
            value={which}
            onChange={setWhich}
            data={[
              { value: "current", label: "Active and pending" },
              { value: "expired", label: "Expired" },
            ]}
          />
        }
      >
        <Load of={silences} what="the silences">
          {(all) => {
            const shown = all.filter((one) => (one.status.state === "expired") === (which === "expired"));
            return shown.length === 0 ? (
              <Empty title={which === "expired" ? "No silence has expired in five days" : "Nothing is silenced"} />
            ) : (
              <ul className="rows silences">
                {shown.map((one) => (
                  <Row key={one.id} of={one} now={now} />
                ))}
              </ul>
            );
          }}
        </Load>
      </Panel>
    </div>
  );
}

const TONES = { active: "warn", pending: "info", expired: "idle" } as const;

function Row({ of, now }: { of: Silence; now: number }) {
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const start = parseIso(of.startsAt) ?? now;
  const end = parseIso(of.endsAt) ?? now;
  const expire = async () => {
    setBusy(true);
    setFailure(undefined);
    try {
      await remove(silencePath(of.id));
      await client.invalidateQueries({ queryKey: ["alertmanager"] });
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  const when = { active: `ends in ${span(end - now)}`, pending: `begins in ${span(start - now)}`, expired: `ended ${ago(end, now)}` }[of.status.state];
  return (
    <li>
      <Tag tone={TONES[of.status.state]}>{of.status.state}</Tag>
      <div className="grow">
        <span className="matchers">
          {of.matchers.map((m) => (
            <code key={showMatcher(m)}>{showMatcher(m)}</code>
          ))}
        </span>
        <div>{of.comment}</div>
        <div className="quiet">
          {when} · {moment(start, now)} to {moment(end, now)} · by {of.createdBy}
        </div>
        {failure && <div className="text-bad">{failure}</div>}
      </div>
      {of.status.state !== "expired" && (
        <Button size="compact-sm" variant="default" loading={busy} onClick={() => void expire()}>
          Expire
        </Button>
      )}
    </li>
  );
}
