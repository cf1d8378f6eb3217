//! What a drill sees of weir: the public API, as a person or a script would use it.

use std::time::Duration;

use serde_json::Value;

use super::score::Answer;
use crate::error::DemoError;

/// A client of one weir.
pub struct Watch {
    base_url: String,
    client: reqwest::Client,
}

/// A page, as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct PageSeen {
    pub dedup_key: String,
    pub title: String,
    pub opened_at_ms: i64,
    pub open: bool,
}

/// An incident, as far as a drill cares.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentSeen {
    pub id: String,
    pub opened_at_ms: i64,
    pub resolved: bool,
    pub first: Option<Answer>,
}

impl Watch {
    pub fn new(base_url: &str) -> Result<Self, DemoError> {
        let client = crate::http::client(Duration::from_secs(5))?;
        Ok(Self { base_url: base_url.to_owned(), client })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, DemoError> {
        let doing = || format!("GET {path}");
        let answer = self.client.get(format!("{}{path}", self.base_url)).query(query).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(DemoError::http(doing()))?;
        answer.json().await.map_err(DemoError::http(doing()))
    }

    /// The greatest value of an instant vector; `None` when it is empty.
    pub async fn query_max(&self, promql: &str) -> Result<Option<f64>, DemoError> {
        let body = self.get("/api/v1/query", &[("query", promql)]).await?;
        let values = body["data"]["result"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(values.iter().filter_map(|v| v["value"][1].as_str()?.parse().ok()).reduce(f64::max))
    }

    /// Newest first.
    pub async fn pages(&self) -> Result<Vec<PageSeen>, DemoError> {
        let body = self.get("/api/weir/v1/demo", &[]).await?;
        let pages = body["pages"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(pages.iter().filter_map(page).collect())
    }

    /// Newest first, each with its first cause.
    pub async fn incidents(&self) -> Result<Vec<IncidentSeen>, DemoError> {
        let body = self.get("/api/weir/v1/incidents", &[("limit", "20")]).await?;
        let incidents = body["incidents"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(incidents.iter().filter_map(incident).collect())
    }
}

fn page(value: &Value) -> Option<PageSeen> {
    Some(PageSeen {
        dedup_key: value["dedup_key"].as_str()?.to_owned(),
        title: value["title"].as_str().unwrap_or_default().to_owned(),
        opened_at_ms: millis(&value["opened_at"])?,
        open: value["resolved_at"].is_null(),
    })
}

fn incident(value: &Value) -> Option<IncidentSeen> {
    Some(IncidentSeen {
        id: value["id"].as_str()?.to_owned(),
        opened_at_ms: millis(&value["opened_at"])?,
        resolved: value["state"] == "resolved",
        first: value["causes"].get(0).map(Answer::read),
    })
}

fn millis(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_and_incidents_are_read() {
        let got = page(&json!({"dedup_key": "k", "title": "t", "opened_at": "1970-01-01T00:00:01.5Z"})).unwrap();
        assert_eq!((got.opened_at_ms, got.open), (1500, true));
        let value = json!({"id": "i", "opened_at": "1970-01-01T00:00:02Z", "state": "resolved",
            "causes": [{"service": "s", "score": 0.9, "thing": {"type": "version", "version": "2"}}]});
        let got = incident(&value).unwrap();
        assert_eq!((got.opened_at_ms, got.resolved), (2000, true));
        assert_eq!(got.first.unwrap().version.as_deref(), Some("2"));
    }
}
