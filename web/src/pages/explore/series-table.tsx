import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import type { Series } from "../../api/prom";
import { number } from "../../lib/format";
import { pivotsOf } from "../../lib/pivot";
import type { Range } from "../../lib/time";
import { A } from "../../ui/link";
import { LabelList } from "../../ui/labels";
import { Panel } from "../../ui/panel";

/** Every series with its last, smallest and largest value in the range. */
export function SeriesTable({ series, range }: { series: Series[]; range: Range }) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: series.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 30,
    overscan: 12,
  });
  return (
    <Panel title={`${series.length} series`}>
      <div ref={scroller} className="virtual series-table" style={{ height: Math.min(420, rows.getTotalSize() + 2) }}>
        <div style={{ height: rows.getTotalSize(), position: "relative" }}>
          {rows.getVirtualItems().map((item) => {
            const one = series[item.index];
            if (!one) return null;
            const finite = one.values.filter(Number.isFinite);
            const to = pivotsOf(one.labels, range);
            return (
              <div key={item.key} ref={rows.measureElement} data-index={item.index} className="series-row" style={{ transform: `translateY(${item.start}px)` }}>
                <div className="series-labels">
                  {one.labels.__name__ && <b>{one.labels.__name__}</b>}
                  <LabelList labels={one.labels} />
                </div>
                <div className="series-numbers">
                  <span title="smallest">{finite.length ? number(Math.min(...finite)) : "–"}</span>
                  <span title="largest">{finite.length ? number(Math.max(...finite)) : "–"}</span>
                  <b title="last">{number(one.values.at(-1) ?? Number.NaN)}</b>
                </div>
                <div className="series-links">
                  {to.logs && <A to={to.logs}>logs</A>}
                  {to.traces && <A to={to.traces}>traces</A>}
                </div>
              </div>
            );
          })}
        </div>
      </div>
    </Panel>
  );
}
