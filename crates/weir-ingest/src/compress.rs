//! Decompression with a hard limit on what comes out.

use std::borrow::Cow;
use std::io::Read;

use crate::DecodeError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    /// Snappy's block format, as remote write and Loki's protobuf push use it.
    SnappyBlock,
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    /// From a `Content-Encoding` header; `None` for an unknown one.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "snappy" => Self::SnappyBlock,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// The plain bytes; more than `limit_bytes` of them is an error, found without holding them.
pub fn decompress(encoding: Encoding, body: &[u8], limit_bytes: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let too_large = || DecodeError::TooLarge { what: "the decompressed body", limit_bytes };
    match encoding {
        Encoding::Identity if body.len() > limit_bytes => Err(too_large()),
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::SnappyBlock => {
            let bad = |e: snap::Error| DecodeError::at_byte("snappy block", 0, e.to_string());
            // The length stands in front: a bomb is refused before it is unpacked.
            if snap::raw::decompress_len(body).map_err(bad)? > limit_bytes {
                return Err(too_large());
            }
            snap::raw::Decoder::new().decompress_vec(body).map(Cow::Owned).map_err(bad)
        }
        Encoding::Gzip => read_up_to(flate2::read::MultiGzDecoder::new(body), "gzip", limit_bytes),
        Encoding::Deflate => {
            // HTTP's `deflate` is zlib (RFC 9110 §8.4.1.2); old clients send the bare stream.
            read_up_to(flate2::read::ZlibDecoder::new(body), "deflate", limit_bytes).or_else(|e| match e {
                DecodeError::TooLarge { .. } => Err(e),
                _ => read_up_to(flate2::read::DeflateDecoder::new(body), "deflate", limit_bytes),
            })
        }
        Encoding::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::new(body).map_err(|e| DecodeError::at_byte("zstd", 0, e.to_string()))?;
            read_up_to(decoder, "zstd", limit_bytes)
        }
    }
}

/// Like [`decompress`], into a buffer that is used again; its first bytes, as many as are answered, are the
/// plain body.
pub(crate) fn decompress_into(
    encoding: Encoding,
    body: &[u8],
    limit_bytes: usize,
    buffer: &mut Vec<u8>,
) -> Result<usize, DecodeError> {
    if encoding != Encoding::SnappyBlock {
        let plain = decompress(encoding, body, limit_bytes)?;
        buffer.clear();
        buffer.extend_from_slice(&plain);
        return Ok(buffer.len());
    }
    let bad = |e: snap::Error| DecodeError::at_byte("snappy block", 0, e.to_string());
    let len = snap::raw::decompress_len(body).map_err(bad)?;
    if len > limit_bytes {
        return Err(DecodeError::TooLarge { what: "the decompressed body", limit_bytes });
    }
    // Only growth is zeroed.
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    snap::raw::Decoder::new().decompress(body, &mut buffer[..len]).map_err(bad)
}

fn read_up_to(reader: impl Read, format: &'static str, limit_bytes: usize) -> Result<Cow<'static, [u8]>, DecodeError> {
    let mut out = Vec::new();
    let read = reader.take(limit_bytes as u64 + 1).read_to_end(&mut out);
    if out.len() > limit_bytes {
        return Err(DecodeError::TooLarge { what: "the decompressed body", limit_bytes });
    }
    match read {
        Ok(_) => Ok(Cow::Owned(out)),
        Err(e) => Err(DecodeError::Malformed {
            format,
            place: format!("after {} decompressed bytes", out.len()),
            reason: e.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn pack(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::SnappyBlock => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            Encoding::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(plain, 1).unwrap(),
        }
    }

    const ALL: [Encoding; 5] =
        [Encoding::Identity, Encoding::SnappyBlock, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let plain = vec![0u8; 1 << 20];
        for encoding in ALL {
            let packed = pack(encoding, &plain);
            assert_eq!(decompress(encoding, &packed, 1 << 20).unwrap().len(), 1 << 20, "{encoding:?}");
            let got = decompress(encoding, &packed, (1 << 20) - 1);
            assert!(matches!(got, Err(DecodeError::TooLarge { .. })), "{encoding:?}");
        }
        // A snappy header that claims 4 GiB.
        let got = decompress(Encoding::SnappyBlock, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 1 << 20);
        assert!(matches!(got, Err(DecodeError::TooLarge { .. })));
    }

    #[test]
    fn truncated_input_is_an_error() {
        for encoding in &ALL[1..] {
            let packed = pack(*encoding, &b"hello world, hello world".repeat(20));
            let got = decompress(*encoding, &packed[..packed.len() / 2], 1 << 20);
            assert!(matches!(got, Err(DecodeError::Malformed { .. })), "{encoding:?} {got:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for encoding in ALL {
                let _ = decompress(encoding, &body, 1000);
            }
        }
    }
}
