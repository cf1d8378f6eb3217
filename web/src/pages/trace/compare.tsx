// This trace beside another one, or beside what is usual: operations by what they cost here and there.
import { Button, TextInput } from "@mantine/core";
import { useMemo, useState } from "react";
import type { Usual } from "../../api/normal";
import { useTrace } from "../../api/traces";
import { number, seconds } from "../../lib/format";
import { buildTrace, hexId } from "../../lib/trace";
import { type Cost, differences, type Profile, profileOf } from "../../lib/trace-compare";
import { clock } from "../../lib/time";
import { useParam } from "../../lib/url";
import { A, EntityLink } from "../../ui/link";
import { Empty, Load } from "../../ui/state";

/** More rows say nothing more: they differ by next to nothing. */
const ROWS_MAX = 200;

export function Compare({ here, usual }: { here: Profile; usual: { data: Usual | null | undefined; isPending: boolean } }) {
  const [other, setOther] = useParam("with");
  return (
    <>
      <Choose other={other} setOther={setOther} usual={usual.data ?? undefined} />
      {other ? <WithTrace id={other} here={here} /> : <WithUsual here={here} usual={usual} />}
    </>
  );
}

function Choose({ other, setOther, usual }: { other: string; setOther: (id: string) => void; usual?: Usual }) {
  const [typed, setTyped] = useState(other);
  const id = typed.trim().toLowerCase();
  const good = /^[0-9a-f]{16,32}$/.test(id);
  return (
    <form
      className="filters"
      onSubmit={(event) => {
        event.preventDefault();
        if (good) setOther(id);
      }}
    >
      <TextInput size="xs" className="grow" aria-label="Trace to compare with" placeholder="id of another trace" value={typed} onChange={(event) => setTyped(event.currentTarget.value)} error={typed !== "" && !good ? "a trace id is 16 to 32 hex digits" : undefined} />
      <Button size="compact-sm" variant="default" type="submit" disabled={!good}>
        Compare
      </Button>
      {other && (
        <Button size="compact-sm" variant="subtle" onClick={() => (setTyped(""), setOther(""))}>
          With what is usual
        </Button>
      )}
      {usual && (
        <span className="quiet inline-list">
          ordinary ones:
          {usual.examples.slice(0, 3).map((one) => (
            <button key={one.id} type="button" className="linkish" onClick={() => (setTyped(one.id), setOther(one.id))}>
              {clock(one.startMs, true)}, {seconds(one.durationMs / 1000)}
            </button>
          ))}
        </span>
      )}
    </form>
  );
}

function WithUsual({ here, usual }: { here: Profile; usual: { data: Usual | null | undefined; isPending: boolean } }) {
  if (usual.data) return <Table here={here} there={usual.data.profile} title="usually" />;
  if (usual.isPending) return <Empty title="Looking for what is usual …" />;
  return <Empty title="Too few traces of this operation are stored to say what is usual">Another trace can be named by its id above.</Empty>;
}

function WithTrace({ id, here }: { id: string; here: Profile }) {
  const answer = useTrace(hexId(id));
  return (
    <Load of={answer} what={`trace ${id}`}>
      {(raw) => <There raw={raw} id={id} here={here} />}
    </Load>
  );
}

function There({ raw, id, here }: { raw: Parameters<typeof buildTrace>[0]; id: string; here: Profile }) {
  const there = useMemo(() => profileOf(buildTrace(raw)), [raw]);
  if (there.spans === 0) return <Empty title="No span of that trace is stored" />;
  return (
    <>
      <p className="quiet">
        there: <A to={`/trace/${id}`}>trace {id}</A>
      </p>
      <Table here={here} there={there} title="there" />
    </>
  );
}

function Table({ here, there, title }: { here: Profile; there: Profile; title: string }) {
  const rows = useMemo(() => differences(here, there), [here, there]);
  const most = Math.max(1, ...rows.slice(0, 1).map((row) => Math.abs(row.more)));
  return (
    <div className="scroll-x">
      <table className="table compare">
        <thead>
          <tr>
            <th>Operation</th>
            <th className="num wide-only">Spans here</th>
            <th className="num wide-only">{title}</th>
            <th className="num">Own and queue here</th>
            <th className="num">{title}</th>
            <th className="num">Difference</th>
          </tr>
        </thead>
        <tbody>
          <tr className="whole">
            <td>the whole trace</td>
            <td className="num wide-only">{number(here.spans)}</td>
            <td className="num wide-only">{number(there.spans)}</td>
            <td className="num">{seconds(here.duration / 1e9)}</td>
            <td className="num">{seconds(there.duration / 1e9)}</td>
            <td className="num">{signed(here.duration - there.duration)}</td>
          </tr>
          {rows.slice(0, ROWS_MAX).map((row) => (
            <tr key={`${row.service}\n${row.name}`}>
              <td>
                <EntityLink of={{ kind: "service", name: row.service }} /> {row.name}
                {failed(row.here) > failed(row.there) && <small className="text-bad"> {number(failed(row.here))} failed</small>}
              </td>
              <td className="num wide-only">{number(row.here?.calls ?? 0)}</td>
              <td className="num wide-only">{number(row.there?.calls ?? 0)}</td>
              <td className="num">{cost(row.here)}</td>
              <td className="num">{cost(row.there)}</td>
              <td className="num more">
                <i className={row.more > 0 ? "longer" : "shorter"} style={{ width: `${(Math.abs(row.more) / most) * 100}%` }} />
                {signed(row.more)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > ROWS_MAX && <p className="quiet">{rows.length - ROWS_MAX} operations that differ less are left out.</p>}
    </div>
  );
}

const failed = (of: Cost | undefined): number => of?.errors ?? 0;
const cost = (of: Cost | undefined): string => (of ? seconds((of.self + of.queue) / 1e9) : "–");
const signed = (nanos: number): string => (nanos === 0 ? "0 s" : `${nanos > 0 ? "+" : "−"}${seconds(Math.abs(nanos) / 1e9)}`);
