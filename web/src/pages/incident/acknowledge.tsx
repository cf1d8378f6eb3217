// Who is on it: said once with a name, which the browser remembers, and seen by everybody who opens the incident.
import { Button, Popover, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import type { Incident } from "../../api/types";
import { acknowledgePath } from "../../api/weir";

const NAME_KEY = "weir.name";

export function Acknowledge({ of }: { of: Incident }) {
  const client = useQueryClient();
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState(() => localStorage.getItem(NAME_KEY) ?? "");
  const [comment, setComment] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  if (of.state === "resolved") return null;
  const send = async () => {
    setBusy(true);
    setFailure(undefined);
    try {
      await post(acknowledgePath(of.id), { by: name.trim(), comment: comment.trim() });
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
        <Button size="sm" color="teal" variant={of.acknowledged ? "default" : "filled"} onClick={() => setOpened(!opened)}>
          {of.acknowledged ? "Take over" : "Acknowledge"}
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
