import type { ReactNode } from "react";

/** A titled area of a page. */
export function Panel(props: { title?: ReactNode; aside?: ReactNode; children: ReactNode; className?: string }) {
  return (
    <section className={`panel ${props.className ?? ""}`}>
      {(props.title || props.aside) && (
        <header className="panel-head">
          <h2>{props.title}</h2>
          <div className="panel-aside">{props.aside}</div>
        </header>
      )}
      {props.children}
    </section>
  );
}

/** A coloured word: `firing`, `ok`, `sent`. */
export function Tag({ tone, children }: { tone: "bad" | "warn" | "ok" | "idle" | "info"; children: ReactNode }) {
  return <span className={`tag tone-${tone}`}>{children}</span>;
}

export const toneOfState = (state: string): "bad" | "warn" | "ok" | "idle" => {
  switch (state) {
    case "firing":
    case "failed":
    case "down":
    case "error":
      return "bad";
    case "pending":
    case "unknown":
      return "warn";
    case "inactive":
    case "resolved":
      return "idle";
    default:
      return "ok";
  }
};
