//! `/api/v1/format_query` and `/api/v1/parse_query`.

use std::time::Duration;

use axum::response::Response;
use serde_json::{Value, json};
use weir_promql::{At, Cardinality, Expr, ExprKind, VectorMatching, VectorSelector, format_value, pretty};

use super::answer::{ApiError, Notes, success};
use super::params::Params;

fn parsed(params: &Params) -> Result<Expr, ApiError> {
    weir_promql::parse(params.get("query")).map_err(|e| ApiError::param("query", e))
}

pub(super) async fn format(params: Params) -> Result<Response, ApiError> {
    success(&pretty(&parsed(&params)?), Notes::default())
}

pub(super) async fn parse(params: Params) -> Result<Response, ApiError> {
    success(&tree(&parsed(&params)?), Notes::default())
}

fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(value) => json!({ "type": "numberLiteral", "val": format_value(*value) }),
        ExprKind::String(text) => json!({ "type": "stringLiteral", "val": text }),
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
        ExprKind::Unary { negative, expr } => {
            json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(expr) })
        }
        ExprKind::Vector(selector) => selector_node("vectorSelector", selector, None),
        ExprKind::Matrix(selector, range) => selector_node("matrixSelector", selector, Some(*range)),
        ExprKind::Subquery(sub) => {
            let (timestamp, start_or_end) = at(sub.at);
            json!({
                "type": "subquery",
                "expr": tree(&sub.expr),
                "range": millis(sub.range),
                "offset": sub.offset_ms,
                "step": sub.step.map_or(0, millis),
                "timestamp": timestamp,
                "startOrEnd": start_or_end,
            })
        }
        ExprKind::Call(call) => {
            let function = call.function;
            json!({
                "type": "call",
                "func": {
                    "name": function.name,
                    "argTypes": function.args.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
                    "variadic": function.variadic,
                    "returnType": function.returns.as_str(),
                },
                "args": call.args.iter().map(tree).collect::<Vec<_>>(),
            })
        }
        ExprKind::Aggregate(agg) => json!({
            "type": "aggregation",
            "op": agg.op.as_str(),
            "expr": tree(&agg.expr),
            "param": agg.param.as_ref().map(|p| tree(p)),
            "grouping": agg.grouping,
            "without": agg.without,
        }),
        ExprKind::Binary(b) => json!({
            "type": "binaryExpr",
            "op": b.op.as_str(),
            "lhs": tree(&b.lhs),
            "rhs": tree(&b.rhs),
            "bool": b.return_bool,
            "matching": b.matching.as_ref().map(matching),
        }),
    }
}

fn matching(m: &VectorMatching) -> Value {
    let card = match m.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": { "lhs": m.fill_left, "rhs": m.fill_right },
    })
}

fn selector_node(kind: &str, selector: &VectorSelector, range: Option<Duration>) -> Value {
    let (timestamp, start_or_end) = at(selector.at);
    let matchers: Vec<Value> =
        selector.matchers.iter().map(|m| json!({ "name": m.name, "value": m.value, "type": m.op.as_str() })).collect();
    let mut node = json!({ "type": kind, "name": selector.name.as_deref().unwrap_or("") });
    if let Some(range) = range {
        node["range"] = millis(range).into();
    }
    node["offset"] = selector.offset_ms.into();
    node["matchers"] = matchers.into();
    node["timestamp"] = timestamp;
    node["startOrEnd"] = start_or_end;
    if let Some(extended) = selector.extended {
        node[extended.as_str()] = true.into();
    }
    node
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn at(at: Option<At>) -> (Value, Value) {
    match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(t)) => (t.0.into(), Value::Null),
        Some(At::Start) => (Value::Null, "start".into()),
        Some(At::End) => (Value::Null, "end".into()),
    }
}
