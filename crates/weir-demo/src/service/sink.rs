//! Writes every update to the store, with its trace and its place in the topic, and keeps totals per match.

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::Shared;
use super::consume::{Failure, Handler, Record};
use super::send::Ack;
use crate::database::{self, DatabaseError, Query, Traced};
use crate::error::DemoError;
use crate::event::Update;
use crate::metrics::now_ms;
use crate::release::Build;
use crate::topology::Role;

/// Updates kept per partition: some minutes' worth, so that the file stays small.
const N_UPDATES_MAX: i64 = 20_000;

pub(crate) struct Sink {
    shared: Shared,
    store: Mutex<Connection>,
    insert: Query,
    total: Query,
}

impl Sink {
    pub fn new(shared: &Shared) -> Result<Self, DemoError> {
        let topology = &shared.assignment.topology;
        let names = &topology.names;
        let path = topology.database_path(Role::Sink);
        let store = database::open(&path).map_err(DemoError::database(format!("open {}", path.display())))?;
        let database = format!("{}-store", names.namespace);
        Ok(Self {
            store: Mutex::new(store),
            insert: Query {
                operation: "INSERT",
                table: "updates".into(),
                text: "INSERT OR REPLACE INTO updates (topic, partition, offset, trace_id, event_id, match_id, kind, \
                       minute, headline, event_time_ms, stored_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    .into(),
                database: database.clone(),
            },
            total: Query {
                operation: "UPDATE",
                table: names.matches_table.clone(),
                text: format!(
                    "UPDATE {} SET n_events = n_events + 1, last_minute = max(last_minute, ?) WHERE {} = ?",
                    names.matches_table, names.matches_key
                ),
                database,
            },
            shared: shared.clone(),
        })
    }

    /// One transaction: the row and, for scoring events, the match's total.
    fn write(&self, record: &Record, update: &Update, minute: u32, span: &Context) -> Result<(), DatabaseError> {
        let store = self.store.lock();
        let transaction = store.unchecked_transaction()?;
        let traced = Traced { connection: &store, telemetry: &self.shared.telemetry, parent: span };
        let trace_id = span.span().span_context().trace_id().to_string();
        traced.execute(
            &self.insert,
            (
                &*record.topic,
                record.partition,
                record.offset,
                trace_id,
                &update.event_id,
                &update.match_id,
                update.kind.as_str(),
                minute,
                &update.headline,
                update.event_time_ms,
                now_ms(),
            ),
        )?;
        if !update.kind.is_motion() {
            traced.execute(&self.total, (minute, &update.match_id))?;
        }
        if record.offset % 1000 == 999 {
            store.execute(
                "DELETE FROM updates WHERE topic = ? AND partition = ? AND offset < ?",
                (&*record.topic, record.partition, record.offset - N_UPDATES_MAX),
            )?;
        }
        transaction.commit()
    }
}

/// The minute as the store wants it.
fn stored_minute(minute: u32, build: Build) -> u32 {
    match build {
        Build::Sound => minute,
        // The bug of the faulty build: it writes seconds into the column of minutes.
        Build::Faulty => minute * 60,
    }
}

impl Handler for Sink {
    async fn handle(&self, record: &Record, span: &Context) -> Result<Ack, Failure> {
        let update: Update = serde_json::from_slice(&record.payload)
            .map_err(|error| Failure::Reject(format!("not an update: {error}")))?;
        let minute = stored_minute(update.minute, self.shared.assignment.build);
        tokio::task::block_in_place(|| self.write(record, &update, minute, span)).map_err(|error| {
            match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => Failure::Reject(format!("row refused: {error}")),
                _ => Failure::Retry(format!("store: {error}")),
            }
        })?;
        self.shared.metrics.rows_written.inc();
        self.shared.metrics.end_to_end("stored", update.event_time_ms);
        Ok(Box::pin(std::future::ready(Ok(()))))
    }
}
