// LogQL in the editor: colours, and completion of labels, values, stages and functions.
import { type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { LanguageSupport, LRLanguage } from "@codemirror/language";
import type { Extension } from "@codemirror/state";
import { parser } from "@grafana/lezer-logql";
import { styleTags, tags } from "@lezer/highlight";
import { labelNames, labelValues } from "../api/loki";
import { logContext } from "../lib/complete";
import { currentRange } from "../lib/range";

const language = LRLanguage.define({
  name: "logql",
  parser: parser.configure({
    props: [
      styleTags({
        LineComment: tags.lineComment,
        String: tags.string,
        "Number Duration Bytes": tags.number,
        "Matcher/Identifier LabelName": tags.labelName,
        "Json Logfmt Unpack Pattern Regexp Unwrap LabelFormat LineFormat Decolorize Drop Keep Offset": tags.keyword,
        "By Without On Ignoring GroupLeft GroupRight Bool": tags.modifier,
        "And Or Unless": tags.operatorKeyword,
        "Sum Avg Count Max Min Stddev Stdvar Bottomk Topk Sort Sort_Desc Vector LabelReplace": tags.function(tags.variableName),
        "CountOverTime Rate RateCounter BytesOverTime BytesRate AvgOverTime SumOverTime MinOverTime MaxOverTime": tags.function(tags.variableName),
        "StddevOverTime StdvarOverTime QuantileOverTime FirstOverTime LastOverTime AbsentOverTime": tags.function(tags.variableName),
        "PipeExact PipeMatch PipePattern Npa Pipe Eq Neq Re Nre Gtr Gte Lss Lte Eql": tags.operator,
        Identifier: tags.variableName,
        "⚠": tags.invalid,
      }),
    ],
  }),
});

async function complete(context: CompletionContext): Promise<CompletionResult | null> {
  const before = context.state.sliceDoc(0, context.pos);
  const at = logContext(before);
  if (!at || (at.word === "" && !context.explicit && at.kind !== "value" && at.kind !== "label")) return null;
  const from = context.pos - at.word.length;
  try {
    switch (at.kind) {
      case "label":
        return { from, options: (await labelNames(currentRange())).map((label) => ({ label, type: "property", apply: label })), validFor: /^\w*$/ };
      case "value":
        return {
          from,
          options: (await labelValues(at.label, at.selector, currentRange())).map((label) => ({ label, type: "text" })),
          validFor: /^[^"`]*$/,
        };
      case "stage":
        return { from, options: STAGES, validFor: /^\w*$/ };
      case "function":
        return { from, options: FUNCTIONS, validFor: /^\w*$/ };
    }
  } catch {
    // Completion is a comfort: without an answer one types by hand.
    return null;
  }
}

const STAGES = [
  ["json", "fields of a JSON line"],
  ["logfmt", "fields of a key=value line"],
  ["pattern", 'fields by "<a> <b>"'],
  ["regexp", "fields by named groups"],
  ["unwrap", "a field as the number to add up"],
  ["line_format", "another text for the line"],
  ["label_format", "rename or compute a field"],
  ["drop", "leave fields out"],
  ["keep", "only these fields"],
  ["detected_level", "filter by level"],
].map(([label, detail]) => ({ label: label ?? "", detail, type: "keyword" }));

const FUNCTIONS = [
  "sum", "avg", "min", "max", "count", "topk", "bottomk", "rate", "count_over_time", "bytes_rate", "bytes_over_time",
  "absent_over_time", "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "quantile_over_time",
  "first_over_time", "last_over_time", "label_replace",
].map((label) => ({ label, type: "function", apply: `${label}(` }));

export const logql = (): Extension => new LanguageSupport(language, language.data.of({ autocomplete: complete }));
