//! Parameters from the URL and, for POST, from a form.

use axum::extract::{FromRequest, Request};
use axum::http::{Method, StatusCode, header};
use weir_model::{Clock, Nanos};

use super::ApiError;

/// Name and value pairs in the order of writing; the URL's first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let mut pairs = Self::from_query(request.uri().query().unwrap_or(""));
        let is_form = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        if request.method() == Method::POST && is_form {
            let body = bytes::Bytes::from_request(request, state)
                .await
                .map_err(|e| ApiError(StatusCode::PAYLOAD_TOO_LARGE, format!("cannot read the form: {e}")))?;
            pairs.0.extend(url::form_urlencoded::parse(&body).into_owned());
        }
        Ok(pairs)
    }
}

impl Params {
    pub(crate) fn from_query(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    pub(crate) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::bad(format!("parameter `{name}` is missing")))
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<Nanos>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || {
            ApiError::bad(format!(
                "could not parse '{name}' parameter `{text}`: give Unix seconds, nanoseconds or RFC 3339"
            ))
        };
        parse_time(text).map(Some).ok_or_else(bad)
    }

    /// `start`, `end` and `since` with Loki's defaults: the end is now, the start `default_nanos` before.
    pub(crate) fn range(&self, clock: &dyn Clock, default_nanos: i64) -> Result<(Nanos, Nanos), ApiError> {
        let now = clock.now_nanos();
        let end = self.time("end")?;
        let since = self.duration("since")?.unwrap_or(default_nanos);
        let start = match self.time("start")? {
            Some(start) => start,
            // A start derived from an end in the future begins at now all the same.
            None => Nanos(end.map_or(now, |end| end.min(now)).0.saturating_sub(since)),
        };
        let end = end.unwrap_or(now);
        if end < start {
            return Err(ApiError::bad("end timestamp must not be before or equal to start time"));
        }
        Ok((start, end))
    }

    /// Float seconds or a duration, in nanoseconds.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let nanos = match text.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() && seconds.abs() < 9e9 => Some((seconds * 1e9) as i64),
            Ok(_) => None,
            Err(_) => weir_logql::parse_duration(text),
        };
        nanos.map(Some).ok_or_else(|| ApiError::bad(format!("cannot parse \"{text}\" of `{name}` to a valid duration")))
    }

    pub(crate) fn count(&self, name: &str, default: usize) -> Result<usize, ApiError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => match text.parse::<usize>() {
                Ok(0) | Err(_) => Err(ApiError::bad(format!("`{name}` must be a positive value, not `{text}`"))),
                Ok(n) => Ok(n),
            },
        }
    }
}

/// With a point: seconds. Up to ten digits: seconds. More digits: nanoseconds. Else RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<Nanos> {
    if let Ok(number) = text.parse::<i64>() {
        let digits = text.trim_start_matches(['-', '+']).len();
        return if digits <= 10 { number.checked_mul(1_000_000_000).map(Nanos) } else { Some(Nanos(number)) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let whole = seconds.trunc();
        let in_range = seconds.is_finite() && whole.abs() < 9e9;
        return in_range.then(|| Nanos(whole as i64 * 1_000_000_000 + ((seconds - whole) * 1e9).round() as i64));
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_by_their_form() {
        let check = |text: &str, want: Option<i64>| assert_eq!(parse_time(text).map(|t| t.0), want, "{text}");
        check("1700000000", Some(1_700_000_000_000_000_000));
        check("4000000000", Some(4_000_000_000_000_000_000));
        check("1700000000000000001", Some(1_700_000_000_000_000_001));
        check("1700000000.5", Some(1_700_000_000_500_000_000));
        check("1e9", Some(1_000_000_000_000_000_000));
        check("2023-11-14T22:13:20.000000001Z", Some(1_700_000_000_000_000_001));
        check("yesterday", None);
        check("NaN", None);
        check("1e30", None);
        check("9999999999", None);
    }
}
