// Colours of series: told apart on both backgrounds, red kept for trouble.
const LIGHT = ["#0b7285", "#5f3dc4", "#2b8a3e", "#d9480f", "#1864ab", "#a61e4d", "#5c940d", "#862e9c", "#e67700", "#495057"];
const DARK = ["#3bc9db", "#9775fa", "#69db7c", "#ff922b", "#4dabf7", "#f783ac", "#a9e34b", "#da77f2", "#ffd43b", "#ced4da"];

export function colorOf(index: number, dark: boolean): string {
  const colors = dark ? DARK : LIGHT;
  return colors[index % colors.length] ?? "#888888";
}

const LEVELS: Record<string, string> = {
  critical: "#a61e4d",
  fatal: "#a61e4d",
  error: "#e03131",
  warn: "#e8890c",
  info: "#2f9e44",
  debug: "#4c6ef5",
  trace: "#868e96",
};

export const levelColor = (level: string): string => LEVELS[level] ?? "#868e96";

/** The same service has the same colour in every trace and list. */
export function colorOfName(name: string, dark: boolean): string {
  let hash = 2166136261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619);
  return colorOf((hash >>> 0) % 9, dark);
}
