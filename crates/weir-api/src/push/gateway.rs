//! `/metrics/job/<job>/<label>/<value>…`: the Pushgateway's way in, for jobs that end before a scrape.
//!
//! Source: prometheus/pushgateway README, "API" and "Put the base64 in the URL".

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use weir_collect::pushed::{PushError, PushMode};
use weir_ingest::exposition::Format;
use weir_ingest::{Protocol, SenderRef, decompress};
use weir_model::Labels;
use weir_model::sink::{Refused, RefusedReason, WriteError};

use super::request::{Gate, Push};
use crate::App;
use crate::tenant::Tenant;

/// Of values in a path: URL-safe, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub async fn merge(state: State<Arc<App>>, gate: Extension<Gate>, path: Path<String>, push: Push) -> Response {
    write(state, gate, path, push, PushMode::Families).await
}

pub async fn replace(state: State<Arc<App>>, gate: Extension<Gate>, path: Path<String>, push: Push) -> Response {
    write(state, gate, path, push, PushMode::Group).await
}

pub async fn delete(State(app): State<Arc<App>>, Tenant(tenant): Tenant, Path(path): Path<String>) -> Response {
    let grouping = match grouping(&path) {
        Ok(grouping) => grouping,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let done = tokio::task::spawn_blocking(move || {
        let batch = match app.pushed.delete(&tenant, &grouping, app.clock.now()) {
            Ok(batch) => batch,
            Err(error) => return failed(&error),
        };
        let sender = SenderRef::new(Protocol::Internal, "pushed metrics", "weir");
        match app.ingest.write_metrics(&tenant, &sender, batch) {
            Ok(_) => StatusCode::ACCEPTED.into_response(),
            Err(error) => unavailable(&error),
        }
    });
    done.await.unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response())
}

async fn write(
    State(app): State<Arc<App>>,
    Extension(gate): Extension<Gate>,
    Path(path): Path<String>,
    push: Push,
    mode: PushMode,
) -> Response {
    let bad = |text: String| (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response();
    let grouping = match grouping(&path) {
        Ok(grouping) => grouping,
        Err(text) => return bad(text),
    };
    let encoding = match push.encoding() {
        Ok(encoding) => encoding,
        Err(name) => return bad(format!("unsupported Content-Encoding `{name}`; use gzip, snappy or zstd")),
    };
    // Without a type it is text, as curl and scripts send it.
    let format = Format::of_content_type(push.header(&CONTENT_TYPE)).unwrap_or(Format::Text);
    let sender = push.sender(Protocol::Pushgateway);
    let body = match push.body {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let tenant = push.tenant;
    let done = gate.run(move || {
        let plain = decompress(encoding, &body, app.ingest.limits().body_bytes_max);
        let kept = plain
            .map_err(|e| e.to_string())
            .map(|plain| app.pushed.push(&tenant, &grouping, (&plain, format), mode, app.clock.now()));
        let batch = match kept {
            Ok(Ok(batch)) => batch,
            Ok(Err(error @ (PushError::Full | PushError::State(_)))) => return failed(&error),
            Ok(Err(PushError::Bad(reason))) | Err(reason) => {
                let answer = (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response();
                let refused = Refused { reason: RefusedReason::Malformed, example: reason, count: 1 };
                app.ingest.note_undecodable(&tenant, &sender, refused);
                return answer;
            }
        };
        match app.ingest.write_metrics(&tenant, &sender, batch) {
            Ok(_) => StatusCode::OK.into_response(),
            Err(error) => unavailable(&error),
        }
    });
    done.await.unwrap_or_else(|text| (StatusCode::INTERNAL_SERVER_ERROR, text).into_response())
}

fn failed(error: &PushError) -> Response {
    let status = match error {
        PushError::Bad(_) => StatusCode::BAD_REQUEST,
        PushError::Full => StatusCode::TOO_MANY_REQUESTS,
        PushError::State(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n")).into_response()
}

fn unavailable(error: &WriteError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}

/// `job/nightly/table@base64/b3JkZXJz` to labels; the value of a name with `@base64` is base64, `=` is
/// an empty one.
fn grouping(path: &str) -> Result<Labels, String> {
    let mut parts = path.split('/');
    let mut pairs: Vec<(String, String)> = Vec::new();
    while let Some(name) = parts.next() {
        let (name, encoded) = name.strip_suffix("@base64").map_or((name, false), |name| (name, true));
        let Some(value) = parts.next() else {
            return Err(format!("label `{name}` of the path has no value; push to /metrics/job/<job>/<label>/<value>"));
        };
        let value = if encoded {
            let bytes = BASE64.decode(value.trim_end_matches('=')).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| format!("the value of `{name}@base64` is no base64 of UTF-8"))?
        } else {
            value.to_owned()
        };
        if pairs.is_empty() && (name != "job" || value.is_empty()) {
            return Err("the path of a push begins with job/<job>".to_owned());
        }
        if name.is_empty() || name.starts_with("__") || pairs.iter().any(|(known, _)| known == name) {
            return Err(format!("label `{name}` of the path stands twice, is empty or is reserved"));
        }
        pairs.push((name.to_owned(), value));
    }
    Ok(Labels::from_pairs(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            ("job/nightly", Ok("{job=\"nightly\"}")),
            ("job/nightly/table/orders", Ok("{job=\"nightly\", table=\"orders\"}")),
            ("job@base64/YS9i/dir@base64/L3Zhci90bXA", Ok("{job=\"a/b\", dir=\"/var/tmp\"}")),
            ("job/a/instance@base64/=", Ok("{job=\"a\"}")),
            ("table/orders", Err("begins with job")),
            ("job//x/y", Err("begins with job")),
            ("job/a/table", Err("has no value")),
            ("job/a/x/1/x/2", Err("stands twice")),
            ("job/a/__name__/up", Err("reserved")),
            ("job/a/x@base64/!", Err("no base64")),
        ] {
            match (grouping(path), want) {
                (Ok(got), Ok(want)) => {
                    let mut want: Vec<&str> = want.trim_matches(['{', '}']).split(", ").collect();
                    want.sort_unstable();
                    assert_eq!(got.to_string(), format!("{{{}}}", want.join(", ")), "{path}");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{path}: {got}"),
                (got, want) => panic!("{path}: {got:?}, not {want:?}"),
            }
        }
    }
}
