//! The HTTP client that everything here uses.

use std::time::Duration;

use crate::error::DemoError;

/// A client with one patience for the whole request.
pub(crate) fn client(patience: Duration) -> Result<reqwest::Client, DemoError> {
    // The client asks for a TLS provider even where only plain HTTP is spoken; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(patience).build().map_err(DemoError::http("make an HTTP client"))
}
