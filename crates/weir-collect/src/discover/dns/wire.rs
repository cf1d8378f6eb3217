//! Questions and answers on the wire. Source: RFC 1035, RFC 2782, RFC 3596.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::DnsType;

/// Records beyond this are left out: no service is that wide.
const RECORDS_MAX: usize = 20_000;
/// Labels of a name, pointers included; RFC 1035 allows 127.
const STEPS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: u16,
    /// The server had more than fits; ask over TCP.
    pub is_cut: bool,
    pub name_exists: bool,
    pub records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Address(IpAddr),
    Srv { port: u16, target: String },
    Mx(String),
    Ns(String),
}

fn code(kind: DnsType) -> u16 {
    match kind {
        DnsType::A => 1,
        DnsType::Ns => 2,
        DnsType::Mx => 15,
        DnsType::Aaaa => 28,
        DnsType::Srv => 33,
    }
}

/// A question for `name`, which ends with a dot; recursion desired, answers up to 4 KiB over UDP.
pub(super) fn question(id: u16, name: &str, kind: DnsType) -> Result<Vec<u8>, String> {
    let mut out = Vec::from(id.to_be_bytes());
    // Flags, then the counts of questions, answers, authorities and additional records.
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.trim_end_matches('.').split('.').filter(|_| name != ".") {
        match u8::try_from(label.len()) {
            Ok(n @ 1..=63) => out.push(n),
            _ => return Err(format!("`{name}` is no name: each part has 1 to 63 bytes")),
        }
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() > 12 + 255 {
        return Err(format!("`{name}` is longer than 255 bytes"));
    }
    out.extend(code(kind).to_be_bytes());
    out.extend([0, 1]);
    // EDNS0: the root, type OPT, payload size.
    out.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    Ok(out)
}

/// The answer section of a message; records of other types are passed over.
pub fn parse_answer(message: &[u8]) -> Result<Answer, String> {
    let mut at = Reader { message, at: 0 };
    let (id, flags) = (at.u16()?, at.u16()?);
    let (n_questions, n_answers) = (at.u16()?, at.u16()?);
    at.at += 4;
    let name_exists = match flags & 0x0f {
        0 => true,
        3 => false,
        code => return Err(format!("the server answered with code {code}")),
    };
    for _ in 0..n_questions {
        at.name()?;
        at.at += 4;
    }
    let mut records = Vec::new();
    let is_cut = flags & 0x0200 != 0;
    for _ in 0..n_answers {
        if is_cut || records.len() >= RECORDS_MAX {
            break;
        }
        at.name()?;
        let kind = at.u16()?;
        at.at += 6;
        let length = usize::from(at.u16()?);
        let data = at.at;
        let end = data + length;
        records.extend(match (kind, length) {
            (1, 4) => Some(Record::Address(IpAddr::V4(Ipv4Addr::from(at.bytes::<4>()?)))),
            (28, 16) => Some(Record::Address(IpAddr::V6(Ipv6Addr::from(at.bytes::<16>()?)))),
            (33, 7..) => {
                at.at += 4;
                let port = at.u16()?;
                Some(Record::Srv { port, target: at.name()? })
            }
            (15, 3..) => {
                at.at += 2;
                Some(Record::Mx(at.name()?))
            }
            (2, 1..) => Some(Record::Ns(at.name()?)),
            _ => None,
        });
        at.at = end;
    }
    Ok(Answer { id, is_cut, name_exists, records })
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let found = self.message.get(self.at..self.at + N).and_then(|b| b.try_into().ok());
        self.at += N;
        found.ok_or_else(|| format!("the answer is cut at byte {}", self.message.len()))
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.bytes::<2>().map(u16::from_be_bytes)
    }

    /// With a dot at the end; the position moves past the name as it stands here.
    fn name(&mut self) -> Result<String, String> {
        let mut out = String::new();
        let mut after = None;
        for _ in 0..STEPS_MAX {
            let [n] = self.bytes::<1>()?;
            match n {
                0 => {
                    self.at = after.unwrap_or(self.at);
                    return Ok(if out.is_empty() { ".".to_owned() } else { out });
                }
                1..=63 => {
                    let label = self.message.get(self.at..self.at + usize::from(n)).ok_or("a name is cut")?;
                    out.push_str(&String::from_utf8_lossy(label));
                    out.push('.');
                    self.at += usize::from(n);
                }
                0xc0.. => {
                    let [low] = self.bytes::<1>()?;
                    after = after.or(Some(self.at));
                    self.at = usize::from(n & 0x3f) << 8 | usize::from(low);
                }
                _ => return Err(format!("a name has a part of kind {n}")),
            }
        }
        Err("a name points in circles".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_messages_are_errors() {
        let check = |message: &[u8], want: &str| {
            let got = parse_answer(message).unwrap_err();
            assert!(got.contains(want), "{got}");
        };
        check(b"\0\x01", "cut at byte 2");
        check(b"\0\x01\x81\x82\0\0\0\0\0\0\0\0", "code 2");
        // A name that points at itself.
        check(b"\0\x01\x81\x80\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01", "in circles");
        check(b"\0\x01\x81\x80\0\0\0\x01\0\0\0\0\x05abc", "a name is cut");
    }

    #[test]
    fn questions_have_bounds() {
        assert!(question(1, &format!("{}.", "a".repeat(64)), DnsType::A).is_err());
        assert!(question(1, &"a.".repeat(140), DnsType::A).is_err());
        let name = b"\x01a\x02bc\0\0\x1c\0\x01";
        assert!(question(1, "a.bc.", DnsType::Aaaa).unwrap().windows(name.len()).any(|w| w == name));
    }
}
