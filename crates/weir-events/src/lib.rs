//! The store of logs, spans and change events.
