//! The contract of log lines: series of what each service's lines carry, and `weir check logs`.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use weir_ingest::Ingest;
use weir_ingest::contract::{CONTRACT_FIELDS, ContractRow, Counts, carried_by_line};
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Labels, Sample, TenantId, Timestamp};

pub const EVERY: Duration = Duration::from_secs(15);
/// A longer line than a log should have; what is beyond is looked at as the next one.
const LINE_BYTES_MAX: u64 = 16 << 20;

#[derive(clap::Args)]
pub struct CheckLogsArgs {
    /// Least share of lines, 0 to 1, that is to carry each field.
    #[arg(long, default_value_t = 0.95, value_parser = share)]
    min: f64,
    /// What lines are to carry: json, trace_id, service, env, severity; all by default.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', value_parser = field)]
    require: Vec<usize>,
    /// The tenant whose services a server is asked for.
    #[arg(long, default_value = "anonymous")]
    tenant: String,
    /// Files of log lines, `-` for standard input, or the address of a weir, such as http://127.0.0.1:9090.
    #[arg(required = true, value_name = "FILE|URL")]
    from: Vec<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no share from 0 to 1"))
}

fn field(name: &str) -> Result<usize, String> {
    let found = CONTRACT_FIELDS.iter().position(|known| *known == name);
    found.ok_or_else(|| format!("`{name}` is not in the contract; there are {}", CONTRACT_FIELDS.join(", ")))
}

/// Status 1 when the lines of a file, or of one service of a server, keep less than asked for.
#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
pub fn check(args: &CheckLogsArgs) -> anyhow::Result<ExitCode> {
    let mut kept = true;
    for from in &args.from {
        let is_server = from.starts_with("http://") || from.starts_with("https://");
        let found = if is_server { ask(from, &args.tenant)? } else { vec![(from.clone(), read(from)?)] };
        if found.is_empty() {
            println!("{from}: no service has written a line in the last minutes");
        }
        for (name, counts) in found {
            let Some(shares) = counts.shares() else { bail!("{name}: there is no line in it") };
            let wanted = |idx: &usize| args.require.is_empty() || args.require.contains(idx);
            let shown = |idx: usize| format!("{} {:.1} %", CONTRACT_FIELDS[idx], shares[idx] * 100.0);
            let shares_text: Vec<String> = (0..shares.len()).map(shown).collect();
            println!("{name}: {} lines: {}", counts.lines, shares_text.join(", "));
            for idx in (0..shares.len()).filter(wanted).filter(|idx| shares[*idx] < args.min) {
                kept = false;
                let least = args.min * 100.0;
                println!("{name}: {}, which is less than the {least:.1} % asked for", shown(idx));
            }
        }
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(name: &str) -> anyhow::Result<Counts> {
    let input: Box<dyn std::io::Read> = match name {
        "-" => Box::new(std::io::stdin()),
        name => Box::new(std::fs::File::open(Path::new(name)).with_context(|| format!("open {name}"))?),
    };
    let mut input = std::io::BufReader::new(input);
    let (mut counts, mut line) = (Counts::default(), Vec::new());
    loop {
        line.clear();
        let mut part = std::io::Read::take(&mut input, LINE_BYTES_MAX);
        if part.read_until(b'\n', &mut line).with_context(|| format!("read {name}"))? == 0 {
            return Ok(counts);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if !text.is_empty() {
            counts.add(carried_by_line(text));
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    namespace: String,
    service: String,
    lines: u64,
    carrying: std::collections::BTreeMap<String, u64>,
}

fn ask(url: &str, tenant: &str) -> anyhow::Result<Vec<(String, Counts)>> {
    let mut address = url::Url::parse(url).with_context(|| url.to_owned())?;
    match address.path_segments_mut() {
        Ok(mut path) => path.pop_if_empty().extend(["api", "weir", "v1", "log-contract"]),
        Err(()) => bail!("{url}: give the base of a server, such as http://127.0.0.1:9090"),
    };
    let asked = async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let answer = client.get(address.clone()).header("X-Scope-OrgID", tenant).send().await?;
        let status = answer.status();
        anyhow::Ok((status, answer.bytes().await?))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body) = runtime.block_on(asked).with_context(|| format!("ask {address}"))?;
    if !status.is_success() {
        bail!("{address}: {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    let Answer { services } =
        serde_json::from_slice(&body).with_context(|| format!("{address}: not what weir says"))?;
    let of = |one: Service| {
        let carrying = CONTRACT_FIELDS.map(|name| one.carrying.get(name).copied().unwrap_or(0));
        let name = if one.namespace.is_empty() { one.service } else { format!("{}/{}", one.namespace, one.service) };
        (name, Counts { lines: one.lines, carrying })
    };
    Ok(services.into_iter().filter(|one| one.lines > 0).map(of).collect())
}

/// What lines carry, as series of each tenant.
pub fn series(ingest: &Ingest, now: Timestamp) -> Vec<(TenantId, MetricBatch)> {
    let rows = ingest.log_contracts().rows(now);
    let of_tenants = rows.chunk_by(|a, b| a.tenant == b.tenant);
    of_tenants.filter_map(|rows| Some((rows.first()?.tenant.clone(), of_tenant(rows, now)))).collect()
}

fn of_tenant(rows: &[ContractRow], now: Timestamp) -> MetricBatch {
    let mut batch = MetricBatch::default();
    let mut add = |labels: Labels, value: u64| {
        let samples = vec![Sample { at: now, value: value as f64 }];
        batch.series.push(SeriesBatch { labels, samples, ..SeriesBatch::default() });
    };
    for row in rows {
        let of = [("namespace", &*row.namespace), ("service", &*row.service)];
        let of = of.into_iter().filter(|(_, value)| !value.is_empty());
        let named = |name, more: Option<&'static str>| {
            let field = more.map(|field| ("field", field));
            Labels::from_pairs(of.clone().chain(field).chain([("__name__", name)]))
        };
        add(named("weir_log_contract_lines_total", None), row.total.lines);
        for (name, n) in CONTRACT_FIELDS.into_iter().zip(row.total.carrying) {
            add(named("weir_log_contract_carrying_lines_total", Some(name)), n);
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use weir_model::TenantId;

    use super::*;

    #[test]
    fn a_series_for_each_field_of_each_service() {
        let recent = Counts::default();
        let total = Counts { lines: 8, carrying: [8, 4, 2, 1, 0] };
        let row =
            ContractRow { tenant: TenantId::anonymous(), namespace: "".into(), service: "web".into(), recent, total };
        let batch = of_tenant(&[row], Timestamp(1));
        let shown: Vec<String> =
            batch.series.iter().map(|one| format!("{} {}", one.labels, one.samples[0].value)).collect();
        assert_eq!(shown.len(), 6);
        assert_eq!(shown[0], r#"weir_log_contract_lines_total{service="web"} 8"#);
        assert!(shown[2].contains(r#"field="trace_id""#) && shown[2].ends_with(" 4"), "{}", shown[2]);
    }
}
