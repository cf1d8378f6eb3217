import { Button, Modal, TextInput } from "@mantine/core";
import { useDebouncedValue, useHotkeys } from "@mantine/hooks";
import { useEffect, useState } from "react";
import { useEntities } from "../api/weir";
import { entityPath, kindName } from "../lib/entity";
import { ago, parseIso } from "../lib/time";
import { navigate, pageUrl } from "../lib/url";
import { KindMark } from "../ui/kind";

interface Hit {
  key: string;
  title: string;
  detail: string;
  kind?: string;
  path: string;
}

/** Ctrl-K: any entity by a part of its name, or a trace by its id. */
export function Search() {
  const [open, setOpen] = useState(false);
  useHotkeys([["mod+K", () => setOpen(true)], ["/", () => setOpen(true)]], []);
  return (
    <>
      <Button variant="default" size="compact-sm" className="tool search-open" onClick={() => setOpen(true)} aria-label="Search entities">
        <svg className="glyph" viewBox="0 0 16 16" aria-hidden="true">
          <path d="M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9M10.5 10.5L14 14" />
        </svg>
        <span className="search-hint">Search</span>
        <kbd>ctrl K</kbd>
      </Button>
      <Modal opened={open} onClose={() => setOpen(false)} withCloseButton={false} yOffset="12vh" size="lg" padding={0} transitionProps={{ duration: 0 }}>
        <Finder close={() => setOpen(false)} />
      </Modal>
    </>
  );
}

function Finder({ close }: { close: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const [asked] = useDebouncedValue(text.trim(), 120);
  const found = useEntities(asked, 30);
  const hits: Hit[] = [
    ...traceHit(asked),
    ...(found.data?.entities ?? []).map((one) => ({
      key: one.id,
      title: one.name,
      kind: one.kind,
      detail: `${kindName(one.kind)} · seen ${ago(parseIso(one.last_seen) ?? 0, Date.now())}`,
      path: entityPath(one),
    })),
  ];
  useEffect(() => setAt(0), [asked]);
  const go = (hit: Hit | undefined) => {
    if (!hit) return;
    close();
    navigate(pageUrl(hit.path));
  };
  return (
    <div className="finder">
      <TextInput
        data-autofocus
        size="md"
        variant="unstyled"
        placeholder="service, topic, group, database, or a trace id"
        aria-label="Search entities"
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt((i) => Math.min(i + 1, hits.length - 1));
          else if (event.key === "ArrowUp") setAt((i) => Math.max(i - 1, 0));
          else if (event.key === "Enter") go(hits[at]);
          else return;
          event.preventDefault();
        }}
      />
      <div className="finder-list" role="listbox">
        {hits.map((hit, i) => (
          <button type="button" role="option" aria-selected={i === at} key={hit.key} onMouseMove={() => setAt(i)} onClick={() => go(hit)}>
            {hit.kind && <KindMark kind={hit.kind} />}
            <b>{hit.title}</b>
            <span>{hit.detail}</span>
          </button>
        ))}
        {found.error != null && <div className="finder-none">The server did not answer the search.</div>}
        {found.data && hits.length === 0 && <div className="finder-none">Nothing is called “{asked}”.</div>}
      </div>
    </div>
  );
}

const traceHit = (text: string): Hit[] =>
  /^[0-9a-f]{16,32}$/i.test(text) ? [{ key: "trace", title: text, detail: "open this trace", path: `/trace/${text}` }] : [];
