// Colours of series: told apart on both backgrounds, red kept for trouble.
const LIGHT = ["#0b7285", "#7048e8", "#2b8a3e", "#a06000", "#1c7ed6", "#a61e4d", "#66a80f", "#495057", "#c2255c", "#087f5b"];
const DARK = ["#3bc9db", "#9775fa", "#69db7c", "#ffd43b", "#74a9ff", "#f783ac", "#c0eb75", "#ced4da", "#e599f7", "#38d9a9"];

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
