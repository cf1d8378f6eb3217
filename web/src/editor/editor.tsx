// A one-query editor: CodeMirror with the page's colours. Enter runs, Shift-Enter breaks the line.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { type Extension, Prec } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";

interface EditorProps {
  value: string;
  onRun: (query: string) => void;
  onChange?: (query: string) => void;
  language: () => Extension;
  hint: string;
  label: string;
}

// Colours are CSS variables, so that one style serves dark and light.
const highlight = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "var(--code-keyword)" },
  { tag: tags.function(tags.variableName), color: "var(--code-function)" },
  { tag: [tags.labelName, tags.propertyName], color: "var(--code-label)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool], color: "var(--code-number)" },
  { tag: [tags.comment, tags.lineComment], color: "var(--dim)", fontStyle: "italic" },
  { tag: tags.operator, color: "var(--code-operator)" },
  { tag: tags.invalid, textDecoration: "underline wavy var(--bad)" },
]);

const look = EditorView.theme({
  "&": { fontSize: "13px", backgroundColor: "transparent" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { fontFamily: "var(--mono)", padding: "7px 0", caretColor: "var(--ink)" },
  ".cm-line": { padding: "0 10px" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-placeholder": { color: "var(--dim)" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "4px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "#fff" },
  ".cm-completionDetail": { color: "var(--dim)", fontStyle: "normal", marginLeft: "1em" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "700" },
  ".cm-matchingBracket": { backgroundColor: "var(--hover) !important" },
  ".cm-selectionBackground, &.cm-focused .cm-selectionBackground": { backgroundColor: "var(--select) !important" },
});

export default function Editor({ value, onRun, onChange, language, hint, label }: EditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | undefined>(undefined);
  const current = useRef({ onRun, onChange });
  current.current = { onRun, onChange };

  useEffect(() => {
    if (!host.current) return;
    const run = (editor: EditorView) => {
      current.current.onRun(editor.state.doc.toString());
      return true;
    };
    const editor = new EditorView({
      parent: host.current,
      doc: value,
      extensions: [
        history(),
        language(),
        syntaxHighlighting(highlight),
        bracketMatching(),
        closeBrackets(),
        autocompletion({ icons: false, maxRenderedOptions: 60 }),
        Prec.high(keymap.of([{ key: "Mod-Enter", run }])),
        keymap.of([...completionKeymap, ...closeBracketsKeymap]),
        // After completion, whose Enter takes the chosen word.
        keymap.of([{ key: "Enter", run }]),
        keymap.of([...defaultKeymap, ...historyKeymap]),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": label }),
        placeholder(hint),
        look,
        EditorView.updateListener.of((update) => {
          if (update.docChanged) current.current.onChange?.(update.state.doc.toString());
        }),
      ],
    });
    view.current = editor;
    return () => editor.destroy();
  }, [language, hint, label]);

  // A query that changes from outside (back button, a pivot) replaces the text.
  useEffect(() => {
    const editor = view.current;
    if (!editor || editor.state.doc.toString() === value) return;
    editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
  }, [value]);

  return <div ref={host} className="editor" />;
}
