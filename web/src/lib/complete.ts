// What is being typed at the cursor, from the text before it; small and forgiving, as half a query never parses.

export type LogContext =
  | { kind: "label"; word: string }
  | { kind: "value"; word: string; label: string; selector?: string }
  | { kind: "stage"; word: string }
  | { kind: "function"; word: string };

export function logContext(before: string): LogContext | undefined {
  const open = openBrace(before);
  if (open !== undefined) {
    const inside = before.slice(open + 1);
    const value = /(?:^|,)\s*([\w]+)\s*(?:=~|!~|!=|=)\s*["`]([^"`]*)$/.exec(inside);
    if (value) {
      const others = inside.slice(0, value.index).replace(/,\s*$/, "").trim();
      return { kind: "value", label: value[1] ?? "", word: value[2] ?? "", selector: others ? `{${others}}` : undefined };
    }
    const label = /(?:^|,)\s*(\w*)$/.exec(inside);
    return label ? { kind: "label", word: label[1] ?? "" } : undefined;
  }
  if (insideString(before)) return undefined;
  const stage = /\|\s*(\w*)$/.exec(before);
  if (stage) return { kind: "stage", word: stage[1] ?? "" };
  const word = /(?:^|[\s(])([a-z_]*)$/.exec(before);
  return word && !before.includes("}") ? { kind: "function", word: word[1] ?? "" } : undefined;
}

export type TraceContext =
  | { kind: "attribute"; word: string }
  | { kind: "value"; word: string; attribute: string; quoted: boolean }
  | { kind: "stage"; word: string };

export function traceContext(before: string): TraceContext | undefined {
  const open = openBrace(before);
  if (open !== undefined) {
    const inside = before.slice(open + 1);
    const value = /([\w.:]+)\s*(?:=~|!~|!=|>=|<=|=|>|<)\s*("?)([^"\s&|]*)$/.exec(inside);
    if (value) return { kind: "value", attribute: value[1] ?? "", quoted: value[2] === '"', word: value[3] ?? "" };
    if (insideString(before)) return undefined;
    const name = /(?:^|[\s(&|])([\w.:]*)$/.exec(inside);
    return name ? { kind: "attribute", word: name[1] ?? "" } : undefined;
  }
  const stage = /\|\s*([\w]*)$/.exec(before);
  return stage ? { kind: "stage", word: stage[1] ?? "" } : undefined;
}

/** Place of the last brace that is still open; braces inside strings do not count. */
function openBrace(text: string): number | undefined {
  let at: number | undefined;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? "";
    if (quote) {
      if (c === "\\" && quote === '"') i += 1;
      else if (c === quote) quote = "";
    } else if (c === '"' || c === "`") quote = c;
    else if (c === "{") at = i;
    else if (c === "}") at = undefined;
  }
  return at;
}

function insideString(text: string): boolean {
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? "";
    if (quote) {
      if (c === "\\" && quote === '"') i += 1;
      else if (c === quote) quote = "";
    } else if (c === '"' || c === "`") quote = c;
  }
  return quote !== "";
}
