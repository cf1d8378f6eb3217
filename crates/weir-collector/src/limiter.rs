//! `memory_limiter`: refuses while memory is short, so that senders try again later.

use std::time::Duration;

use weir_model::Budget;
use weir_model::budget::BudgetExceeded;

use crate::config::Section;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterConfig {
    pub limit: Limit,
}

/// Above the soft limit, the limit less what may come at once, batches are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Bytes {
        soft: u64,
    },
    /// Of what weir may use.
    Percent {
        soft: u64,
    },
}

impl LimiterConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let interval = section.required("check_interval").and_then(|f| f.duration());
        if interval == Some(Duration::ZERO) {
            section.error("check_interval is zero; give 1s");
        }
        let (mib, percent) = (section.unsigned_or("limit_mib", 0), section.unsigned_or("limit_percentage", 0));
        let spike_mib = section.unsigned_or("spike_limit_mib", 0);
        let spike_percent = section.unsigned_or("spike_limit_percentage", 0);
        section.without_effect(
            &["min_gc_interval_when_soft_limited", "min_gc_interval_when_hard_limited"],
            "there is no garbage collection",
        );
        let less = |limit: u64, spike: u64| {
            let spike = if spike == 0 { limit / 5 } else { spike };
            if spike >= limit {
                section.error(format!("the spike limit {spike} is not below the limit {limit}"));
            }
            limit.saturating_sub(spike)
        };
        let limit = if mib > 0 {
            Limit::Bytes { soft: less(mib, spike_mib).saturating_mul(1 << 20) }
        } else if (1..=100).contains(&percent) {
            Limit::Percent { soft: less(percent, spike_percent) }
        } else {
            section.error("give limit_mib, or limit_percentage from 1 to 100");
            Limit::Percent { soft: 100 }
        };
        section.finish();
        Self { limit }
    }

    /// An error, with which senders try again, above the soft limit. `memory`: the account of the whole program.
    pub(crate) fn check(&self, memory: &Budget) -> Result<(), BudgetExceeded> {
        let soft = match self.limit {
            Limit::Bytes { soft } => soft,
            Limit::Percent { soft } => memory.limit_bytes() / 100 * soft,
        };
        let used_bytes = memory.used_bytes();
        if used_bytes <= soft {
            return Ok(());
        }
        Err(BudgetExceeded { account: "memory_limiter".to_owned(), used_bytes, limit_bytes: soft, asked_bytes: 0 })
    }
}
