//! A remote write 1.0 sender.

use prost::Message;
use reqwest::Client;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// The NaN that ends a series.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Labels by name, the metric's name among them, and samples of (milliseconds, value).
pub struct Series {
    pub labels: Vec<(&'static str, String)>,
    pub samples: Vec<(i64, f64)>,
}

/// Sends all series in one request and asserts that they were stored.
pub async fn send(client: &Client, url: &str, series: &[Series]) {
    let response = post(client, url, series).await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status}: {text}");
}

/// Whether they were acknowledged.
pub async fn try_send(client: &Client, url: &str, series: &[Series]) -> bool {
    post(client, url, series).await.is_ok_and(|response| response.status().is_success())
}

async fn post(client: &Client, url: &str, series: &[Series]) -> reqwest::Result<reqwest::Response> {
    let convert = |s: &Series| {
        let mut labels: Vec<Label> =
            s.labels.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: value.clone() }).collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let samples = s.samples.iter().map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp });
        TimeSeries { labels, samples: samples.collect() }
    };
    let request = WriteRequest { timeseries: series.iter().map(convert).collect() };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    client
        .post(format!("{url}/api/v1/write"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(body)
        .send()
        .await
}
