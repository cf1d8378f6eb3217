//! The SQL databases of the pipeline: SQLite files with tables large enough that a scan hurts.
//!
//! Each statement's cost is read from SQLite's own counters, so that a span tells how many rows were scanned.

use std::path::Path;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, StatementStatus};

use crate::telemetry::Telemetry;

pub use rusqlite::Error as DatabaseError;

/// Opens a file that several processes share: readers do not wait for the writer, nothing waits for the disk.
/// A crash of the machine may lose the last rows; the demo makes its data anew on each start.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// A statement's name for the span, its table and its text.
#[derive(Clone, Debug)]
pub struct Query {
    pub operation: &'static str,
    pub table: String,
    pub text: String,
    /// Name of the database, as operators know it.
    pub database: String,
}

/// Runs statements and tells what each one cost.
pub struct Traced<'a> {
    pub connection: &'a Connection,
    pub telemetry: &'a Telemetry,
    pub parent: &'a Context,
}

impl Traced<'_> {
    /// The first row, if any.
    pub fn query_row<T>(
        &self,
        query: &Query,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.run(query, |statement| {
            let row = statement.query_row(params, read).optional()?;
            let n = u64::from(row.is_some());
            Ok((row, n))
        })
    }

    /// Rows changed.
    pub fn execute(&self, query: &Query, params: impl Params) -> rusqlite::Result<usize> {
        self.run(query, |statement| {
            let n = statement.execute(params)?;
            Ok((n, n as u64))
        })
    }

    fn run<T>(
        &self,
        query: &Query,
        body: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<(T, u64)>,
    ) -> rusqlite::Result<T> {
        let attributes = vec![
            KeyValue::new("db.system.name", "sqlite"),
            KeyValue::new("db.namespace", query.database.clone()),
            KeyValue::new("db.collection.name", query.table.clone()),
            KeyValue::new("db.operation.name", query.operation),
            KeyValue::new("db.query.text", query.text.clone()),
        ];
        let name = format!("{} {}", query.operation, query.table);
        let context = self.telemetry.start_span(name, SpanKind::Client, attributes, self.parent);
        let result = self.connection.prepare_cached(&query.text).and_then(|mut statement| {
            statement.reset_status(StatementStatus::FullscanStep);
            let (value, n_rows) = body(&mut statement)?;
            let scanned = statement.get_status(StatementStatus::FullscanStep);
            // A row found through an index is not a step of a full scan.
            let scanned = u64::try_from(scanned).unwrap_or(0).max(n_rows);
            Ok((value, n_rows, scanned))
        });
        let span = context.span();
        let result = match result {
            Ok((value, n_rows, scanned)) => {
                span.set_attribute(KeyValue::new("db.response.returned_rows", int(n_rows)));
                span.set_attribute(KeyValue::new("db.response.rows_scanned", int(scanned)));
                Ok(value)
            }
            Err(error) => {
                span.set_attribute(KeyValue::new("error.type", "sqlite"));
                span.set_status(Status::error(error.to_string()));
                Err(error)
            }
        };
        span.end();
        result
    }
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// How long a change of an index waits for the table's other writers, and how often it asks.
const INDEX_WAIT: Duration = Duration::from_secs(20);
const INDEX_ASK: Duration = Duration::from_micros(200);

/// The index that makes look-ups in `table` by `column` cheap.
pub fn create_index(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    alter(connection, &format!("CREATE INDEX IF NOT EXISTS {table}_{column} ON {table} ({column})"))
}

pub fn drop_index(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    alter(connection, &format!("DROP INDEX IF EXISTS {table}_{column}"))
}

/// A writer that is far behind leaves gaps of microseconds between its transactions. SQLite's own waiting sleeps
/// for a tenth of a second between two tries and never meets one.
fn alter(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    let deadline = Instant::now() + INDEX_WAIT;
    while let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let busy = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
        if !busy || deadline < Instant::now() {
            return Err(error);
        }
        std::thread::sleep(INDEX_ASK);
    }
    let altered = connection.execute_batch(&format!("{statement}; COMMIT"));
    if altered.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    altered
}

/// Key of the `n`-th row of a table that is looked up by key.
pub fn player_key(n: usize) -> String {
    format!("player-{n:06}")
}

pub fn match_key(n: usize) -> String {
    format!("match-{n:06}")
}

/// Numbers from 0 as a table expression: SQLite fills a table many times faster than statement by statement.
fn count_up(n_rows: usize) -> String {
    format!("WITH RECURSIVE rows (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM rows WHERE n + 1 < {n_rows})")
}

/// Makes the players' register with `n_rows` rows and its index.
pub fn create_players(connection: &Connection, table: &str, key: &str, n_rows: usize) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "DROP TABLE IF EXISTS {table};
         CREATE TABLE {table} (id INTEGER PRIMARY KEY, {key} TEXT NOT NULL, name TEXT NOT NULL, club TEXT NOT NULL)"
    ))?;
    let rows = count_up(n_rows);
    connection.execute_batch(&format!(
        "INSERT INTO {table} ({key}, name, club)
         {rows} SELECT printf('player-%06d', n), 'Player ' || n, 'Club ' || (n % 97) FROM rows"
    ))?;
    create_index(connection, table, key)
}

/// Makes the sink's tables: totals of all matches ever played, and the updates themselves.
pub fn create_matches(connection: &Connection, table: &str, key: &str, n_rows: usize) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "DROP TABLE IF EXISTS {table};
         DROP TABLE IF EXISTS updates;
         CREATE TABLE {table} (id INTEGER PRIMARY KEY, {key} TEXT NOT NULL, league TEXT NOT NULL,
             n_events INTEGER NOT NULL DEFAULT 0, last_minute INTEGER NOT NULL DEFAULT 0);
         CREATE TABLE updates (topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
             trace_id TEXT NOT NULL, event_id TEXT NOT NULL, match_id TEXT NOT NULL, kind TEXT NOT NULL,
             minute INTEGER NOT NULL CHECK (minute BETWEEN 0 AND 120), headline TEXT NOT NULL,
             event_time_ms INTEGER NOT NULL, stored_at_ms INTEGER NOT NULL,
             PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID"
    ))?;
    let rows = count_up(n_rows);
    connection.execute_batch(&format!(
        "INSERT INTO {table} ({key}, league)
         {rows} SELECT printf('match-%06d', n), 'league ' || (n % 31) FROM rows"
    ))?;
    create_index(connection, table, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that SQLite steps over to find one player.
    fn scanned(connection: &Connection) -> i32 {
        let mut statement = connection.prepare("SELECT name FROM players WHERE code = ?1").unwrap();
        let name: String = statement.query_row([player_key(900)], |r| r.get(0)).unwrap();
        assert_eq!(name, "Player 900");
        statement.get_status(StatementStatus::FullscanStep)
    }

    #[test]
    fn a_look_up_scans_only_without_the_index() {
        let connection = Connection::open_in_memory().unwrap();
        create_players(&connection, "players", "code", 1000).unwrap();
        assert_eq!(scanned(&connection), 0);
        drop_index(&connection, "players", "code").unwrap();
        assert!(scanned(&connection) >= 900);
        create_index(&connection, "players", "code").unwrap();
        assert_eq!(scanned(&connection), 0);
    }
}
