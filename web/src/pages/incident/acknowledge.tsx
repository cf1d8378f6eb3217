// Who is on it: said once with a name, which the browser remembers, and seen by everybody who opens the incident.
import { Button, Popover, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";

export const NAME_KEY = "weir.name";

/** `path`: of the incident or the page; `again`: somebody is on it already. */
export function Acknowledge({ path, again }: { path: string; again: boolean }) {
  const client = useQueryClient();
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState(() => localStorage.getItem(NAME_KEY) ?? "");
  const [comment, setComment] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  // The name may have been given elsewhere on the page meanwhile.
  const open = () => {
    setName(name || (localStorage.getItem(NAME_KEY) ?? ""));
    setOpened(!opened);
  };
  const send = async () => {
    setBusy(true);
    setFailure(undefined);
    try {
      await post(path, { by: name.trim(), comment: comment.trim() });
      localStorage.setItem(NAME_KEY, name.trim());
      await client.invalidateQueries({ queryKey: ["weir"] });
      setOpened(false);
      setComment("");
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Popover opened={opened} onChange={setOpened} position="bottom-start" shadow="md" trapFocus width={300}>
      <Popover.Target>
        <Button size="sm" color="teal" variant={again ? "default" : "filled"} onClick={open}>
          {again ? "Take over" : "Acknowledge"}
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            void send();
          }}
        >
          <TextInput label="Your name" value={name} onChange={(event) => setName(event.currentTarget.value)} maxLength={80} required data-autofocus />
          <TextInput label="What you are doing" placeholder="optional" value={comment} onChange={(event) => setComment(event.currentTarget.value)} maxLength={1000} />
          {failure && <p className="text-bad">{failure}</p>}
          <Button type="submit" size="sm" color="teal" loading={busy} disabled={name.trim() === ""}>
            I am on it
          </Button>
        </form>
      </Popover.Dropdown>
    </Popover>
  );
}
