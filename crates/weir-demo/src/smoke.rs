//! `weir smoke`: does a running server take in and give back all three signals, know lag, show its page, and carry
//! an alert? Writes a little data of its own over public APIs and reads it back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::DemoError;
use crate::metrics::now_ms;

/// One check by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// Why it failed.
    pub failure: Option<String>,
}

type Outcome = Result<(), String>;

/// What is written must be readable within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs all checks, one after another; a failed one does not keep the others from running.
pub async fn run(url: &str) -> Result<Vec<Check>, DemoError> {
    let client = crate::http::client(Duration::from_secs(5))?;
    // Told apart from an earlier run's data by its own value.
    let smoke = Smoke { url: url.trim_end_matches('/').to_owned(), client, mark: now_ms() };
    let check = |name, outcome: Outcome| Check { name, failure: outcome.err() };
    Ok(vec![
        check("ready", smoke.ready().await),
        check("metrics", smoke.metrics().await),
        check("logs", smoke.logs().await),
        check("traces", smoke.traces().await),
        check("lag", smoke.lag().await),
        check("home page", smoke.home_page().await),
        check("alert path", smoke.alert_path().await),
    ])
}

struct Smoke {
    url: String,
    client: reqwest::Client,
    mark: i64,
}

impl Smoke {
    async fn text(&self, request: reqwest::RequestBuilder) -> Result<String, String> {
        let answer = request.send().await.map_err(|e| chain(&e))?;
        let (status, url) = (answer.status(), answer.url().to_string());
        let text = answer.text().await.map_err(|e| chain(&e))?;
        if status.is_success() {
            Ok(text)
        } else {
            Err(format!("{url} answers {status}: {}", text.chars().take(300).collect::<String>()))
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let text = self.text(self.client.get(format!("{}{path}", self.url)).query(query)).await?;
        serde_json::from_str(&text).map_err(|e| format!("{path} does not answer JSON: {e}"))
    }

    async fn post(&self, path: &str, body: &Value) -> Outcome {
        self.text(self.client.post(format!("{}{path}", self.url)).json(body)).await.map(drop)
    }

    /// Asks until `found` says yes.
    async fn until(&self, path: &str, query: &[(&str, &str)], found: impl Fn(&Value) -> bool) -> Outcome {
        let begun = Instant::now();
        loop {
            let answer = self.get(path, query).await?;
            if found(&answer) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let text: String = answer.to_string().chars().take(300).collect();
                return Err(format!("{path} {query:?} does not show what was written: {text}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ready(&self) -> Outcome {
        self.text(self.client.get(format!("{}/-/ready", self.url))).await.map(drop)
    }

    async fn metrics(&self) -> Outcome {
        let nanos = format!("{}000000", self.mark);
        let point = json!({"timeUnixNano": nanos, "asInt": self.mark.to_string()});
        let body = json!({"resourceMetrics": [{
            "resource": resource(),
            "scopeMetrics": [{"metrics": [{"name": "weir_smoke_mark", "gauge": {"dataPoints": [point]}}]}],
        }]});
        self.post("/v1/metrics", &body).await?;
        let mark = self.mark as f64;
        self.until("/api/v1/query", &[("query", "max(weir_smoke_mark)")], |answer| {
            let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|v| v.parse::<f64>().ok());
            value == Some(mark)
        })
        .await
    }

    async fn logs(&self) -> Outcome {
        let line = format!("smoke mark {}", self.mark);
        let body = json!({"streams": [{
            "stream": {"app": "weir-smoke"},
            "values": [[format!("{}000000", self.mark), line]],
        }]});
        self.post("/loki/api/v1/push", &body).await?;
        let query = format!("{{app=\"weir-smoke\"}} |= \"{line}\"");
        let start = format!("{}000000", self.mark - 60_000);
        let end = format!("{}000000", self.mark + 60_000);
        let params = [("query", query.as_str()), ("start", &start), ("end", &end)];
        self.until("/loki/api/v1/query_range", &params, |answer| {
            answer["data"]["result"][0]["values"][0][1].as_str() == Some(line.as_str())
        })
        .await
    }

    async fn traces(&self) -> Outcome {
        let trace_id = format!("{:032x}", self.mark.unsigned_abs());
        let span = json!({
            "traceId": trace_id, "spanId": format!("{:016x}", self.mark.unsigned_abs()), "name": "smoke", "kind": 1,
            "startTimeUnixNano": format!("{}000000", self.mark), "endTimeUnixNano": format!("{}000000", self.mark + 3),
        });
        let body = json!({"resourceSpans": [{"resource": resource(), "scopeSpans": [{"spans": [span]}]}]});
        self.post("/v1/traces", &body).await?;
        let begun = Instant::now();
        loop {
            match self.get(&format!("/api/traces/{trace_id}"), &[]).await {
                Ok(trace) if trace.to_string().contains("\"smoke\"") => return Ok(()),
                Ok(other) if begun.elapsed() > PATIENCE => return Err(format!("the trace has no span: {other}")),
                Err(why) if begun.elapsed() > PATIENCE => return Err(why),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn lag(&self) -> Outcome {
        let answer = self.get("/api/weir/v1/lag", &[]).await?;
        let partitions = answer["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let whole = |p: &Value| p["group"].is_string() && p["lag"].is_number() && p["lag_seconds"].is_number();
        if partitions.iter().any(whole) {
            Ok(())
        } else {
            Err("no consumer group has a lag in messages and seconds; start the server with --kafka".to_owned())
        }
    }

    /// The page itself, and the script that it names.
    async fn home_page(&self) -> Outcome {
        let page = self.text(self.client.get(format!("{}/", self.url))).await?;
        let script = script_of(&page).ok_or("the page names no script; was it built (`make web`)?")?;
        let path = script.trim_start_matches('.').trim_start_matches('/');
        let code = self.text(self.client.get(format!("{}/{path}", self.url))).await?;
        if code.trim_start().starts_with('<') {
            return Err(format!("`{script}` is not a script"));
        }
        Ok(())
    }

    /// An alert goes in, is seen, and is resolved before anybody could be told.
    async fn alert_path(&self) -> Outcome {
        let mark = self.mark.to_string();
        let alert = |ends_at: i64| {
            json!([{
                "labels": {"alertname": "WeirSmoke", "mark": mark},
                "annotations": {"summary": "a check by weir smoke; nothing to do"},
                "startsAt": crate::pager::rfc3339(self.mark),
                "endsAt": crate::pager::rfc3339(ends_at),
            }])
        };
        self.post("/api/v2/alerts", &alert(now_ms() + 60_000)).await?;
        let filter = format!("mark=\"{mark}\"");
        let seen = self
            .until("/api/v2/alerts", &[("filter", &filter)], |alerts| alerts[0]["labels"]["mark"] == mark.as_str())
            .await;
        self.post("/api/v2/alerts", &alert(now_ms())).await?;
        seen
    }
}

fn resource() -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": "weir-smoke"}}]})
}

/// The `src` of the page's first script with one.
fn script_of(page: &str) -> Option<&str> {
    page.split("<script").skip(1).find_map(|rest| {
        let tag = rest.split('>').next()?;
        let (_, after) = tag.split_once("src=\"")?;
        after.split('"').next()
    })
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_found() {
        let page = "<html><script>x=1</script><script type=\"module\" src=\"/assets/i.js\"></script>";
        assert_eq!(script_of(page), Some("/assets/i.js"));
        assert_eq!(script_of("<html>"), None);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_fails_every_check_by_name() {
        let checks = run("http://127.0.0.1:1").await.unwrap();
        let names: Vec<_> = checks.iter().map(|c| c.name).collect();
        assert_eq!(names, ["ready", "metrics", "logs", "traces", "lag", "home page", "alert path"]);
        assert!(checks.iter().all(|c| c.failure.is_some()), "{checks:?}");
    }
}
