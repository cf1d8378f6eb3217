import type { Slo } from "../../api/types";
import { percent, seconds } from "../../lib/format";
import { ago, parseIso } from "../../lib/time";
import { Tag, toneOfState } from "../../ui/panel";

/** Past this, a page for the most important tier is late. */
const T1_SECONDS = 60;

/** How long from the first bad event to the page, and where the time goes. */
export function PageTimes({ of }: { of: Slo }) {
  return (
    <table className="table page-times">
      <caption>Time to page</caption>
      <thead>
        <tr>
          <th>errors</th>
          <th className="num">in all</th>
          <th className="num">window</th>
          <th className="num">scrape</th>
          <th className="num">evaluation</th>
          <th className="num">group wait</th>
        </tr>
      </thead>
      <tbody>
        {of.page_times.map((one) => {
          const isLate = of.tier === "T1" && (one.total_seconds ?? Infinity) > T1_SECONDS;
          return (
            <tr key={one.ratio}>
              <td>{percent(one.ratio)}</td>
              <td className={`num ${isLate ? "text-warn" : ""}`} title={isLate ? `more than ${T1_SECONDS} s is late for T1: pair it with a fast alert on the symptom` : undefined}>
                {one.total_seconds === null ? "never" : seconds(one.total_seconds)}
              </td>
              <td className="num">{one.window_seconds === null ? "–" : seconds(one.window_seconds)}</td>
              <td className="num">{seconds(one.scrape_seconds)}</td>
              <td className="num">{seconds(one.evaluation_seconds)}</td>
              <td className="num">{seconds(one.group_wait_seconds)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** The pairs of windows that alert, and what each says now. */
export function Windows({ of, now }: { of: Slo; now: number }) {
  return (
    <table className="table">
      <caption>Burn alerts</caption>
      <thead>
        <tr>
          <th>severity</th>
          <th className="num">faster than</th>
          <th className="num">over</th>
          <th className="num">and over</th>
          <th className="num">errors above</th>
          <th>now</th>
        </tr>
      </thead>
      <tbody>
        {of.windows.map((one) => {
          const alert = of.alerts.find((a) => a.severity === one.severity && a.window === window(one.long_seconds));
          return (
            <tr key={`${one.severity}${one.long_seconds}`}>
              <td>{one.severity}</td>
              <td className="num">{one.factor}×</td>
              <td className="num">{window(one.long_seconds)}</td>
              <td className="num">{window(one.short_seconds)}</td>
              <td className="num">{percent(one.threshold)}</td>
              <td>
                {alert ? (
                  <>
                    <Tag tone={toneOfState(alert.state)}>{alert.state}</Tag> {ago(parseIso(alert.since) ?? now, now)}
                  </>
                ) : (
                  <span className="quiet">quiet</span>
                )}
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** As the alert's label writes it: `5m`, `6h`, `3d`. */
function window(length: number): string {
  for (const [size, unit] of [[86_400, "d"], [3600, "h"], [60, "m"]] as const) {
    if (length >= size && length % size === 0) return `${length / size}${unit}`;
  }
  return `${length}s`;
}
