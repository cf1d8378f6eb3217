//! One connection to one broker: requests out, answers in, one at a time.

use std::time::Duration;

use ahash::AHashMap;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A broker that says nothing for so long is taken to be away.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Metadata of 100,000 partitions is some 10 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const CLIENT_ID: &str = "weir";

#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    #[error("cannot connect to {broker}: {source}")]
    Connect { broker: String, source: std::io::Error },
    #[error("connection to {broker} broke: {source}")]
    Io { broker: String, source: std::io::Error },
    #[error("{broker} did not answer within {} s", TIMEOUT.as_secs())]
    Timeout { broker: String },
    #[error("{broker} does not speak Kafka's protocol as expected: {reason}; is a TLS or SASL listener on that port?")]
    Protocol { broker: String, reason: String },
    #[error("{broker} answered {api:?} with {error}")]
    Refused { broker: String, api: ApiKey, error: kafka_protocol::ResponseError },
    #[error("{broker} does not support {api:?} in a version from {min} to {max}")]
    Version { broker: String, api: ApiKey, min: i16, max: i16 },
}

pub struct Connection {
    broker: String,
    stream: TcpStream,
    correlation_id: i32,
    /// Lowest and highest version per request.
    versions: AHashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects and asks which versions the broker speaks.
    pub async fn open(broker: &str) -> Result<Self, KafkaError> {
        let connecting = tokio::time::timeout(TIMEOUT, TcpStream::connect(broker)).await;
        let connected = connecting.map_err(|_| KafkaError::Timeout { broker: broker.to_owned() })?;
        let stream = connected.map_err(|source| KafkaError::Connect { broker: broker.to_owned(), source })?;
        stream.set_nodelay(true).map_err(|source| KafkaError::Io { broker: broker.to_owned(), source })?;
        let mut connection = Self { broker: broker.to_owned(), stream, correlation_id: 0, versions: AHashMap::new() };
        // Version 0 is understood by every broker, also by one that would refuse a newer one.
        connection.versions.insert(ApiKey::ApiVersions as i16, (0, 0));
        let known = connection.call(&ApiVersionsRequest::default(), 0, 0).await?;
        connection.check(ApiKey::ApiVersions, known.error_code)?;
        connection.versions = known.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        Ok(connection)
    }

    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The newest version of `R` that both sides speak, ours being `min` to `max`.
    pub fn version<R: Request>(&self, min: i16, max: i16) -> Result<i16, KafkaError> {
        let theirs = self.versions.get(&R::KEY).copied();
        let common = theirs.map(|(low, high)| (low.max(min), high.min(max))).filter(|(low, high)| low <= high);
        common.map(|(_, high)| high).ok_or_else(|| match ApiKey::try_from(R::KEY) {
            Ok(api) => KafkaError::Version { broker: self.broker.clone(), api, min, max },
            Err(()) => self.protocol("unknown request"),
        })
    }

    /// Sends `request` and waits for its answer. After an error the connection is of no use.
    pub async fn call<R: Request>(&mut self, request: &R, min: i16, max: i16) -> Result<R::Response, KafkaError> {
        let version = self.version::<R>(min, max)?;
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.encode(request, version)?;
        let exchanged = tokio::time::timeout(TIMEOUT, self.exchange(&frame)).await;
        let mut answer = exchanged.map_err(|_| KafkaError::Timeout { broker: self.broker.clone() })??;
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut answer, header_version).map_err(|e| self.protocol(e))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.protocol("an answer to another request"));
        }
        R::Response::decode(&mut answer, version).map_err(|e| self.protocol(e))
    }

    fn encode<R: Request>(&self, request: &R, version: i16) -> Result<BytesMut, KafkaError> {
        let mut frame = BytesMut::with_capacity(256);
        frame.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        header.encode(&mut frame, R::header_version(version)).map_err(|e| self.protocol(e))?;
        request.encode(&mut frame, version).map_err(|e| self.protocol(e))?;
        let len = i32::try_from(frame.len() - 4).map_err(|_| self.protocol("request too large"))?;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        Ok(frame)
    }

    async fn exchange(&mut self, frame: &[u8]) -> Result<Bytes, KafkaError> {
        let io = |source| KafkaError::Io { broker: self.broker.clone(), source };
        self.stream.write_all(frame).await.map_err(io)?;
        let mut input = BytesMut::with_capacity(4 << 10);
        loop {
            if let Some(len) = input.first_chunk::<4>().map(|b| i32::from_be_bytes(*b)) {
                let len = usize::try_from(len).ok().filter(|len| *len <= ANSWER_BYTES_MAX);
                let len = len.ok_or_else(|| self.protocol("an answer of impossible size"))?;
                if input.len() >= 4 + len {
                    input.advance(4);
                    return Ok(input.split_to(len).freeze());
                }
            }
            input.reserve(16 << 10);
            if self.stream.read_buf(&mut input).await.map_err(io)? == 0 {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn protocol(&self, reason: impl std::fmt::Display) -> KafkaError {
        KafkaError::Protocol { broker: self.broker.clone(), reason: reason.to_string() }
    }

    /// An answer's error code as an error.
    pub fn check(&self, api: ApiKey, code: i16) -> Result<(), KafkaError> {
        match kafka_protocol::ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(error) => Err(KafkaError::Refused { broker: self.broker.clone(), api, error }),
        }
    }
}
