/** A sentence of weir's; what it has in backticks is set as code. */
export function Words({ of }: { of: string }) {
  return (
    <>
      {of.split("`").map((part, i) => (i % 2 === 1 ? <code key={`${i}${part}`}>{part}</code> : part))}
    </>
  );
}

/** The same where only text can stand. */
export function plainWords(of: string) {
  return of.replaceAll("`", "");
}
