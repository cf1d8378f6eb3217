//! Listeners: plain or TLS, refused off loopback unless they are protected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::web_config::{self, WebConfig};

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections open at once on one listener; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// How long answers under way may take once the program stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What may listen where.
#[derive(Clone)]
pub struct Protection {
    pub web: WebConfig,
    pub insecure_open: bool,
}

/// Binds, or says why this address may not be listened on.
pub async fn bind(flag: &str, address: &str, protection: &Protection) -> anyhow::Result<TcpListener> {
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .with_context(|| format!("--{flag} {address}: not an address"))?
        .collect();
    let open = resolved.iter().find(|a| !a.ip().is_loopback());
    let protected = protection.web.tls.is_some() && protection.web.auth.is_some();
    if let (Some(open), false, false) = (open, protected, protection.insecure_open) {
        bail!(
            "--{flag} {open} can be reached from other machines, but TLS and authentication are off: give \
             --web.config.file with tls_server_config and basic_auth_users, listen on 127.0.0.1, or accept the risk \
             with --insecure-open"
        );
    }
    TcpListener::bind(&resolved[..]).await.with_context(|| format!("cannot listen on --{flag} {address}"))
}

/// Serves `router` over HTTP/1.1 and HTTP/2 until `shutdown`, with the protection of the web
/// configuration. Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    mut router: Router,
    protection: &Protection,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(auth) = protection.web.auth.clone() {
        router = router
            .layer(axum::middleware::from_fn(move |request, next| web_config::require(auth.clone(), request, next)));
    }
    let tls = protection.web.tls.clone().map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some((stream, from)) = shutdown.run_until_cancelled(accept(&listener)).await {
        let Some(Ok(place)) = shutdown.run_until_cancelled(places.clone().acquire_owned()).await else { break };
        let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            match tls {
                None => connection(stream, from, router, shutdown).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, from, router, shutdown).await,
                    Ok(Err(error)) => tracing::debug!(%from, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%from, "TLS handshake timed out"),
                },
            }
        });
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await;
    Ok(())
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Answers are small and asked for one by one: Nagle's delay would add 40 ms to each.
                let _ = stream.set_nodelay(true);
                return (stream, from);
            }
            Err(error) => {
                // Out of file descriptors: accepting again at once would spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection<S>(stream: S, from: SocketAddr, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        request.map(axum::body::Body::new)
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let serving = server.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "connection ended early");
    }
}
