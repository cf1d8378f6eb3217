//! Targets from DNS records. Source: Prometheus `discovery/dns`.

pub mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::Found;
use super::group::{TargetGroup, host_port};
use crate::config::{DnsSd, DnsType};
use wire::{Answer, Record};

/// For one server to answer one question.
const ANSWER_IN: Duration = Duration::from_secs(5);

/// Whom to ask, and under which names.
pub(super) struct Resolver {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<String>,
    pub ndots: usize,
}

pub(super) async fn run(config: &DnsSd, found: &Found) {
    loop {
        let resolver = match std::fs::read_to_string("/etc/resolv.conf") {
            Ok(text) => Resolver::parse(&text),
            Err(error) => {
                found.failed("dns", format!("cannot read /etc/resolv.conf: {error}"));
                Resolver::parse("")
            }
        };
        refresh(config, &resolver, found).await;
        tokio::time::sleep(config.refresh_interval).await;
    }
}

/// A name that cannot be looked up keeps its last targets.
async fn refresh(config: &DnsSd, resolver: &Resolver, found: &Found) {
    let mut error = None;
    for name in &config.names {
        match resolver.lookup(name, config.kind).await {
            Ok(records) => found.set(name, Some(group(config, name, &records))),
            Err(text) => error = Some(format!("{name}: {text}")),
        }
    }
    match error {
        Some(text) => found.failed("dns", text),
        None => found.worked(),
    }
}

fn group(config: &DnsSd, name: &str, records: &[Record]) -> TargetGroup {
    // Without the dot at the end, as people write names.
    let plain = |name: &str| name.trim_end_matches('.').to_owned();
    let target = |record: &Record| {
        let mut labels = BTreeMap::from([("__meta_dns_name".to_owned(), name.to_owned())]);
        let mut set = |name: &str, value: String| drop(labels.insert(name.to_owned(), value));
        let address = match (record, config.kind) {
            (Record::Srv { port, target }, DnsType::Srv) => {
                set("__meta_dns_srv_record_target", target.clone());
                set("__meta_dns_srv_record_port", port.to_string());
                host_port(&plain(target), port)
            }
            (Record::Mx(target), DnsType::Mx) => {
                set("__meta_dns_mx_record_target", target.clone());
                host_port(&plain(target), config.port)
            }
            (Record::Ns(target), DnsType::Ns) => {
                set("__meta_dns_ns_record_target", target.clone());
                host_port(&plain(target), config.port)
            }
            (Record::Address(ip), DnsType::A | DnsType::Aaaa) => host_port(&ip.to_string(), config.port),
            // An alias on the way to the answer.
            _ => return None,
        };
        set("__address__", address);
        Some(labels)
    };
    TargetGroup {
        source: name.to_owned(),
        labels: BTreeMap::new(),
        targets: records.iter().filter_map(target).collect(),
    }
}

impl Resolver {
    /// From the text of a `resolv.conf`; what it does not say is as resolvers have it.
    fn parse(text: &str) -> Self {
        let mut out = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    out.servers.extend(ip.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search" | "domain") => out.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    out.ndots = ndots.unwrap_or(out.ndots);
                }
                _ => {}
            }
        }
        if out.servers.is_empty() {
            out.servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
        out
    }

    /// The names to ask for, in order.
    fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let absolute = format!("{name}.");
        let searched = self.search.iter().map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
        if name.matches('.').count() >= self.ndots {
            std::iter::once(absolute).chain(searched).collect()
        } else {
            searched.chain([absolute]).collect()
        }
    }

    async fn lookup(&self, name: &str, kind: DnsType) -> Result<Vec<Record>, String> {
        let mut last = Err("no server answered".to_owned());
        for name in self.names(name) {
            match self.ask_all(&name, kind).await {
                Ok(Answer { name_exists: true, records, .. }) if !records.is_empty() => return Ok(records),
                // The name is there without such records, or is not there: an answer all the same.
                Ok(_) => last = Ok(Vec::new()),
                Err(error) => {
                    last = Err(error);
                    break;
                }
            }
        }
        last
    }

    async fn ask_all(&self, name: &str, kind: DnsType) -> Result<Answer, String> {
        let mut error = "no server is configured".to_owned();
        for server in &self.servers {
            match tokio::time::timeout(ANSWER_IN, ask(*server, name, kind)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(text)) => error = format!("{server}: {text}"),
                Err(_) => error = format!("{server}: no answer in {} s", ANSWER_IN.as_secs()),
            }
        }
        Err(error)
    }
}

/// Over UDP, and over TCP when the answer was cut.
async fn ask(server: SocketAddr, name: &str, kind: DnsType) -> Result<Answer, String> {
    // Unpredictable enough to tell a late answer from this one; the port is drawn by the system.
    let id = std::hash::BuildHasher::hash_one(&ahash::RandomState::new(), name) as u16;
    let question = wire::question(id, name, kind)?;
    let io = |e: std::io::Error| e.to_string();
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(io)?;
    socket.connect(server).await.map_err(io)?;
    socket.send(&question).await.map_err(io)?;
    let mut buffer = [0; 4096];
    let answer = loop {
        let n = socket.recv(&mut buffer).await.map_err(io)?;
        let answer = wire::parse_answer(&buffer[..n])?;
        if answer.id == id {
            break answer;
        }
    };
    if !answer.is_cut {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server).await.map_err(io)?;
    let mut framed = u16::try_from(question.len()).map_err(|_| "the question is too long")?.to_be_bytes().to_vec();
    framed.extend(&question);
    stream.write_all(&framed).await.map_err(io)?;
    let n = stream.read_u16().await.map_err(io)?;
    let mut body = vec![0; usize::from(n)];
    stream.read_exact(&mut body).await.map_err(io)?;
    wire::parse_answer(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    #[test]
    fn names_follow_the_search_list() {
        let resolver = Resolver::parse("# x\nnameserver 10.0.0.1\nsearch ns.svc cluster.local\noptions ndots:2\n");
        assert_eq!(resolver.servers, ["10.0.0.1:53".parse().unwrap()]);
        assert_eq!(resolver.names("a"), ["a.ns.svc.", "a.cluster.local.", "a."]);
        assert_eq!(resolver.names("a.b.c"), ["a.b.c.", "a.b.c.ns.svc.", "a.b.c.cluster.local."]);
        assert_eq!(resolver.names("a."), ["a."]);
    }

    /// A server that answers SRV over TCP only, and nothing for other names.
    async fn server() -> SocketAddr {
        // Both protocols on one port, drawn until both are free.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (n, peer) = udp.recv_from(&mut buffer).await.unwrap();
                let is_known = buffer[..n].windows(5).any(|w| w == b"\x04svc1");
                let flags = if is_known { [0x83, 0x00] } else { [0x81, 0x83] };
                let mut out = buffer[..n].to_vec();
                out[2..4].copy_from_slice(&flags);
                udp.send_to(&out, peer).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let n = stream.read_u16().await.unwrap();
                let mut question = vec![0; usize::from(n)];
                stream.read_exact(&mut question).await.unwrap();
                question[2..4].copy_from_slice(&[0x81, 0x80]);
                question[6..8].copy_from_slice(&[0, 1]);
                // Without the additional record, which would stand behind the answer.
                question.truncate(question.len() - 11);
                question[10..12].copy_from_slice(&[0, 0]);
                // Name by pointer, SRV, IN, TTL, length, priority, weight, port 9100, target `n.` + question's name.
                question
                    .extend(b"\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x3c\x00\x0a\x00\x00\x00\x00\x23\x8c\x01n\xc0\x0c");
                stream.write_u16(question.len() as u16).await.unwrap();
                stream.write_all(&question).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn records_become_targets() {
        let resolver = Resolver { servers: vec![server().await], search: vec!["test".to_owned()], ndots: 1 };
        let found = Found::new(Arc::new(Notify::new()));
        let config = DnsSd {
            names: vec!["svc1".to_owned(), "gone.test.".to_owned()],
            kind: DnsType::Srv,
            port: 0,
            refresh_interval: Duration::from_secs(30),
        };
        refresh(&config, &resolver, &found).await;
        assert_eq!(found.error(), "");
        let [gone, svc] = &found.groups()[..] else { panic!("two groups") };
        assert_eq!(gone.targets, []);
        let want = [
            ("__address__", "n.svc1.test:9100"),
            ("__meta_dns_name", "svc1"),
            ("__meta_dns_srv_record_port", "9100"),
            ("__meta_dns_srv_record_target", "n.svc1.test."),
        ];
        assert_eq!(svc.targets, [want.map(|(n, v)| (n.to_owned(), v.to_owned())).into_iter().collect()]);
    }
}
