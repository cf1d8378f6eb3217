import { useComputedColorScheme } from "@mantine/core";
import type { ChartSeries, Joined } from "../lib/align";
import { withUnit } from "../lib/format";
import { colorOf } from "../lib/palette";

interface LegendProps {
  series: ChartSeries[];
  data: Joined;
  cursor: number | null;
  unit?: string;
  alone?: number;
  onAlone: (index: number | undefined) => void;
}

/** Names with the value under the cursor, else the last one. A click shows one series alone. */
export function Legend({ series, data, cursor, unit, alone, onAlone }: LegendProps) {
  const dark = useComputedColorScheme("light") === "dark";
  const shown = series.slice(0, 24);
  return (
    <div className="legend">
      {shown.map((one, i) => {
        const column = data[i + 1] ?? [];
        const value = cursor === null ? last(column) : column[cursor];
        return (
          <button
            type="button"
            key={`${i}${one.name}`}
            className={alone === undefined || alone === i ? "" : "dimmed"}
            onClick={() => onAlone(alone === i ? undefined : i)}
            title={one.name}
          >
            <i style={{ background: one.color ?? colorOf(i, dark) }} />
            <span>{one.name}</span>
            <b>{value == null ? "–" : withUnit(value, unit)}</b>
          </button>
        );
      })}
      {series.length > shown.length && <span className="more">and {series.length - shown.length} more</span>}
    </div>
  );
}

function last(column: (number | null)[]): number | null | undefined {
  for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return column[i];
  return undefined;
}
