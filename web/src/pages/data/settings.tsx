import { Button, CopyButton, SegmentedControl } from "@mantine/core";
import { currentTenant } from "../../api/client";
import type { Status } from "../../api/types";
import { settings } from "../../lib/settings";
import { useParam } from "../../lib/url";
import { Panel } from "../../ui/panel";

/** Settings with this server's address in them, to be copied. */
export function Settings({ status }: { status?: Status }) {
  const [chosen, setChosen] = useParam("client", "otel");
  const list = settings(status?.external_url || window.location.origin, currentTenant());
  const one = list.find((each) => each.id === chosen) ?? list[0];
  if (!one) return null;
  return (
    <Panel title="Send data here">
      <div className="settings-tabs">
        <SegmentedControl size="xs" value={one.id} onChange={setChosen} data={list.map(({ id, title }) => ({ value: id, label: title }))} />
        <CopyButton value={one.text} timeout={1500}>
          {({ copied, copy }) => (
            <Button size="compact-sm" variant={copied ? "filled" : "default"} onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
      </div>
      <p className="quiet">{one.note}</p>
      <pre className="thing settings-text">{one.text}</pre>
    </Panel>
  );
}
