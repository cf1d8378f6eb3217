// The live tail: Loki's WebSocket, opened again with patience when it breaks.
import { useEffect, useState } from "react";
import { currentTenant, withQuery } from "../../api/client";
import { flatten, type LogLine, nanos, type RawStream } from "../../api/loki";

/** Older lines leave the top: a tail is for now. */
const KEEP = 2000;

export interface Tail {
  lines: LogLine[];
  dropped: number;
  state: string;
  error?: string;
}

const START: Tail = { lines: [], dropped: 0, state: "connecting" };

export function useTail(query: string, enabled: boolean): Tail {
  const [tail, setTail] = useState<Tail>(START);
  useEffect(() => {
    setTail(START);
    if (!enabled) return;
    let closed = false;
    let socket: WebSocket | undefined;
    let retry: ReturnType<typeof setTimeout> | undefined;
    let waiting: LogLine[] = [];
    let tries = 0;
    // Lines are shown five times a second at most, however fast they come.
    const flush = setInterval(() => {
      if (waiting.length === 0) return;
      const fresh = waiting.reverse();
      waiting = [];
      setTail((was) => ({ ...was, lines: [...fresh, ...was.lines].slice(0, KEEP) }));
    }, 200);
    const connect = () => {
      const path = withQuery("/loki/api/v1/tail", { query, tenant: currentTenant(), start: nanos(Date.now() - 5000), limit: 200 });
      socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
      socket.onopen = () => {
        tries = 0;
        setTail((was) => ({ ...was, state: "live", error: undefined }));
      };
      socket.onmessage = (event: MessageEvent<string>) => {
        const frame = JSON.parse(event.data) as { streams?: RawStream[] | null; dropped_entries?: unknown[] | null };
        waiting.push(...flatten(frame.streams ?? []).sort((a, b) => a.at - b.at));
        const dropped = frame.dropped_entries?.length ?? 0;
        if (dropped > 0) setTail((was) => ({ ...was, dropped: was.dropped + dropped }));
      };
      socket.onclose = (event) => {
        if (closed) return;
        tries += 1;
        const reason = event.reason || (tries > 2 ? "the connection was refused; is the query a log query?" : "");
        setTail((was) => ({ ...was, state: "connecting again", error: reason || undefined }));
        retry = setTimeout(connect, Math.min(10_000, 500 * 2 ** tries));
      };
    };
    connect();
    return () => {
      closed = true;
      clearTimeout(retry);
      clearInterval(flush);
      socket?.close();
    };
  }, [query, enabled]);
  return tail;
}
