//! `/api/weir/v1/oncall`: who is on call, the final schedules, overrides, and calendars to subscribe to.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_alert::OverrideError;
use weir_alert::oncall::schedule::{Override, Schedule, Shift, Source};
use weir_alert::oncall::{Chain, OnCallConfig, Target, calendar};
use weir_model::Timestamp;

use crate::App;
use crate::alertmanager::fresh_id;
use crate::diagnose::{ApiError, parse_time};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Of a range that is asked for.
const DAYS_MAX: u32 = 400;
/// Shown when nothing is said, and looked ahead for the next handoff.
const DAYS_DEFAULT: u32 = 28;
const DAYS_AHEAD: u32 = 100;
/// Of a calendar.
const DAYS_PAST: u32 = 28;
const DAYS_FUTURE: u32 = 182;
const BY_BYTES_MAX: usize = 256;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/oncall", get(overview))
        .route("/api/weir/v1/oncall/overrides", post(add_override))
        .route("/api/weir/v1/oncall/overrides/{id}", delete(remove_override))
        .route("/api/weir/v1/oncall/schedules/{name}", get(schedule_calendar))
        .route("/api/weir/v1/oncall/people/{name}", get(person_calendar))
}

#[derive(Deserialize)]
struct RangeQuery {
    start: Option<String>,
    end: Option<String>,
}

impl RangeQuery {
    fn range(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), ApiError> {
        let start = self.start.as_deref().map_or(Ok(now), |t| parse_time("start", t))?;
        let end = self.end.as_deref().map_or(Ok(start.plus(DAY * DAYS_DEFAULT)), |t| parse_time("end", t))?;
        if start >= end || end.since(start) > DAY * DAYS_MAX {
            return Err(ApiError::bad_request(format!(
                "`start` and `end`: give a range that ends after it starts, of at most {DAYS_MAX} days"
            )));
        }
        Ok((start, end))
    }
}

async fn overview(State(app): State<Arc<App>>, Query(query): Query<RangeQuery>) -> Result<Json<Value>, ApiError> {
    let now = app.clock.now();
    let (start, end) = query.range(now)?;
    let (config, made) = (app.oncall.config(), app.oncall.overrides());
    let schedules = config.schedules.iter().map(|s| schedule_json(s, &made, (start, end), now)).collect::<Vec<_>>();
    Ok(Json(json!({
        "configured": !config.is_empty(),
        "now": now.rfc3339(),
        "start": start.rfc3339(),
        "end": end.rfc3339(),
        "time_zone": config.zone_name,
        "people": config.people.iter().map(|p| json!({
            "name": p.name, "shown": p.shown, "contacts": p.contact_kinds().collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "schedules": schedules,
        "chains": config.chains.iter().map(chain_json).collect::<Vec<_>>(),
        "tiers": config.tiers.iter().map(|t| json!({
            "name": t.name, "values": t.values, "channels": t.channels, "chain": t.chain, "out_of_band": t.out_of_band,
        })).collect::<Vec<_>>(),
        "watchdog_seconds": config.watchdog.as_ref().map(|w| w.interval.as_secs_f64()),
    })))
}

fn schedule_json(
    schedule: &Schedule,
    made: &[Override],
    (start, end): (Timestamp, Timestamp),
    now: Timestamp,
) -> Value {
    let shown = |o: &&Override| o.schedule == schedule.name && o.end > start && o.start < end;
    let of_file = schedule.overrides.iter().filter(shown).map(|o| (o, true));
    let overrides = of_file.chain(made.iter().filter(shown).map(|o| (o, false)));
    json!({
        "name": schedule.name,
        "time_zone": schedule.zone_name,
        "now": schedule.on_call(made, now).map(|(person, _)| person),
        "next": schedule.next_change(made, now, DAY * DAYS_AHEAD).map(|s| json!({
            "at": s.start.rfc3339(), "person": s.person,
        })),
        "shifts": schedule.shifts(made, start, end).iter().map(shift_json).collect::<Vec<_>>(),
        "layers": schedule.layers.iter().map(|l| json!({
            "name": l.name,
            "people": l.people,
            "shifts": schedule.layer_shifts(l, start, end).iter().map(shift_json).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "overrides": overrides.map(|(o, file)| json!({
            "id": o.id, "person": o.person, "start": o.start.rfc3339(), "end": o.end.rfc3339(), "by": o.by,
            "file": file,
        })).collect::<Vec<_>>(),
    })
}

fn shift_json(shift: &Shift) -> Value {
    let mut value = json!({ "start": shift.start.rfc3339(), "end": shift.end.rfc3339(), "person": shift.person });
    match &shift.source {
        Source::Nobody => {}
        Source::Layer(name) => value["layer"] = name.as_str().into(),
        Source::Override(id) => value["override"] = id.as_str().into(),
    }
    value
}

fn chain_json(chain: &Chain) -> Value {
    let target = |t: &Target| match t {
        Target::Schedule(name) => json!({ "schedule": name }),
        Target::Person(name) => json!({ "person": name }),
        Target::Receiver(name) => json!({ "receiver": name }),
    };
    let steps = chain.steps.iter().map(|s| {
        json!({
            "notify": s.notify.iter().map(target).collect::<Vec<_>>(),
            "channels": s.channels,
            "wait_seconds": s.wait.map(|w| w.as_secs_f64()),
        })
    });
    json!({ "name": chain.name, "repeat": chain.repeat, "steps": steps.collect::<Vec<_>>() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOverride {
    schedule: String,
    person: String,
    start: Value,
    end: Value,
    by: String,
}

async fn add_override(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let told: NewOverride = serde_json::from_slice(&body).map_err(|e| {
        ApiError::bad_request(format!(
            "body of an override, {{\"schedule\", \"person\", \"start\", \"end\", \"by\"}}: {e}"
        ))
    })?;
    if told.by.trim().is_empty() || told.by.len() > BY_BYTES_MAX {
        return Err(ApiError::bad_request(format!("`by` names who made it in 1 to {BY_BYTES_MAX} bytes")));
    }
    let time = |name: &str, value: &Value| match value {
        Value::String(text) => parse_time(name, text),
        other => parse_time(name, &other.to_string()),
    };
    let (start, end, id) = (time("start", &told.start)?, time("end", &told.end)?, fresh_id());
    let (schedule, person, by) = (told.schedule, told.person, told.by);
    let over = Override { id: id.clone(), schedule, person, start, end, by, made_at: app.clock.now() };
    app.oncall.add_override(over).await.map_err(|e| match e {
        OverrideError::NoSchedule(_) | OverrideError::NoPerson(_) => ApiError::not_found(e.to_string()),
        OverrideError::Times | OverrideError::TooMany => ApiError::bad_request(e.to_string()),
    })?;
    Ok(Json(json!({ "id": id })))
}

async fn remove_override(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    if app.oncall.remove_override(&id).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    let of_file = app.oncall.config().schedules.iter().any(|s| s.overrides.iter().any(|o| o.id == id));
    Err(match of_file {
        true => ApiError(StatusCode::CONFLICT, format!("override `{id}` stands in oncall.yml; remove it there")),
        false => ApiError::not_found(format!("no override `{id}`")),
    })
}

type Shifts = Vec<(String, String, Shift)>;

/// Shifts of some schedules, with how their people are shown.
fn shifts(app: &App, config: &OnCallConfig, wanted: impl Fn(&Schedule, &Shift) -> bool) -> Shifts {
    let (now, made) = (app.clock.now(), app.oncall.overrides());
    let (start, end) = (now.minus(DAY * DAYS_PAST), now.plus(DAY * DAYS_FUTURE));
    let mut out = Vec::new();
    for schedule in &config.schedules {
        for shift in schedule.shifts(&made, start, end) {
            if wanted(schedule, &shift) {
                let person = shift.person.as_deref().unwrap_or_default();
                let shown = config.person(person).map_or_else(|| person.to_owned(), |p| p.shown.clone());
                out.push((schedule.name.clone(), shown, shift));
            }
        }
    }
    out
}

fn ical(name: &str, shifts: &Shifts, now: Timestamp) -> Response {
    ([(header::CONTENT_TYPE, "text/calendar; charset=utf-8")], calendar(name, shifts, now)).into_response()
}

/// The part before `.ics`.
fn calendar_name(path: &str) -> Result<&str, ApiError> {
    path.strip_suffix(".ics").ok_or_else(|| ApiError::not_found(format!("no `{path}`; a calendar ends with `.ics`")))
}

async fn schedule_calendar(State(app): State<Arc<App>>, Path(path): Path<String>) -> Result<Response, ApiError> {
    let (name, config) = (calendar_name(&path)?, app.oncall.config());
    if config.schedule(name).is_none() {
        return Err(ApiError::not_found(format!("no schedule `{name}`")));
    }
    let found = shifts(&app, &config, |schedule, _| schedule.name == name);
    Ok(ical(&format!("On call: {name}"), &found, app.clock.now()))
}

async fn person_calendar(State(app): State<Arc<App>>, Path(path): Path<String>) -> Result<Response, ApiError> {
    let (name, config) = (calendar_name(&path)?, app.oncall.config());
    let Some(person) = config.person(name) else {
        return Err(ApiError::not_found(format!("no person `{name}`")));
    };
    let found = shifts(&app, &config, |_, shift| shift.person.as_deref() == Some(name));
    Ok(ical(&format!("On call: {}", person.shown), &found, app.clock.now()))
}
