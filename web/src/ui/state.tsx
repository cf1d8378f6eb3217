// What stands where data is not: still asking, nothing there, or a failure, each in words.
import type { ReactNode } from "react";
import { ApiError } from "../api/client";

export function Waiting({ what }: { what: string }) {
  return (
    <div className="state waiting" role="status">
      Loading {what} …
    </div>
  );
}

/** Nothing to show, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="state">
      <div className="state-title">{title}</div>
      {children && <div className="state-text">{children}</div>}
    </div>
  );
}

export function Failed({ what, error }: { what: string; error: unknown }) {
  const where = error instanceof ApiError ? error.what.split("?")[0] : undefined;
  return (
    <div className="state failed" role="alert">
      <div className="state-title">Could not load {what}</div>
      <div className="state-text">
        {error instanceof Error ? error.message : String(error)}
        {where && <code className="state-where">{where}</code>}
      </div>
    </div>
  );
}

interface Asked<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
}

/** Shows `children(data)` when there is data, also old data beside a fresh failure. */
export function Load<T>({ of, what, children }: { of: Asked<T>; what: string; children: (data: T) => ReactNode }) {
  if (of.data !== undefined) {
    return (
      <>
        {of.error ? <Failed what={what} error={of.error} /> : null}
        {children(of.data)}
      </>
    );
  }
  if (of.error) return <Failed what={what} error={of.error} />;
  return <Waiting what={what} />;
}
