//! Figures of the store, deletion, snapshots: `status/tsdb` and `admin/tsdb/*`.
//!
//! Source: Prometheus `web/api/v1/api.go`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use weir_model::Timestamp;
use weir_model::admin::{AdminError, MetricAdmin, MetricStats};

use super::answer::{ApiError, Notes, success};
use super::params::Params;

/// Rows of each list of `status/tsdb`, and the most of them.
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 10_000;

/// How long queries that are under way are waited for, and how often is looked.
const BUSY_FOR: Duration = Duration::from_secs(30);
const BUSY_EVERY: Duration = Duration::from_millis(50);

pub struct Admin {
    pub store: Arc<dyn MetricAdmin>,
    /// `--web.enable-admin-api`.
    pub is_enabled: bool,
}

pub fn router<S: Clone + Send + Sync + 'static>(admin: Arc<Admin>) -> Router<S> {
    Router::new()
        .route("/api/v1/status/tsdb", get(status))
        .route("/api/v1/admin/tsdb/delete_series", post(delete).put(delete))
        .route("/api/v1/admin/tsdb/clean_tombstones", post(clean).put(clean))
        .route("/api/v1/admin/tsdb/snapshot", post(snapshot).put(snapshot))
        .with_state(admin)
}

impl Admin {
    fn check(&self) -> Result<(), ApiError> {
        if self.is_enabled { Ok(()) } else { Err(ApiError::Unavailable("admin APIs disabled".to_owned())) }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&dyn MetricAdmin) -> Result<T, AdminError> + Send + Sync + 'static,
    ) -> Result<T, ApiError> {
        patiently(self.store.clone(), work).await.map_err(|error| ApiError::Internal(error.to_string()))
    }
}

/// Off the async threads, as it writes files; for a while again when the store is busy.
pub(crate) async fn patiently<T: Send + 'static>(
    store: Arc<dyn MetricAdmin>,
    work: impl Fn(&dyn MetricAdmin) -> Result<T, AdminError> + Send + Sync + 'static,
) -> Result<T, AdminError> {
    let work = Arc::new(work);
    let mut tries_left = BUSY_FOR.as_millis() / BUSY_EVERY.as_millis();
    loop {
        let (store, work) = (store.clone(), work.clone());
        let done = tokio::task::spawn_blocking(move || work(&*store)).await;
        match done.unwrap_or_else(|error| Err(AdminError::Failed(error.to_string()))) {
            Err(AdminError::Busy(_)) if tries_left > 0 => tries_left -= 1,
            done => return done,
        }
        tokio::time::sleep(BUSY_EVERY).await;
    }
}

async fn status(State(admin): State<Arc<Admin>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        return Err(ApiError::param("limit", format!("limit must not exceed {LIMIT_MAX}")));
    }
    let tenant = params.tenant.clone();
    let stats = admin.run(move |store| Ok(store.stats(&tenant, limit))).await?;
    success(&shown(&stats), Notes::default())
}

fn shown(stats: &MetricStats) -> Value {
    let rows = |list: &[(String, u64)]| -> Value {
        list.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    // Upstream's head without samples begins at the end of time and ends at its beginning.
    let (first, last) = stats.range.map_or((Timestamp::MAX, Timestamp::MIN), |r| (r.start, r.end));
    json!({
        "headStats": {
            "numSeries": stats.n_series,
            "numLabelPairs": stats.n_label_pairs,
            "chunkCount": stats.n_chunks,
            "minTime": first.0,
            "maxTime": last.0,
        },
        "seriesCountByMetricName": rows(&stats.series_by_metric),
        "labelValueCountByLabelName": rows(&stats.values_by_label),
        "memoryInBytesByLabelName": rows(&stats.bytes_by_label),
        "seriesCountByLabelValuePair": rows(&stats.series_by_pair),
    })
}

async fn delete(State(admin): State<Arc<Admin>>, params: Params) -> Result<StatusCode, ApiError> {
    admin.check()?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let (tenant, range, sets) = (params.tenant.clone(), params.range()?, params.matcher_sets()?);
    admin.run(move |store| sets.iter().try_for_each(|set| store.delete(&tenant, set, range))).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clean(State(admin): State<Arc<Admin>>) -> Result<StatusCode, ApiError> {
    admin.check()?;
    admin.run(|store| store.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn snapshot(State(admin): State<Arc<Admin>>, params: Params) -> Result<Response, ApiError> {
    admin.check()?;
    let skip_head = match params.get("skip_head") {
        "" | "false" | "0" | "f" | "F" | "FALSE" | "False" => false,
        "true" | "1" | "t" | "T" | "TRUE" | "True" => true,
        other => return Err(ApiError::param("skip_head", format!("unable to parse boolean {other:?}"))),
    };
    let name = admin.run(move |store| store.snapshot(skip_head)).await?;
    success(&json!({ "name": name }), Notes::default())
}
