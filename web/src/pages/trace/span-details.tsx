import type { LogLine } from "../../api/loki";
import { entityOfLabel } from "../../lib/entity";
import { seconds } from "../../lib/format";
import { messageOf } from "../../lib/logs";
import { quote, pivotsOf, tracesPath } from "../../lib/pivot";
import type { Span, Trace } from "../../lib/trace";
import { clock } from "../../lib/time";
import { A, EntityLink } from "../../ui/link";
import { Tag } from "../../ui/panel";

/** Everything one span says, what matters first. */
export function SpanDetails({ of, trace, id, lines }: { of: Span; trace: Trace; id: string; lines: LogLine[] }) {
  const startMs = trace.startMs + of.start / 1e6;
  const around = { from: Math.floor(startMs - 120_000), to: Math.ceil(startMs + of.duration / 1e6 + 120_000) };
  const to = pivotsOf({ ...of.attributes, service_name: of.service });
  const topic = of.attributes["messaging.destination.name"];
  return (
    <div className="span-details">
      <h3>{of.name}</h3>
      <div className="span-links">
        <EntityLink of={{ kind: "service", name: of.service }} />
        {topic && <EntityLink of={{ kind: "topic", name: topic }} />}
        <Tag tone="idle">{of.kind}</Tag>
        {of.error && <Tag tone="bad">failed</Tag>}
      </div>
      {of.error && of.statusMessage && <pre className="thing text-bad">{of.statusMessage}</pre>}
      <dl className="facts">
        <dt>took</dt>
        <dd>{seconds(of.duration / 1e9)}</dd>
        <dt>of its own</dt>
        <dd>{seconds(of.self / 1e9)}</dd>
        <dt>began after</dt>
        <dd>{seconds(of.start / 1e9)}</dd>
        {of.inBroker !== undefined && (
          <>
            <dt>in the broker</dt>
            <dd>{seconds(of.inBroker / 1e9)}</dd>
          </>
        )}
      </dl>
      <div className="log-links">
        {to.metrics && (
          <A to={to.metrics} params={around}>
            Metrics of {of.service}
          </A>
        )}
        {to.logs && (
          <A to={to.logs} params={around}>
            Its logs then
          </A>
        )}
        <A to={tracesPath(`{ resource.service.name = ${quote(of.service)} && name = ${quote(of.name)} }`)} params={around}>
          Spans like this
        </A>
      </div>
      {lines.length > 0 && (
        <div className="span-lines">
          {lines.slice(0, 20).map((line, i) => (
            <p key={`${line.ns}${i}`}>
              <time>{clock(line.at, true)}</time> {messageOf(line.line) ?? line.line}
            </p>
          ))}
        </div>
      )}
      {of.events.map((event, i) => (
        <Fields key={`${event.at}${i}`} title={`event ${event.name}, after ${seconds((event.at - of.start) / 1e9)}`} of={event.attributes} />
      ))}
      <Fields title="attributes" of={of.attributes} />
      <Fields title="resource" of={of.resource} />
      {of.links.filter((link) => link.trace).map((link) => (
        <p key={link.span}>
          linked to <A to={`/trace/${link.trace}`} params={{ span: link.span }}>{link.trace === id ? `span ${link.span}` : `trace ${link.trace}`}</A>
        </p>
      ))}
      <p className="quiet">
        span {of.id}
        {of.scope && `, by ${of.scope}`}
      </p>
    </div>
  );
}

function Fields({ title, of }: { title: string; of: Record<string, string> }) {
  const entries = Object.entries(of);
  if (entries.length === 0) return null;
  return (
    <table className="fields">
      <caption>{title}</caption>
      <tbody>
        {entries.map(([name, value]) => {
          const entity = entityOfLabel(name, value);
          return (
            <tr key={name}>
              <th>{name}</th>
              <td>{entity ? <EntityLink of={entity} /> : value}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
