//! `ip("…")`: an address, a range or a network, looked for in labels and lines.

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpMatcher {
    first: IpAddr,
    last: IpAddr,
    source: String,
}

impl IpMatcher {
    /// `10.0.0.1`, `10.0.0.1-10.0.0.9`, `10.0.0.0/8`, and the same in IPv6.
    pub fn parse(source: &str) -> Option<Self> {
        let (first, last) = if let Some((address, bits)) = source.split_once('/') {
            network(IpAddr::from_str(address).ok()?, bits.parse().ok()?)?
        } else if let Some((first, last)) = source.split_once('-') {
            (IpAddr::from_str(first.trim()).ok()?, IpAddr::from_str(last.trim()).ok()?)
        } else {
            let address = IpAddr::from_str(source).ok()?;
            (address, address)
        };
        (first.is_ipv4() == last.is_ipv4() && first <= last).then(|| Self { first, last, source: source.to_owned() })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether any address written in the text is in the range: the longest run of an address'
    /// characters from where one may begin.
    pub fn matches_line(&self, line: &str) -> bool {
        let bytes = line.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let run = if begins_v4(&bytes[at..]) {
                bytes[at..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count()
            } else if begins_v6(&bytes[at..]) {
                bytes[at..].iter().take_while(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':')).count()
            } else {
                0
            };
            // All of these bytes are ASCII. A sentence's full stop may cling to an address.
            let word = line.get(at..at + run).unwrap_or("").trim_end_matches('.');
            if run > 0 && IpAddr::from_str(word).is_ok_and(|ip| self.contains(ip)) {
                return true;
            }
            at += run.max(1);
        }
        false
    }
}

/// One to three digits and a point.
fn begins_v4(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    (1..=3).contains(&digits) && bytes.get(digits) == Some(&b'.')
}

/// `::`, or one to four hexadecimal digits and a colon.
fn begins_v6(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take(5).take_while(|b| b.is_ascii_hexdigit()).count();
    match digits {
        0 => bytes.starts_with(b"::"),
        1..=4 => bytes.get(digits) == Some(&b':'),
        _ => false,
    }
}

fn network(address: IpAddr, bits: u32) -> Option<(IpAddr, IpAddr)> {
    match address {
        IpAddr::V4(v4) if bits <= 32 => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            let base = u32::from(v4) & !host;
            Some((IpAddr::from(base.to_be_bytes()), IpAddr::from((base | host).to_be_bytes())))
        }
        IpAddr::V6(v6) if bits <= 128 => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            let base = u128::from(v6) & !host;
            Some((IpAddr::from(base.to_be_bytes()), IpAddr::from((base | host).to_be_bytes())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_lines() {
        let check = |source: &str, line: &str, want: bool| {
            assert_eq!(IpMatcher::parse(source).unwrap().matches_line(line), want, "{source} in {line}");
        };
        check("10.0.0.0/8", "from 10.1.2.3 ok", true);
        check("10.0.0.0/8", "from 11.1.2.3 ok", false);
        check("10.0.0.1-10.0.0.9", "peer=10.0.0.5:8080.", true);
        check("10.0.0.1-10.0.0.9", "peer=10.0.0.10", false);
        check("192.168.0.1", "[192.168.0.1]", true);
        check("10.1.2.3", "host:10.1.2.3:80 said", true);
        check("10.0.0.5", "It was 10.0.0.5.", true);
        check("::1", "from ::1 x", true);
        check("2001:db8::/32", "2001:db8::42 -", true);
        check("0.0.0.0/0", "no address: 1.2.3", false);
    }

    #[test]
    fn nonsense_is_refused() {
        for source in ["", "10.0.0", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "::1-10.0.0.1"] {
            assert_eq!(IpMatcher::parse(source), None, "{source}");
        }
    }
}
