//! One client's connection: frames in, frames out, in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::dispatch;
use super::server::Shared;
use super::skim::Malformed;

/// A request is at most a few batches of 1 MiB.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Apache Kafka's `connections.max.idle.ms`.
const IDLE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("frame of {0} bytes announced, at most {FRAME_BYTES_MAX} are taken; is this a Kafka client?")]
    FrameSize(i32),
    #[error("frame of {0} bytes is too short for a request")]
    TooShort(usize),
    #[error("request with key {key} version {version} is not supported")]
    Unsupported { key: i16, version: i16 },
    #[error("{api:?} version {version}: {source}")]
    Malformed { api: ApiKey, version: i16, source: Malformed },
    #[error("{api:?} version {version} cannot be decoded: {reason}")]
    Decode { api: ApiKey, version: i16, reason: String },
    #[error("the answer to {api:?} version {version} cannot be encoded: {reason}")]
    Encode { api: ApiKey, version: i16, reason: String },
    #[error("idle for {} s", IDLE_MAX.as_secs())]
    Idle,
}

/// What a handler knows of the connection.
pub struct Client {
    pub peer: SocketAddr,
    /// The address the client reached this broker at; clients are told to come back to it.
    pub reached: SocketAddr,
    /// Wakes a waiting fetch.
    pub notify: Arc<Notify>,
}

/// `Ok` when the client closed the connection between two requests.
pub async fn serve(mut socket: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Result<(), ConnectionError> {
    socket.set_nodelay(true)?;
    let client = Client { peer, reached: socket.local_addr()?, notify: Arc::new(Notify::new()) };
    let mut input = BytesMut::with_capacity(8 << 10);
    let mut output = BytesMut::new();
    loop {
        let next = tokio::time::timeout(IDLE_MAX, read_frame(&mut socket, &mut input)).await;
        let Some(frame) = next.map_err(|_| ConnectionError::Idle)?? else { return Ok(()) };
        {
            let answer = dispatch::answer(&shared, &client, frame, &mut output);
            tokio::pin!(answer);
            // A client that goes away ends a wait (fetch, join) at once.
            loop {
                tokio::select! {
                    biased;
                    done = &mut answer => break done?,
                    closed = read_more(&mut socket, &mut input) => if closed? == 0 { return Ok(()) },
                }
            }
        }
        socket.write_all(&output).await?;
        output.clear();
        if output.capacity() > 1 << 20 {
            output = BytesMut::new();
        }
    }
}

/// Reads ahead while a request is worked on, but no more than a frame.
async fn read_more(socket: &mut TcpStream, input: &mut BytesMut) -> io::Result<usize> {
    if input.len() >= FRAME_BYTES_MAX {
        return std::future::pending().await;
    }
    input.reserve(4 << 10);
    socket.read_buf(input).await
}

/// `None` at the end of the stream between two frames.
async fn read_frame(socket: &mut TcpStream, input: &mut BytesMut) -> Result<Option<Bytes>, ConnectionError> {
    loop {
        if let Some(frame) = take_frame(input)? {
            return Ok(Some(frame));
        }
        // Grows with what arrives, never to what a length promises.
        input.reserve(16 << 10);
        if socket.read_buf(input).await? == 0 {
            return if input.is_empty() { Ok(None) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) };
        }
    }
}

fn take_frame(input: &mut BytesMut) -> Result<Option<Bytes>, ConnectionError> {
    let Some(size) = input.first_chunk::<4>().map(|b| i32::from_be_bytes(*b)) else { return Ok(None) };
    let len = usize::try_from(size).ok().filter(|n| *n <= FRAME_BYTES_MAX).ok_or(ConnectionError::FrameSize(size))?;
    if input.len() < 4 + len {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(len).freeze()))
}

/// Writes a frame around what `fill` appends.
pub fn put_frame<E>(out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    out.put_i32(0);
    fill(out)?;
    let len = i32::try_from(out.len() - start - 4).expect("an answer is bounded by FETCH_BYTES_MAX");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}
