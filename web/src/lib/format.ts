// Numbers as a tired person reads them: three digits, a unit, no exponent.

function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return trim(value.toFixed(1));
  if (size >= 0.01) return trim(value.toFixed(2));
  return value.toPrecision(2).replace(/e([+-]\d+)$/, "e$1");
}

const trim = (text: string) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** `1.24 k`, `3.1 M`; values under 10,000 stay as they are. */
export function number(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  const size = Math.abs(value);
  if (size >= 1e12) return `${digits(value / 1e12)} T`;
  if (size >= 1e9) return `${digits(value / 1e9)} G`;
  if (size >= 1e6) return `${digits(value / 1e6)} M`;
  if (size >= 1e4) return `${digits(value / 1e3)} k`;
  return digits(value);
}

/** A duration given in seconds: `340 µs`, `12.4 ms`, `3.2 s`, `4 min 10 s`. */
export function seconds(value: number): string {
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return number(value);
  if (size === 0) return "0 s";
  if (size < 1e-6) return `${digits(value * 1e9)} ns`;
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (size < 172_800) return `${digits(value / 3600)} h`;
  return `${digits(value / 86_400)} d`;
}

export const milliseconds = (value: number): string => seconds(value / 1000);

/** `1.4 MiB`. */
export function bytes(value: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let rest = value;
  let at = 0;
  while (Math.abs(rest) >= 1024 && at < names.length - 1) {
    rest /= 1024;
    at += 1;
  }
  return `${digits(rest)} ${names[at]}`;
}

export const rate = (value: number): string => `${number(value)}/s`;

export const percent = (ratio: number): string => {
  const value = ratio * 100;
  if (value !== 0 && Math.abs(value) < 0.1) return `${value.toFixed(2)} %`;
  return `${trim(value.toFixed(Math.abs(value) >= 99 && Math.abs(value) < 100 ? 2 : 1))} %`;
};

/** Formats a value by the unit that the server names; units unknown here are appended. */
export function withUnit(value: number, unit: string | undefined): string {
  switch (unit) {
    case undefined:
    case "":
    case "1":
    case "count":
      return number(value);
    case "s":
    case "seconds":
      return seconds(value);
    case "ms":
    case "milliseconds":
      return milliseconds(value);
    case "ratio":
    case "percentunit":
      return percent(value);
    case "%":
    case "percent":
      return percent(value / 100);
    case "B":
    case "By":
    case "bytes":
      return bytes(value);
    case "B/s":
    case "bytes/s":
      return `${bytes(value)}/s`;
    case "/s":
    case "1/s":
    case "per_second":
    case "ops":
      return rate(value);
    default:
      return unit.startsWith("/") || unit.endsWith("/s") ? `${number(value)} ${unit}` : `${number(value)} ${unit}`;
  }
}
