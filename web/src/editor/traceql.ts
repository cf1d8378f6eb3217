// TraceQL in the editor: colours, and completion of attributes, their values and stages.
import { type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { LanguageSupport, LRLanguage } from "@codemirror/language";
import type { Extension } from "@codemirror/state";
import { parser } from "@grafana/lezer-traceql";
import { styleTags, tags } from "@lezer/highlight";
import { tagNames, tagValues } from "../api/tempo";
import { traceContext } from "../lib/complete";
import { currentRange } from "../lib/range";

const language = LRLanguage.define({
  name: "traceql",
  parser: parser.configure({
    props: [
      styleTags({
        "LineComment BlockComment": tags.lineComment,
        String: tags.string,
        "Integer Float Duration": tags.number,
        "Identifier AttributeField": tags.labelName,
        "Resource Span Event Link Instrumentation Parent": tags.modifier,
        IntrinsicField: tags.propertyName,
        Static: tags.bool,
        "Aggregate MetricsOperationBasicType MetricsOverTimeType MetricsAggregatorFunctionType MetricsOperationQuantileArgsType": tags.function(tags.variableName),
        "With GroupOperation SelectOperation CoalesceOperation MetricsOperationQuantile MetricsOperationHistogram": tags.keyword,
        "And Or Pipe FieldOp ComparisonOp ScalarOp Gt Desc Lt Anc ExperimentalOp UnionStructuralOp": tags.operator,
        "⚠": tags.invalid,
      }),
    ],
  }),
});

async function complete(context: CompletionContext): Promise<CompletionResult | null> {
  const at = traceContext(context.state.sliceDoc(0, context.pos));
  if (!at || (at.word === "" && !context.explicit && at.kind !== "value")) return null;
  const from = context.pos - at.word.length;
  try {
    switch (at.kind) {
      case "attribute":
        return { from, options: (await tagNames(currentRange())).map((label) => ({ label, type: "property" })), validFor: /^[\w.:]*$/ };
      case "value":
        return {
          from,
          options: (await tagValues(at.attribute, currentRange())).map(({ value, type }) => {
            const text = type === "string" && !at.quoted ? JSON.stringify(value) : value;
            return { label: text, type: "text" };
          }),
        };
      case "stage":
        return { from, options: STAGES, validFor: /^\w*$/ };
    }
  } catch {
    // Completion is a comfort: without an answer one types by hand.
    return null;
  }
}

const STAGES = ["rate()", "count_over_time()", "quantile_over_time(duration, .99)", "avg_over_time(duration)", "max_over_time(duration)", "histogram_over_time(duration)", "count()", "avg(duration)", "max(duration)", "select(", "by("].map((label) => ({ label, type: "function" }));

export const traceql = (): Extension => new LanguageSupport(language, language.data.of({ autocomplete: complete }));
