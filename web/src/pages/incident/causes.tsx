import type { Cause, Evidence, Incident } from "../../api/types";
import { percent, withUnit } from "../../lib/format";
import { thingText } from "../../lib/incident";
import { moment, parseIso, type Range } from "../../lib/time";
import { A, EntityLink } from "../../ui/link";
import { Panel, Tag } from "../../ui/panel";
import { Empty } from "../../ui/state";
import { Words } from "../../ui/words";

/** What may have done it, likeliest first, each with what speaks for it. */
export function Causes({ of, window }: { of: Incident; window: Range }) {
  return (
    <Panel title="Ranked causes">
      {of.causes.length === 0 ? (
        <Empty title="Nothing stood out against the minutes before">
          The cause is looked for again every few seconds while the incident is open.
        </Empty>
      ) : (
        <ol className="causes">
          {of.causes.map((cause, i) => (
            <li key={`${cause.service}${cause.kind}${i}`}>
              <CauseRow of={cause} first={i === 0} window={window} />
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}

function CauseRow({ of, first, window }: { of: Cause; first: boolean; window: Range }) {
  const thing = thingText(of);
  const since = parseIso(of.since);
  return (
    <details open={first} className="cause">
      <summary>
        <span className="cause-score">
          <i style={{ width: `${Math.round(Math.min(1, Math.max(0, of.score)) * 100)}%` }} />
          <b>{percent(of.score)}</b>
        </span>
        <EntityLink of={{ kind: "service", name: of.service }} />
        <Tag tone="info">{of.kind}</Tag>
        <span className="cause-text">
          <Words of={of.summary} />
        </span>
      </summary>
      <div className="cause-body">
        {thing && <pre className="thing">{thing}</pre>}
        <div className="quiet">
          {of.instance && (
            <>
              instance <EntityLink of={{ kind: "instance", name: of.instance }} mark={false} />{" "}
            </>
          )}
          {since !== undefined && <>since {moment(since, Date.now())}</>}
        </div>
        <ul className="rows">
          {of.evidence.map((one) => (
            <li key={one.text}>
              <Tag tone="idle">{one.signal}</Tag>
              <div className="grow">
                <Words of={one.text} />
                <BeforeAfter of={one} />
              </div>
              <span className="evidence-links">
                {one.links.map((link) => (
                  <A key={link.url} to={link.url} params={link.url.includes("from=") ? {} : { from: window.from, to: window.to }}>
                    {link.title}
                  </A>
                ))}
              </span>
            </li>
          ))}
        </ul>
      </div>
    </details>
  );
}

function BeforeAfter({ of }: { of: Evidence }) {
  if (of.before === undefined || of.before === null || of.during === undefined || of.during === null) return null;
  return (
    <span className="before-after">
      {withUnit(of.before, of.unit)} <span aria-label="became">→</span> <b>{withUnit(of.during, of.unit)}</b>
    </span>
  );
}
