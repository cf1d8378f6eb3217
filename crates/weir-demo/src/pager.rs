//! The pager sink: takes what PagerDuty's Events API v2 takes, and shows what a pager would have shown.
//!
//! Source: PagerDuty Events API v2, `POST /v2/enqueue`. A trigger opens an incident for its `dedup_key` or updates
//! the open one; a resolve closes it; a trigger after that opens a new incident, hence a new page.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

/// Incidents kept, oldest resolved first to go.
const N_INCIDENTS_MAX: usize = 200;
const SUMMARY_CHARS_MAX: usize = 1024;
const DEDUP_KEY_CHARS_MAX: usize = 255;
/// Lines shown of one page.
const N_LINES_MAX: usize = 30;

/// One page, as its pager showed it last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    pub dedup_key: String,
    pub title: String,
    /// RFC 3339, when the pager rang.
    pub opened_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
    /// Events that changed the page without ringing again.
    pub updates: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    pub lines: Vec<String>,
    #[serde(skip)]
    pub opened_at_ms: i64,
    #[serde(skip)]
    pub resolved_at_ms: Option<i64>,
}

/// All pages. Memory is bounded by [`N_INCIDENTS_MAX`] and the size of a request.
#[derive(Default)]
pub struct Pager(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    pages: VecDeque<Page>,
}

/// An event that PagerDuty would take.
#[derive(Debug, PartialEq)]
struct Event {
    action: Action,
    dedup_key: String,
    summary: String,
    link: Option<String>,
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Trigger,
    Acknowledge,
    Resolve,
}

impl Pager {
    /// Newest first.
    pub fn pages(&self) -> Vec<Page> {
        self.0.lock().pages.iter().rev().cloned().collect()
    }

    /// Takes one request body at `now_ms`: the key it concerns, or all that is wrong with it.
    pub fn take(&self, body: &[u8], now_ms: i64) -> Result<String, Vec<String>> {
        let event = parse(body, now_ms);
        let mut inner = self.0.lock();
        match event {
            Ok(event) => {
                let key = event.dedup_key.clone();
                inner.apply(event, now_ms);
                Ok(key)
            }
            Err(errors) => Err(errors),
        }
    }
}

impl Inner {
    fn apply(&mut self, event: Event, now_ms: i64) {
        let open = self.pages.iter_mut().rev().find(|p| p.dedup_key == event.dedup_key && p.resolved_at_ms.is_none());
        match (event.action, open) {
            (Action::Trigger, Some(page)) => {
                page.updates += 1;
                page.title = event.summary;
                page.link = event.link.or(page.link.take());
                page.lines = event.lines;
            }
            (Action::Trigger, None) => {
                self.pages.push_back(Page {
                    dedup_key: event.dedup_key,
                    title: event.summary,
                    opened_at: rfc3339(now_ms),
                    resolved_at: None,
                    updates: 0,
                    link: event.link,
                    lines: event.lines,
                    opened_at_ms: now_ms,
                    resolved_at_ms: None,
                });
                while self.pages.len() > N_INCIDENTS_MAX {
                    self.pages.pop_front();
                }
            }
            (Action::Resolve, Some(page)) => {
                page.resolved_at = Some(rfc3339(now_ms));
                page.resolved_at_ms = Some(now_ms);
            }
            (Action::Acknowledge, Some(page)) => page.updates += 1,
            // As PagerDuty does: what concerns no open incident changes nothing.
            (Action::Resolve | Action::Acknowledge, None) => {}
        }
    }
}

pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|t| format!("{t:.3}")).unwrap_or_default()
}

fn parse(body: &[u8], now_ms: i64) -> Result<Event, Vec<String>> {
    let body: Value = serde_json::from_slice(body).map_err(|e| vec![format!("not JSON: {e}")])?;
    let mut errors = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if text(&body["routing_key"]).len() != 32 {
        errors.push("`routing_key` must be 32 characters".to_owned());
    }
    let action = match body["event_action"].as_str() {
        Some("trigger") => Some(Action::Trigger),
        Some("acknowledge") => Some(Action::Acknowledge),
        Some("resolve") => Some(Action::Resolve),
        other => {
            errors.push(format!("`event_action` is {other:?}; give trigger, acknowledge or resolve"));
            None
        }
    };
    let mut dedup_key = text(&body["dedup_key"]);
    if dedup_key.chars().count() > DEDUP_KEY_CHARS_MAX {
        errors.push(format!("`dedup_key` has more than {DEDUP_KEY_CHARS_MAX} characters"));
    }
    if dedup_key.is_empty() {
        if action == Some(Action::Trigger) {
            dedup_key = format!("generated-{now_ms}");
        } else {
            errors.push("`dedup_key` is needed to acknowledge or resolve".to_owned());
        }
    }
    if action == Some(Action::Trigger) {
        check_payload(&body["payload"], &mut errors);
    }
    let link = body["links"][0]["href"].as_str().map(str::to_owned);
    let action = match (action, errors.is_empty()) {
        (Some(action), true) => action,
        _ => return Err(errors),
    };
    let lines = lines(&body["payload"]["custom_details"]);
    Ok(Event { action, dedup_key, summary: text(&body["payload"]["summary"]), link, lines })
}

fn check_payload(payload: &Value, errors: &mut Vec<String>) {
    if !payload.is_object() {
        errors.push("`payload` is needed to trigger".to_owned());
        return;
    }
    match payload["summary"].as_str() {
        None | Some("") => errors.push("`payload.summary` is missing or blank".to_owned()),
        Some(s) if s.chars().count() > SUMMARY_CHARS_MAX => {
            errors.push(format!("`payload.summary` has more than {SUMMARY_CHARS_MAX} characters"));
        }
        Some(_) => {}
    }
    if payload["source"].as_str().unwrap_or_default().is_empty() {
        errors.push("`payload.source` is missing or blank".to_owned());
    }
    let severity = payload["severity"].as_str().unwrap_or_default();
    if !["critical", "error", "warning", "info"].contains(&severity) {
        errors.push(format!("`payload.severity` is `{severity}`; give critical, error, warning or info"));
    }
}

/// Custom details as the lines that a pager shows.
fn lines(details: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(details) = details.as_object() {
        for (name, value) in details {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join("\n"),
                other => other.to_string(),
            };
            for (i, line) in text.lines().filter(|l| !l.trim().is_empty()).enumerate() {
                lines.push(if i == 0 { format!("{name}: {line}") } else { line.to_owned() });
            }
        }
    }
    lines.truncate(N_LINES_MAX);
    lines
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// PagerDuty's answer to [`Pager::take`].
pub(crate) fn answer(result: &Result<String, Vec<String>>) -> (u16, Value) {
    match result {
        Ok(key) => (202, json!({"status": "success", "message": "Event processed", "dedup_key": key})),
        Err(errors) => {
            (400, json!({"status": "invalid event", "message": "Event object is invalid", "errors": errors}))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(action: &str, key: &str) -> Vec<u8> {
        json!({
            "routing_key": "0".repeat(32), "event_action": action, "dedup_key": key,
            "payload": {"summary": "late", "source": "weir", "severity": "critical",
                        "custom_details": {"firing": "a\nb", "num_firing": "2"}},
            "links": [{"href": "http://x/incidents/1", "text": "incident"}],
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_trigger_rings_once_until_it_is_resolved() {
        let pager = Pager::default();
        for (at, action) in [(1, "trigger"), (2, "trigger"), (3, "resolve"), (4, "resolve"), (5, "trigger")] {
            pager.take(&event(action, "k"), at).unwrap();
        }
        let pages = pager.pages();
        let got: Vec<_> = pages.iter().map(|p| (p.opened_at_ms, p.resolved_at_ms, p.updates)).collect();
        assert_eq!(got, [(5, None, 0), (1, Some(3), 1)]);
        assert_eq!(pages[0].lines, ["firing: a", "b", "num_firing: 2"]);
        assert_eq!(pages[0].link.as_deref(), Some("http://x/incidents/1"));
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), want: &str) {
        let mut body: Value = serde_json::from_slice(&event("trigger", "k")).unwrap();
        change(&mut body);
        let pager = Pager::default();
        let errors = pager.take(body.to_string().as_bytes(), 1).unwrap_err();
        assert!(errors.iter().any(|e| e.contains(want)), "{errors:?} lacks {want}");
        assert_eq!(pager.pages().len(), 0);
    }

    #[test]
    fn what_pagerduty_refuses_is_refused() {
        check(|b| b["routing_key"] = json!("short"), "routing_key");
        check(|b| b["event_action"] = json!("page"), "event_action");
        check(|b| b["payload"]["severity"] = json!("bad"), "severity");
        check(|b| b["payload"]["summary"] = json!(""), "summary");
        check(|b| b["payload"]["source"] = Value::Null, "source");
        check(|b| b["dedup_key"] = json!("k".repeat(256)), "dedup_key");
        check(|b| *b = json!([1]), "routing_key");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pager::default().take(&body, 0);
        }
    }
}
