import { entityOfLabel } from "../lib/entity";
import { EntityLink } from "./link";

/** `name=value` pairs; values that name an entity lead to it. */
export function LabelList({ labels, hide = [] }: { labels: Record<string, string>; hide?: string[] }) {
  const shown = Object.entries(labels).filter(([name]) => !hide.includes(name) && name !== "__name__");
  if (shown.length === 0) return null;
  return (
    <span className="labels">
      {shown.map(([name, value]) => {
        const entity = entityOfLabel(name, value);
        return (
          <span key={name} className="label">
            <i>{name}</i>
            {entity ? <EntityLink of={entity} mark={false} text={value} /> : <span>{value}</span>}
          </span>
        );
      })}
    </span>
  );
}
