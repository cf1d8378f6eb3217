// The line that an alert's expression is compared with.

/** `expr > 5` at the outermost level becomes the expression and its threshold. */
export function splitThreshold(expr: string): { query: string; threshold?: number } {
  const match = /^(.*?)\s*(?:>=|<=|>|<)\s*(?:bool\s+)?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*$/is.exec(expr.trim());
  if (!match?.[1] || !balanced(match[1]) || hasSetOperator(match[1])) return { query: expr };
  return { query: match[1], threshold: Number(match[2]) };
}

/** Past `and`, `or` and `unless` the comparison belongs to the last part only. */
const hasSetOperator = (text: string): boolean => /\b(and|or|unless)\b/i.test(text.replace(/"(?:[^"\\]|\\.)*"/g, '""'));

function balanced(text: string): boolean {
  let depth = 0;
  for (const c of text) {
    if (c === "(" || c === "{" || c === "[") depth += 1;
    if (c === ")" || c === "}" || c === "]") depth -= 1;
    if (depth < 0) return false;
  }
  return depth === 0;
}
