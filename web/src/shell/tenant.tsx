import { Button, Menu, TextInput } from "@mantine/core";
import { useState } from "react";
import { currentTenant } from "../api/client";
import { useSenders } from "../api/weir";
import { setParams, usePlace } from "../lib/url";

const REMEMBERED = "weir.tenants";

function remembered(): string[] {
  try {
    const list: unknown = JSON.parse(localStorage.getItem(REMEMBERED) ?? "[]");
    return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
  } catch {
    return [];
  }
}

function choose(tenant: string): void {
  const list = [tenant, ...remembered().filter((one) => one !== tenant)].slice(0, 12);
  localStorage.setItem(REMEMBERED, JSON.stringify(list));
  setParams({ tenant: tenant === "anonymous" ? undefined : tenant });
}

/** Whose data is shown. Tenants are known from the senders seen and from earlier choices. */
export function TenantSwitch() {
  usePlace();
  const [typed, setTyped] = useState("");
  const senders = useSenders();
  const now = currentTenant();
  const seen = (senders.data?.senders ?? []).map((one) => one.tenant).filter(Boolean);
  const all = [...new Set(["anonymous", now, ...seen, ...remembered()])].sort();
  return (
    <Menu position="bottom-end" width={220} withinPortal>
      <Menu.Target>
        <Button variant="default" size="compact-sm" className="tool tenant" title="Tenant">
          {now}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>Tenant</Menu.Label>
        {all.map((one) => (
          <Menu.Item key={one} onClick={() => choose(one)} aria-current={one === now}>
            {one === now ? "● " : "○ "}
            {one}
          </Menu.Item>
        ))}
        <Menu.Divider />
        <form
          className="menu-form"
          onSubmit={(event) => {
            event.preventDefault();
            if (typed.trim()) choose(typed.trim());
            setTyped("");
          }}
        >
          <TextInput size="xs" placeholder="another tenant" value={typed} onChange={(e) => setTyped(e.currentTarget.value)} aria-label="Another tenant" />
        </form>
      </Menu.Dropdown>
    </Menu>
  );
}
