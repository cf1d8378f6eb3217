import type { Usual } from "../../api/normal";
import type { Finding } from "../../lib/why";
import { Tag } from "../../ui/panel";

const WORDS: Record<Finding["kind"], string> = {
  total: "duration",
  own: "work",
  queue: "queue",
  gap: "gap",
  error: "failure",
  repeat: "repeats",
  retry: "retries",
  clock: "clock",
  incomplete: "spans",
};

interface WhyProps {
  findings: Finding[];
  usual: { data: Usual | null | undefined; isPending: boolean; error: unknown };
  onSelect: (span: string) => void;
}

/** The findings as sentences, each with its numbers and a way to its span. */
export function Why({ findings, usual, onSelect }: WhyProps) {
  return (
    <>
      <ul className="why">
        {findings.map(({ kind, tone, text, evidence, span }, i) => (
          <li key={`${kind}${i}`}>
            <Tag tone={tone === "info" ? "idle" : tone}>{WORDS[kind]}</Tag>
            <div className="grow">
              {span ? (
                <button type="button" className="why-text" onClick={() => onSelect(span.id)}>
                  {text}
                </button>
              ) : (
                <b>{text}</b>
              )}
              <small>{evidence.join(" · ")}</small>
            </div>
          </li>
        ))}
      </ul>
      <p className="quiet">{standing(usual)}</p>
    </>
  );
}

function standing({ data, isPending, error }: WhyProps["usual"]): string {
  if (error) return `What is usual could not be read: ${error instanceof Error ? error.message : String(error)}`;
  if (data) return `Usual: ${data.traces} ordinary traces of this operation, between its 25th and 75th percentile in the 6 hours before.`;
  if (data === null) return "Too few traces of this operation are stored of the 6 hours before to say what is usual.";
  return isPending ? "Looking for what is usual …" : "";
}
