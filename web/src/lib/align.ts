// Series of different times, joined to the one time axis that a chart wants.

export interface ChartSeries {
  name: string;
  /** Unix seconds, ascending. */
  times: number[];
  values: (number | null)[];
  color?: string;
}

export type Joined = [number[], ...(number | null)[][]];

/** One ascending axis with every time of every series; `null` where a series has no value or none that can be drawn. */
export function joinSeries(series: ChartSeries[]): Joined {
  const axis = [...new Set(series.flatMap((one) => one.times))].sort((a, b) => a - b);
  const place = new Map(axis.map((t, i) => [t, i]));
  const columns = series.map((one) => {
    const column: (number | null)[] = new Array(axis.length).fill(null);
    one.times.forEach((t, i) => {
      const value = one.values[i];
      const at = place.get(t);
      if (at !== undefined && value != null && Number.isFinite(value)) column[at] = value;
    });
    return column;
  });
  return [axis, ...withGaps(axis, columns)];
}

/** Fills the places between two values of a series that only other series have, so that its line goes on. */
function withGaps(axis: number[], columns: (number | null)[][]): (number | null)[][] {
  if (columns.length < 2) return columns;
  return columns.map((column) => {
    const known = column.flatMap((value, i) => (value === null ? [] : [i]));
    if (known.length < 2 || known.length === axis.length) return column;
    const steps = known.slice(1).map((at, i) => (axis[at] ?? 0) - (axis[known[i] ?? 0] ?? 0));
    const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0;
    const filled = [...column];
    known.slice(1).forEach((at, i) => {
      const before = known[i] ?? 0;
      if ((steps[i] ?? 0) > usual * 1.5) return;
      const [a, b] = [column[before] ?? 0, column[at] ?? 0];
      for (let j = before + 1; j < at; j++) {
        const part = ((axis[j] ?? 0) - (axis[before] ?? 0)) / (steps[i] ?? 1);
        filled[j] = a + (b - a) * part;
      }
    });
    return filled;
  });
}
