//! Messages out of a stream of bytes.

/// Of one connection. Longer messages are cut, and the rest is passed over.
#[derive(Debug)]
pub struct Frames {
    framing: Option<Framing>,
    buffer: Vec<u8>,
    bytes_max: usize,
    /// Of a message that was cut: octets that are left, or everything up to its end.
    skip: Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    OctetCounting,
    /// Up to a newline or a NUL.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    Nothing,
    Octets(usize),
    Line,
}

/// Digits of a length; ten would be gigabytes.
const LENGTH_DIGITS_MAX: usize = 9;

/// The stream cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message begins with `{0}`, which is no count of octets; the connection is closed")]
pub struct FrameError(String);

impl Frames {
    pub fn new(bytes_max: usize) -> Self {
        Self { framing: None, buffer: Vec::new(), bytes_max: bytes_max.max(1), skip: Skip::Nothing }
    }

    /// Takes what came, and gives each whole message to `found`.
    pub fn push(&mut self, bytes: &[u8], mut found: impl FnMut(&[u8])) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        loop {
            let framing = *match rest.first() {
                None => break,
                Some(first) => self.framing.get_or_insert(if first.is_ascii_digit() {
                    Framing::OctetCounting
                } else {
                    Framing::Terminated
                }),
            };
            let next = match framing {
                Framing::OctetCounting => self.counted(rest, &mut found)?,
                Framing::Terminated => self.terminated(rest, &mut found),
            };
            match next {
                Some(n) => rest = &rest[n..],
                None => break,
            }
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    /// What is left when the connection ends.
    pub fn end(&mut self, mut found: impl FnMut(&[u8])) {
        let rest = std::mem::take(&mut self.buffer);
        if self.framing == Some(Framing::Terminated) && self.skip == Skip::Nothing && !rest.is_empty() {
            found(&rest);
        }
    }

    /// How many bytes were used; `None` when more must come.
    fn counted(&mut self, rest: &[u8], found: &mut impl FnMut(&[u8])) -> Result<Option<usize>, FrameError> {
        if let Skip::Octets(left) = self.skip {
            let n = left.min(rest.len());
            self.skip = if n == left { Skip::Nothing } else { Skip::Octets(left - n) };
            return Ok(Some(n));
        }
        // Some senders add a newline behind the message that they counted.
        if rest[0] == b'\n' {
            return Ok(Some(1));
        }
        let digits = rest.iter().take(LENGTH_DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
        let is_whole = digits < rest.len();
        if digits > LENGTH_DIGITS_MAX || is_whole && (digits == 0 || rest[digits] != b' ') {
            let shown = &rest[..rest.len().min(20)];
            return Err(FrameError(String::from_utf8_lossy(shown).into_owned()));
        }
        if !is_whole {
            return Ok(None);
        }
        let len = rest[..digits].iter().fold(0_usize, |len, b| len * 10 + usize::from(b - b'0'));
        let start = digits + 1;
        let wanted = len.min(self.bytes_max);
        let Some(message) = rest.get(start..start + wanted) else { return Ok(None) };
        if !message.is_empty() {
            found(message);
        }
        if len > wanted {
            self.skip = Skip::Octets(len - wanted);
        }
        Ok(Some(start + wanted))
    }

    fn terminated(&mut self, rest: &[u8], found: &mut impl FnMut(&[u8])) -> Option<usize> {
        let end = rest.iter().position(|b| matches!(b, b'\n' | 0));
        let is_skipping = self.skip == Skip::Line;
        match end {
            Some(end) => {
                self.skip = Skip::Nothing;
                let message = &rest[..end.min(self.bytes_max)];
                if !is_skipping && !message.is_empty() && message != b"\r" {
                    found(message);
                }
                Some(end + 1)
            }
            None if is_skipping => Some(rest.len()),
            None if rest.len() >= self.bytes_max => {
                found(&rest[..self.bytes_max]);
                self.skip = Skip::Line;
                Some(rest.len())
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(bytes_max: usize, parts: &[&[u8]]) -> Result<Vec<String>, FrameError> {
        let (mut frames, mut out) = (Frames::new(bytes_max), Vec::new());
        for part in parts {
            frames.push(part, |message| out.push(String::from_utf8_lossy(message).into_owned()))?;
        }
        frames.end(|message| out.push(String::from_utf8_lossy(message).into_owned()));
        Ok(out)
    }

    #[test]
    fn messages_are_told_apart() {
        let check = |bytes_max, text: &str, want: &[&str]| {
            assert_eq!(run(bytes_max, &[text.as_bytes()]).unwrap(), want, "{text}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(run(bytes_max, &bytes).unwrap(), want, "byte by byte: {text}");
        };
        check(100, "<1>a\n<2>b\n\n<3>c", &["<1>a", "<2>b", "<3>c"]);
        check(100, "<1>a\0<2>b\0", &["<1>a", "<2>b"]);
        check(100, "4 <1>a5 <2>b\n6 <3>cde", &["<1>a", "<2>b\n", "<3>cde"]);
        check(100, "4 <1>a\n4 <2>b\n", &["<1>a", "<2>b"]);
        check(100, "4 <1", &[]);
        check(4, "<1>abcdef\n<2>b\n", &["<1>a", "<2>b"]);
        check(4, "9 <1>abcdef4 <2>b", &["<1>a", "<2>b"]);
        assert!(run(100, &[b"4 <1>ax"]).unwrap_err().to_string().contains("`x`"));
        assert!(run(100, &[b"12345678901 x"]).is_err());
    }

    proptest! {
        #[test]
        fn parts_make_no_difference_and_memory_is_bounded(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..200), size in 1_usize..20) {
            let whole = run(16, &[&bytes]);
            let parts: Vec<&[u8]> = bytes.chunks(size).collect();
            let by_parts = run(16, &parts);
            prop_assert_eq!(whole.is_ok(), by_parts.is_ok());
            if let (Ok(whole), Ok(by_parts)) = (whole, by_parts) {
                prop_assert_eq!(whole, by_parts);
            }
        }
    }
}
