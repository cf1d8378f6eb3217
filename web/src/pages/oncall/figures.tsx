// What pages cost over four weeks, and whether anybody acted upon them.
import type { Counted } from "../../api/types";
import { useFigures } from "../../api/weir";
import { percent } from "../../lib/format";
import { span } from "../../lib/time";
import { Panel } from "../../ui/panel";
import { Empty, Load } from "../../ui/state";

const time = (seconds: number | null): string => (seconds === null ? "–" : span(seconds * 1000));
const share = (part: number | null): string => (part === null ? "–" : percent(part));

export function Cost() {
  const figures = useFigures();
  return (
    <Panel title="Four weeks of pages">
      <Load of={figures} what="the figures of pages">
        {({ all, by_rule, by_person, by_night }) =>
          all.pages === 0 ? (
            <Empty title="No page in four weeks" />
          ) : (
            <>
              <dl className="figures">
                <Figure name="pages" value={String(all.pages)} />
                <Figure name="at night" value={String(all.at_night)} bad={all.at_night > 0} />
                <Figure name="to acknowledge, mean" value={time(all.mtta_seconds)} />
                <Figure name="to resolve, mean" value={time(all.mttr_seconds)} />
                <Figure name="acted upon" value={share(all.acted_upon)} />
                <Figure name="chains exhausted" value={String(all.exhausted)} bad={all.exhausted > 0} />
              </dl>
              <div className="slo-tables">
                <Table name="rule" rows={by_rule} />
                <Table name="person" rows={by_person} />
                <Table name="night" rows={by_night} />
              </div>
            </>
          )
        }
      </Load>
    </Panel>
  );
}

function Figure({ name, value, bad = false }: { name: string; value: string; bad?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className={bad ? "text-warn" : undefined}>{value}</dd>
    </div>
  );
}

function Table({ name, rows }: { name: string; rows: Counted[] }) {
  if (rows.length === 0) return null;
  const sorted = [...rows].sort((a, b) => b.pages - a.pages || b.name.localeCompare(a.name));
  return (
    <table className="table">
      <caption>By {name}</caption>
      <thead>
        <tr>
          <th>{name}</th>
          <th className="num">pages</th>
          <th className="num">at night</th>
          <th className="num">acted upon</th>
          <th className="num">to acknowledge</th>
        </tr>
      </thead>
      <tbody>
        {sorted.slice(0, 20).map((one) => (
          <tr key={one.name}>
            <td>{one.name}</td>
            <td className="num">{one.pages}</td>
            <td className="num">{one.at_night}</td>
            <td className="num">{share(one.acted_upon)}</td>
            <td className="num">{time(one.mtta_seconds)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
