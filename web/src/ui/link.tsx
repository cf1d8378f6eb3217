// Links inside the page: no reload, range and tenant kept.
import { type AnchorHTMLAttributes, type MouseEvent, type ReactNode } from "react";
import { type EntityRef, entityPath, kindName, parseEntity } from "../lib/entity";
import { navigate, pageUrl, type Params } from "../lib/url";
import { KindMark } from "./kind";

interface LinkProps extends Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href"> {
  to: string;
  params?: Params;
  children: ReactNode;
}

export function A({ to, params, children, onClick, ...rest }: LinkProps) {
  const href = pageUrl(to, params);
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event);
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    navigate(href);
  };
  return (
    <a href={href} onClick={follow} {...rest}>
      {children}
    </a>
  );
}

/** The name of an entity, or the text that stands for it, leading to its page. */
export function EntityLink({ of, mark = true, text }: { of: EntityRef | string; mark?: boolean; text?: string }) {
  const entity = typeof of === "string" ? parseEntity(of) : of;
  return (
    <A to={entityPath(entity)} className="entity" title={`${kindName(entity.kind)} ${entity.name}`}>
      {mark && <KindMark kind={entity.kind} />}
      <span className="entity-name">{text ?? entity.name}</span>
    </A>
  );
}
