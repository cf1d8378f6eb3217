//! How much memory the program may take: `--memory-limit`, else 60 % of what the control group or
//! the machine has.

use std::fs;

use anyhow::{Context, bail};

/// Share of the limit, in percent, that weir's own accounts may take; the rest is for buffers of
/// the kernel, the allocator's slack and whatever is not accounted.
const SHARE_PERCENT: u64 = 60;
/// When neither the control group nor the kernel says.
const FALLBACK_BYTES: u64 = 4 << 30;

/// `512MiB`, `2GiB`, `1500000000`.
pub fn parse_bytes(text: &str) -> anyhow::Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().with_context(|| format!("`{text}` does not begin with a number"))?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        other => bail!("unknown unit `{other}` in `{text}`: use KiB, MiB or GiB"),
    };
    number.checked_mul(unit).with_context(|| format!("`{text}` is too large"))
}

pub fn default_limit_bytes() -> u64 {
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let limit = [group, machine].into_iter().flatten().min().unwrap_or(FALLBACK_BYTES);
    limit / 100 * SHARE_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, want) in [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("1500", 1500), ("3K", 3072)] {
            assert_eq!(parse_bytes(text).unwrap(), want, "{text}");
        }
        for bad in ["", "MiB", "5 parsecs", "99999999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
