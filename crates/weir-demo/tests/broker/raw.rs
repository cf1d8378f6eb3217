//! Frames made by hand: what no client library sends.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::start_broker;

fn frame<R: Request>(request: &R, version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    header.with_correlation_id(7).encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    framed(&body)
}

fn framed(body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put_slice(body);
    frame
}

/// The answer, or `None` when the broker closed the connection.
async fn exchange(socket: &mut TcpStream, frame: &[u8]) -> Option<Bytes> {
    socket.write_all(frame).await.ok()?;
    let len = tokio::time::timeout(std::time::Duration::from_secs(10), socket.read_i32()).await.unwrap().ok()?;
    let mut answer = vec![0; usize::try_from(len).unwrap()];
    socket.read_exact(&mut answer).await.ok()?;
    Some(answer.into())
}

fn decode<R: Request>(mut answer: Bytes, version: i16) -> R::Response {
    let header = <R::Response as HeaderVersion>::header_version(version);
    assert_eq!(ResponseHeader::decode(&mut answer, header).unwrap().correlation_id, 7);
    let response = R::Response::decode(&mut answer, version).unwrap();
    assert!(!answer.has_remaining());
    response
}

async fn still_answers(address: &str) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    for version in 0..=4 {
        let answer = exchange(&mut socket, &frame(&ApiVersionsRequest::default(), version)).await.unwrap();
        let known: ApiVersionsResponse = decode::<ApiVersionsRequest>(answer, version);
        assert_eq!(known.error_code, 0);
    }
    for version in 0..=12 {
        let request = MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
        let answer = exchange(&mut socket, &frame(&request, version)).await.unwrap();
        let known: MetadataResponse = decode::<MetadataRequest>(answer, version);
        assert_eq!(known.topics.len(), 1, "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_the_future_is_told_what_there_is() {
    let broker = start_broker(|o| o.topics = vec![("t".to_owned(), 1)]).await;
    let mut socket = TcpStream::connect(&broker.address).await.unwrap();
    let mut body = BytesMut::new();
    body.put_i16(ApiKey::ApiVersions as i16);
    body.put_i16(99);
    body.put_i32(7);
    body.put_slice(b"\x00\x01xwhatever version 99 has here");
    let answer = exchange(&mut socket, &framed(&body)).await.unwrap();
    let known: ApiVersionsResponse = decode::<ApiVersionsRequest>(answer, 0);
    assert_eq!(known.error_code, kafka_protocol::ResponseError::UnsupportedVersion.code());
    let own = known.api_keys.iter().find(|k| k.api_key == ApiKey::ApiVersions as i16).unwrap();
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // On the same connection it asks again.
    let answer = exchange(&mut socket, &frame(&ApiVersionsRequest::default(), 4)).await.unwrap();
    assert_eq!(decode::<ApiVersionsRequest>(answer, 4).error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_close_their_connection_and_nothing_else() {
    let broker = start_broker(|o| o.topics = vec![("t".to_owned(), 1)]).await;
    let good = frame(&MetadataRequest::default().with_topics(None), 12);
    let mut hostile_array = BytesMut::new();
    for part in [ApiKey::Metadata as i16, 1] {
        hostile_array.put_i16(part);
    }
    hostile_array.put_i32(7);
    hostile_array.put_i16(-1);
    hostile_array.put_i32(i32::MAX);
    let mut cut = good.to_vec();
    cut.truncate(good.len() - 3);
    let n = i32::try_from(cut.len() - 4).unwrap();
    cut[..4].copy_from_slice(&n.to_be_bytes());
    let frames: [(&str, Vec<u8>); 7] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("negative size", (-5_i32).to_be_bytes().to_vec()),
        ("too short", framed(b"\x00\x03").to_vec()),
        ("unknown request", framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 7, 0, 0]).to_vec()),
        ("an array of two billion", framed(&hostile_array).to_vec()),
        ("cut off", cut),
    ];
    for (what, bytes) in frames {
        let mut socket = TcpStream::connect(&broker.address).await.unwrap();
        assert!(exchange(&mut socket, &bytes).await.is_none(), "{what}");
        still_answers(&broker.address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_to_a_good_frame_never_end_the_broker() {
    let broker = start_broker(|o| o.topics = vec![("t".to_owned(), 1)]).await;
    let good = frame(&MetadataRequest::default().with_topics(None), 12);
    for seed in 0..300_usize {
        let mut bytes = good.to_vec();
        let at = 4 + seed % (bytes.len() - 4);
        bytes[at] = bytes[at].wrapping_add(1 + (seed * 37 % 255) as u8);
        let mut socket = TcpStream::connect(&broker.address).await.unwrap();
        // Some changes leave a valid request of another kind, which may wait: only the write matters.
        socket.write_all(&bytes).await.unwrap();
    }
    still_answers(&broker.address).await;
}
