//! Parameters: of the URL and of a form together, with the types that Prometheus gives them.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{Method, header};
use bytes::Bytes;
use weir_model::{Matcher, TenantId, TimeRange, Timestamp};
use weir_promql::{parse_duration, parse_selector};

use super::answer::ApiError;
use crate::tenant::Tenant;

/// Whose data, and all parameters; those of the body come first.
pub(super) struct Params {
    pub tenant: TenantId,
    pairs: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let tenant = Tenant::from_request_parts(&mut parts, state).await;
        let Tenant(tenant) = tenant.map_err(|(_, text)| ApiError::BadData(text))?;
        let mut pairs = Vec::new();
        let form = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let from_url = parts.uri.query().unwrap_or("").to_owned();
        if parts.method == Method::POST && form.starts_with("application/x-www-form-urlencoded") {
            let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
            let body = body.map_err(|e| ApiError::BadData(format!("error parsing form values: {e}")))?;
            pairs.extend(url::form_urlencoded::parse(&body).into_owned());
        }
        pairs.extend(url::form_urlencoded::parse(from_url.as_bytes()).into_owned());
        Ok(Self { tenant, pairs })
    }
}

impl Params {
    /// The first value, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::param(name, e))
    }
    pub fn time_or(&self, name: &str, default: Timestamp) -> Result<Timestamp, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => {
                parse_time(text).map_err(|e| ApiError::param(name, format!("Invalid time value for '{name}': {e}")))
            }
        }
    }
    /// `start` and `end`; all time where they are missing.
    pub fn range(&self) -> Result<TimeRange, ApiError> {
        let all = TimeRange::ALL;
        Ok(TimeRange::new(self.time_or("start", all.start)?, self.time_or("end", all.end)?))
    }
    /// Milliseconds, of either sign.
    pub fn duration_ms(&self, name: &str) -> Result<i64, ApiError> {
        parse_duration_param(self.get(name)).map_err(|e| ApiError::param(name, e))
    }
    pub fn duration_opt(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        if self.get(name).is_empty() {
            return Ok(None);
        }
        let ms = u64::try_from(self.duration_ms(name)?);
        let ms = ms.map_err(|_| ApiError::param(name, "must not be negative"))?;
        Ok(Some(Duration::from_millis(ms)))
    }
    /// The longest buckets that may stand for samples, as Thanos names it: a length, or `auto` for the given one.
    pub fn resolution(&self, auto: Duration) -> Result<Option<Duration>, ApiError> {
        match self.get("max_source_resolution") {
            "auto" => Ok(Some(auto)),
            _ => self.duration_opt("max_source_resolution"),
        }
    }
    /// `None` without limit: absent, or 0.
    pub fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<i64>() {
            Ok(n) => match usize::try_from(n) {
                Ok(n) => Ok(Some(n).filter(|n| *n > 0)),
                Err(_) => Err(ApiError::param(name, "limit must be non-negative")),
            },
            Err(_) => Err(ApiError::param(name, format!("{text:?} is not a whole number"))),
        }
    }

    /// Each `match[]`, parsed.
    pub fn matcher_sets(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let parse = |text| parse_selector(text).map_err(|e| ApiError::param("match[]", e));
        let sets = self.all("match[]").map(parse).collect::<Result<Vec<_>, _>>()?;
        if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
            return Err(ApiError::param("match[]", "match[] must contain at least one non-empty matcher"));
        }
        Ok(sets)
    }
}

/// Unix seconds with a fraction, or RFC 3339, in milliseconds.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Some(seconds) = plain_number(text) {
        let ms = (seconds * 1000.0).round();
        return Ok(Timestamp(ms.clamp(i64::MIN as f64, i64::MAX as f64) as i64));
    }
    // The extremes of Prometheus' own clock, which clients send for "from the beginning".
    match text {
        "-292273086-05-16T16:47:06Z" => return Ok(Timestamp::MIN),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(Timestamp::MAX),
        _ => {}
    }
    let parsed = text.parse::<jiff::Timestamp>();
    parsed.map(|t| Timestamp(t.as_millisecond())).map_err(|_| format!("cannot parse {text:?} to a valid timestamp"))
}

/// Seconds with a fraction, or `1h30m`, in milliseconds.
fn parse_duration_param(text: &str) -> Result<i64, String> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(body) => (-1, body),
        None => (1, text),
    };
    if let Some(seconds) = plain_number(body) {
        let ms = seconds * 1000.0;
        if ms > i64::MAX as f64 / 1e6 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(sign * ms as i64);
    }
    parse_duration(body).map(|ms| sign * ms).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

fn plain_number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|v| v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("123", Some(123_000)),
            ("-1.5", Some(-1500)),
            ("2015-06-03T13:21:58.555Z", Some(1_433_337_718_555)),
            ("2015-06-03T14:21:58.555+01:00", Some(1_433_337_718_555)),
            ("", None),
            ("foo", None),
            ("inf", None),
            ("30s", None),
        ] {
            assert_eq!(parse_time(text).ok(), want.map(Timestamp), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("15", Some(15_000)),
            ("1.5", Some(1500)),
            ("5m", Some(300_000)),
            ("-5m", Some(-300_000)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_duration_param(text).ok(), want, "{text}");
        }
    }
}
