// A new silence. The alerts that it would mute are those that the server finds for its matchers.
import { Button, NativeSelect, Textarea, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { silencesPath, useFiring } from "../../api/alertmanager";
import { post } from "../../api/client";
import type { FiringAlert } from "../../api/types";
import { type Matcher, parseMatchers, showMatcher } from "../../lib/oncall";
import { ago, parseDuration, parseIso } from "../../lib/time";
import { useParam } from "../../lib/url";
import { LabelList } from "../../ui/labels";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";
import { NAME_KEY } from "../incident/acknowledge";

const LENGTHS = ["30m", "1h", "2h", "4h", "8h", "24h", "3d", "7d"];

export function NewSilence({ now }: { now: number }) {
  const client = useQueryClient();
  const [text, setText] = useParam("matchers");
  const [length, setLength] = useState("2h");
  const [by, setBy] = useState(() => localStorage.getItem(NAME_KEY) ?? "");
  const [comment, setComment] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const [settled] = useDebouncedValue(text, 250);
  const read = settled.trim() === "" ? undefined : parseMatchers(settled);
  const matchers = Array.isArray(read) ? read : undefined;
  const create = async (wanted: Matcher[]) => {
    setBusy(true);
    setFailure(undefined);
    try {
      const start = Date.now();
      const endsAt = new Date(start + (parseDuration(length) ?? 0)).toISOString();
      await post(silencesPath, { matchers: wanted, startsAt: new Date(start).toISOString(), endsAt, createdBy: by.trim(), comment: comment.trim() });
      localStorage.setItem(NAME_KEY, by.trim());
      await client.invalidateQueries({ queryKey: ["alertmanager"] });
      setText("");
      setComment("");
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Panel title="New silence">
      <div className="silence-new">
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            const final = parseMatchers(text);
            if (typeof final === "string") setFailure(final);
            else void create(final);
          }}
        >
          <Textarea
            label="Matchers"
            description="all must hold; one per line, or with commas"
            placeholder={'alertname="DeliveryLatencyHigh"\nservice=~"delivery.*"'}
            value={text}
            onChange={(event) => setText(event.currentTarget.value)}
            autosize
            minRows={2}
            maxRows={8}
            error={typeof read === "string" ? read : undefined}
            classNames={{ input: "mono" }}
          />
          <div className="silence-fields">
            <NativeSelect label="For" value={length} onChange={(event) => setLength(event.currentTarget.value)} data={LENGTHS} />
            <TextInput label="Your name" value={by} onChange={(event) => setBy(event.currentTarget.value)} maxLength={80} required />
            <TextInput label="Why" value={comment} onChange={(event) => setComment(event.currentTarget.value)} maxLength={1000} required />
          </div>
          {failure && <p className="text-bad">{failure}</p>}
          <Button type="submit" size="sm" color="teal" loading={busy} disabled={!matchers || by.trim() === "" || comment.trim() === ""}>
            Silence
          </Button>
        </form>
        <Preview matchers={matchers} now={now} />
      </div>
    </Panel>
  );
}

function Preview({ matchers, now }: { matchers: Matcher[] | undefined; now: number }) {
  const firing = useFiring((matchers ?? []).map(showMatcher), true);
  return (
    <div className="silence-preview" aria-live="polite">
      <Load of={firing} what="the alerts that fire">
        {(alerts) => (
          <>
            <h3>{matchers ? `Mutes ${alerts.length} of the alerts that fire now` : `${alerts.length} ${alerts.length === 1 ? "alert fires" : "alerts fire"} now`}</h3>
            {alerts.length === 0 ? (
              <Empty title={matchers ? "No alert that fires now matches" : "No alert fires now"} />
            ) : (
              <ul className="rows">
                {alerts.slice(0, 50).map((one) => (
                  <Alert key={one.fingerprint} of={one} now={now} />
                ))}
              </ul>
            )}
          </>
        )}
      </Load>
    </div>
  );
}

function Alert({ of, now }: { of: FiringAlert; now: number }) {
  return (
    <li>
      <div className="grow">
        <b>{of.labels.alertname}</b> <span className="quiet">since {ago(parseIso(of.startsAt) ?? now, now)}</span>
        {of.status.silencedBy.length > 0 && <span className="quiet"> · silenced already</span>}
        {of.status.inhibitedBy.length > 0 && <span className="quiet"> · inhibited</span>}
        <div>
          <LabelList labels={of.labels} hide={["alertname"]} />
        </div>
      </div>
    </li>
  );
}
