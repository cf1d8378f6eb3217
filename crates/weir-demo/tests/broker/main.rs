//! The embedded broker, talked to by kcat, by librdkafka and by hand. One binary, so that it links once.
#![allow(clippy::unwrap_used, reason = "tests")]

mod kcat;
mod kcat_view;
mod librdkafka;
mod raw;
mod suite;
mod support;
