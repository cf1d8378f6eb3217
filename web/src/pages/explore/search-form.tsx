import { Autocomplete, Button, Checkbox, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { currentTenant } from "../../api/client";
import { tagNames, tagValues } from "../../api/tempo";
import { EMPTY_FORM, formQuery, readForm, type TraceForm } from "../../lib/search-form";
import type { Range } from "../../lib/time";

/** Service, name, duration, error and one attribute, without writing TraceQL. */
export function SearchForm({ query, range, onSearch }: { query: string; range: Range; onSearch: (query: string) => void }) {
  const shown = readForm(query);
  const [form, setForm] = useState<TraceForm>(shown ?? EMPTY_FORM);
  const readable = shown !== undefined;
  useEffect(() => setForm(readForm(query) ?? EMPTY_FORM), [query]);
  const minute = Math.floor(range.to / 60_000);
  const values = (attribute: string, enabled = true) => ({
    queryKey: ["tempo", "values", currentTenant(), attribute, minute],
    queryFn: () => tagValues(attribute, range),
    enabled,
    retry: false,
  });
  const services = useQuery(values("resource.service.name"));
  const names = useQuery(values("name"));
  const tags = useQuery({ queryKey: ["tempo", "tags", currentTenant(), minute], queryFn: () => tagNames(range), retry: false });
  const ofAttribute = useQuery(values(form.attribute, (tags.data ?? []).includes(form.attribute)));
  const texts = (found: { value: string }[] | undefined) => [...new Set((found ?? []).map((one) => one.value).filter(Boolean))].slice(0, 500);
  const set = (part: Partial<TraceForm>) => setForm((was) => ({ ...was, ...part }));
  const submit = (next: TraceForm) => onSearch(formQuery(next));
  const pick = (part: Partial<TraceForm>) => {
    set(part);
    submit({ ...form, ...part });
  };
  return (
    <form
      className="search-form"
      onSubmit={(event) => {
        event.preventDefault();
        submit(form);
      }}
    >
      <Autocomplete size="xs" aria-label="Service" placeholder="service" data={texts(services.data)} value={form.service} onChange={(service) => set({ service })} onOptionSubmit={(service) => pick({ service })} limit={50} />
      <Autocomplete size="xs" aria-label="Span name" placeholder="span name" data={texts(names.data)} value={form.name} onChange={(name) => set({ name })} onOptionSubmit={(name) => pick({ name })} limit={50} />
      <TextInput size="xs" aria-label="Longer than" placeholder="longer than, e.g. 200ms" value={form.minDuration} onChange={(event) => set({ minDuration: event.currentTarget.value })} />
      <Autocomplete size="xs" aria-label="Attribute" placeholder="attribute" data={[...new Set(tags.data ?? [])]} value={form.attribute} onChange={(attribute) => set({ attribute })} limit={50} />
      <Autocomplete size="xs" aria-label="Attribute value" placeholder="value" data={texts(ofAttribute.data)} value={form.value} onChange={(value) => set({ value })} limit={50} />
      <Checkbox size="xs" label="failed only" checked={form.errors} onChange={(event) => pick({ errors: event.currentTarget.checked })} />
      <Button size="compact-sm" variant="default" type="submit">
        Search
      </Button>
      {!readable && <span className="quiet">The query above says more than this form can; searching here replaces it.</span>}
    </form>
  );
}
