//! Simulated fans: WebSocket clients that follow one league each and come back when they lose the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Starts `n` fans spread over the leagues; `received` counts what they get.
pub fn start(n: usize, port: u16, leagues: &[String], received: Arc<AtomicU64>, stop: &CancellationToken) {
    for i in 0..n {
        let url = format!("ws://127.0.0.1:{port}/ws?league={}", leagues[i % leagues.len()]);
        let (received, stop) = (received.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! { () = stop.cancelled() => {}, () = follow(&url, &received) => {} }
        });
    }
}

async fn follow(url: &str, received: &AtomicU64) {
    loop {
        if let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await {
            while let Some(Ok(message)) = socket.next().await {
                if matches!(message, Message::Text(_)) {
                    received.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
