//! Discovery and remote write against servers that behave like the real ones.
#![allow(clippy::unwrap_used, reason = "tests")]

mod consul;
mod files;
mod kubernetes;
mod remote;
mod support;
