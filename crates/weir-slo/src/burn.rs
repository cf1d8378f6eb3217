//! The arithmetic of error budgets: how fast one burns, how much is left, how long until somebody is paged.
//!
//! A budget of `1 - objective` of a period's events burns at rate 1 when it is used up exactly at the period's
//! end. Burning `share` of it within `long` is a rate of `share × period / long`: 2 % in an hour of 30 days is
//! 14.4, which empties the budget in 50 hours.
//! Source: Google's SRE workbook, "Alerting on SLOs", multi-window, multi-burn-rate.

use std::time::Duration;

use crate::slo::Slo;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Wakes somebody.
    Page,
    Ticket,
    Notice,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::Notice => "notice",
        }
    }
}

/// One alert of an objective: it fires while both windows burn faster than `factor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burn {
    pub severity: Severity,
    pub long: Duration,
    /// A twelfth of the long one: it ends the alert soon after the burning ends.
    pub short: Duration,
    pub factor: f64,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

impl Burn {
    /// `share` of a budget of `period` within `long`; never below the rate that keeps the objective.
    fn of(severity: Severity, long: u64, short: u64, share: f64, period: Duration) -> Self {
        let (long, short) = (Duration::from_secs(long), Duration::from_secs(short));
        Self { severity, long, short, factor: share * period.as_secs_f64() / long.as_secs_f64() }
    }

    /// Page above 14.4 over an hour, ticket above 6 over six hours, notice above 1 over three days: of 30 days.
    pub fn standard(period: Duration) -> Vec<Self> {
        vec![
            Self::of(Severity::Page, HOUR, 5 * MINUTE, 0.02, period),
            Self::of(Severity::Ticket, 6 * HOUR, 30 * MINUTE, 0.05, period),
            Self::of(Severity::Notice, 72 * HOUR, 6 * HOUR, 0.1, period),
        ]
    }

    /// As Sloth has it: two rates that page, two that open a ticket.
    pub fn sloth(period: Duration) -> Vec<Self> {
        vec![
            Self::of(Severity::Page, HOUR, 5 * MINUTE, 0.02, period),
            Self::of(Severity::Page, 6 * HOUR, 30 * MINUTE, 0.05, period),
            Self::of(Severity::Ticket, 24 * HOUR, 2 * HOUR, 0.1, period),
            Self::of(Severity::Ticket, 72 * HOUR, 6 * HOUR, 0.1, period),
        ]
    }

    /// The error ratio from which it fires.
    pub fn threshold(&self, objective: f64) -> f64 {
        self.factor * (1.0 - objective)
    }

    /// How long errors at `ratio` must last, from none before, until both windows are above the threshold.
    /// `None`: never.
    pub fn time_to_fire(&self, objective: f64, ratio: f64) -> Option<Duration> {
        let share = self.threshold(objective) / ratio;
        (share < 1.0).then(|| self.long.mul_f64(share))
    }
}

/// How the budget of a period stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Of the whole period's budget, at most 1; below 0 when it is overdrawn.
    pub budget_left: f64,
    /// Rate of the last hour; 1 uses the budget up exactly at the period's end.
    pub burn_rate: f64,
    /// Until nothing is left at this rate; `None`: never, `ZERO`: it is gone.
    pub exhausted_in: Option<Duration>,
}

impl Standing {
    /// `bad`: the error ratio since the period began, `elapsed` ago; `bad_now`: that of the last hour. What is
    /// still to come of the period is taken to bring as many events as what has passed.
    pub fn new(objective: f64, bad: f64, bad_now: f64, period: Duration, elapsed: Duration) -> Self {
        let budget = 1.0 - objective;
        let passed = (elapsed.as_secs_f64() / period.as_secs_f64()).min(1.0);
        let budget_left = 1.0 - bad / budget * passed;
        let burn_rate = bad_now / budget;
        let exhausted_in = match () {
            () if budget_left <= 0.0 => Some(Duration::ZERO),
            () if burn_rate > 0.0 => {
                let seconds = budget_left * period.as_secs_f64() / burn_rate;
                (seconds < 1e12).then(|| Duration::from_secs_f64(seconds))
            }
            () => None,
        };
        Self { budget_left, burn_rate, exhausted_in }
    }
}

impl Default for Timing {
    /// Scrapes and evaluations as they usually are.
    fn default() -> Self {
        let usual = Duration::from_secs(15);
        Self { scrape: usual, evaluation: usual, hold: Duration::ZERO, group_wait: Duration::ZERO }
    }
}

/// What passes between a failure and a page beside the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Until a sample tells of it: a scrape interval.
    pub scrape: Duration,
    /// Between two evaluations.
    pub evaluation: Duration,
    pub hold: Duration,
    pub group_wait: Duration,
}

/// How long a failure of a share of all events takes to page, in its parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageTime {
    pub ratio: f64,
    /// `None`: no page alert sees it.
    pub window: Option<Duration>,
    pub total: Option<Duration>,
}

/// For 100, 10 and 2 % errors, by the fastest page alert.
pub fn page_times(slo: &Slo, timing: &Timing) -> [PageTime; 3] {
    let burns = slo.burns();
    [1.0, 0.1, 0.02].map(|ratio| {
        let pages = burns.iter().filter(|b| b.severity == Severity::Page);
        let window = pages.filter_map(|b| b.time_to_fire(slo.objective, ratio)).min();
        let beside = timing.scrape + timing.evaluation + timing.hold + timing.group_wait;
        PageTime { ratio, window, total: window.map(|w| w + beside) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * 86_400)
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got}, not {want}");
    }

    #[test]
    fn rates_are_those_of_the_workbook() {
        let factors = |burns: Vec<Burn>| burns.iter().map(|b| b.factor).collect::<Vec<_>>();
        for (got, want) in factors(Burn::standard(days(30))).into_iter().zip([14.4, 6.0, 1.0]) {
            near(got, want);
        }
        for (got, want) in factors(Burn::sloth(days(30))).into_iter().zip([14.4, 6.0, 3.0, 1.0]) {
            near(got, want);
        }
        // Sloth's own table for 28 days.
        for (got, want) in factors(Burn::sloth(days(28))).into_iter().zip([13.44, 5.6, 2.8, 28.0 / 30.0]) {
            near(got, want);
        }
    }

    #[test]
    fn a_budget_that_burns_at_a_rate_is_empty_when_the_arithmetic_says() {
        let check = |objective: f64, bad: f64, now: f64, elapsed: u64, left: f64, hours: Option<f64>| {
            let standing = Standing::new(objective, bad, now, days(30), days(elapsed));
            near(standing.budget_left, left);
            match (standing.exhausted_in, hours) {
                (Some(got), Some(want)) => assert!((got.as_secs_f64() / 3600.0 - want).abs() < 1e-6, "{got:?} {want}"),
                (got, want) => assert_eq!((got, want), (None, None)),
            }
        };
        // 14.4 empties a full budget of 30 days in 50 hours; 1 in 30 days; 0 never.
        check(0.999, 0.0, 0.0144, 30, 1.0, Some(50.0));
        check(0.999, 0.0, 0.001, 30, 1.0, Some(720.0));
        check(0.999, 0.0, 0.0, 30, 1.0, None);
        check(0.99, 0.005, 0.01, 30, 0.5, Some(360.0));
        check(0.99, 0.02, 0.0, 30, -1.0, Some(0.0));
        // A calendar's month, ten days old: a third of the budget has been earned by a rate of 1.
        check(0.99, 0.01, 0.01, 10, 2.0 / 3.0, Some(480.0));
    }

    /// Against a simulation: errors begin, both windows are averaged second by second.
    #[test]
    fn time_to_fire_is_what_a_simulation_takes() {
        for objective in [0.99, 0.999, 0.9995] {
            for burn in Burn::standard(days(30)) {
                for ratio in [1.0, 0.1, 0.02, 0.002] {
                    let fires = |second: u64| {
                        let share = |w: Duration| (second.min(w.as_secs()) as f64) * ratio / w.as_secs_f64();
                        let threshold = burn.threshold(objective);
                        share(burn.long) > threshold && share(burn.short) > threshold
                    };
                    let want = (0..burn.long.as_secs() + 2).find(|s| fires(*s));
                    let got = burn.time_to_fire(objective, ratio);
                    let near = match (got, want) {
                        (Some(got), Some(want)) => (got.as_secs_f64() - want as f64).abs() <= 1.0,
                        (None, None) => true,
                        _ => false,
                    };
                    assert!(near, "{objective} {burn:?} {ratio}: {got:?}, not {want:?}");
                }
            }
        }
    }
}
