// The search form for traces is only another way to write TraceQL.
import { quote } from "./pivot";

export interface TraceForm {
  service: string;
  name: string;
  minDuration: string;
  errors: boolean;
  attribute: string;
  value: string;
}

export const EMPTY_FORM: TraceForm = { service: "", name: "", minDuration: "", errors: false, attribute: "", value: "" };

export function formQuery(form: TraceForm): string {
  const parts: string[] = [];
  if (form.service) parts.push(`resource.service.name = ${quote(form.service)}`);
  if (form.name) parts.push(`name = ${quote(form.name)}`);
  if (form.minDuration.trim()) parts.push(`duration > ${/^\d+(\.\d+)?$/.test(form.minDuration.trim()) ? `${form.minDuration.trim()}ms` : form.minDuration.trim()}`);
  if (form.errors) parts.push("status = error");
  if (form.attribute && form.value) parts.push(`${scoped(form.attribute)} = ${literal(form.value)}`);
  return parts.length ? `{ ${parts.join(" && ")} }` : "{}";
}

const scoped = (name: string): string => (/^(resource|span|event|link|instrumentation|parent)\.|^\.|^[\w]+:/.test(name) ? name : `.${name}`);

/** Numbers, booleans and durations stand bare; everything else is a string. */
const literal = (value: string): string => (/^(-?\d+(\.\d+)?(ns|us|ms|s|m|h)?|true|false)$/.test(value) ? value : quote(value));

/** The form that a query was written by; `undefined` for queries that it cannot show. */
export function readForm(query: string): TraceForm | undefined {
  const body = /^\{(.*)\}$/s.exec(query.trim())?.[1]?.trim();
  if (body === undefined) return query.trim() === "" ? { ...EMPTY_FORM } : undefined;
  const form = { ...EMPTY_FORM };
  if (body === "" || body === "true") return form;
  for (const part of body.split(/\s*&&\s*/)) {
    const match = /^([\w.:]+)\s*(=|>)\s*(?:"([^"\\]*)"|(\S+))$/.exec(part.trim());
    if (!match) return undefined;
    const [, name = "", op, text, bare] = match;
    const value = text ?? bare ?? "";
    if (op === ">" && name === "duration") form.minDuration = value;
    else if (op !== "=") return undefined;
    else if (name === "resource.service.name") form.service = value;
    else if (name === "name") form.name = value;
    else if (name === "status" && value === "error") form.errors = true;
    else if (form.attribute === "") [form.attribute, form.value] = [name, value];
    else return undefined;
  }
  return form;
}
