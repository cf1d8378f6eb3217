import { ActionIcon, CopyButton, Tooltip } from "@mantine/core";
import { currentTenant } from "../api/client";
import type { Status } from "../api/types";
import { useRange } from "../lib/range";
import { shareUrl, usePlace } from "../lib/url";

/** Copies the address of this view with absolute times and the tenant, so that others see the same. */
export function Share({ status }: { status?: Status }) {
  usePlace();
  const range = useRange();
  const base = status?.external_url || window.location.origin;
  return (
    <CopyButton value={shareUrl(base, range, currentTenant())} timeout={1500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : "Copy link to this view"}>
          <ActionIcon variant="subtle" color={copied ? "teal" : "gray"} size={30} onClick={copy} aria-label="Copy link to this view">
            <svg className="glyph" viewBox="0 0 16 16" aria-hidden="true">
              <path d={copied ? "M3 8.5l3.5 3.5L13 5" : "M6.5 9.5l3-3M7 4.5l1.5-1.5a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5L7.5 13A3 3 0 0 1 3 8.5L4.5 7"} />
            </svg>
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}
