//! What a drill demands, and how its observations meet it. Pure: the drill watches, this judges.

use serde::Serialize;
use serde_json::Value;

use crate::supervisor::{Thing, Truth};

/// A page later than this after the fault is too late.
pub const PAGE_MS_MAX: i64 = 10_000;
/// The right cause must stand first within this time after the fault.
pub const CAUSE_MS_MAX: i64 = 60_000;

/// The first cause of an incident, as the public API gives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    pub service: String,
    pub thing_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub score: f64,
    pub summary: String,
}

impl Answer {
    /// From one of an incident's `causes`; missing fields are empty.
    pub fn read(cause: &Value) -> Self {
        let thing = &cause["thing"];
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let number = |v: &Value| v.as_i64().or_else(|| v.as_str()?.parse().ok());
        Self {
            service: text(&cause["service"]).unwrap_or_default(),
            thing_type: text(&thing["type"]).unwrap_or_default(),
            statement: text(&thing["statement"]),
            group: text(&thing["group"]),
            topic: text(&thing["topic"]),
            partition: number(&thing["partition"]),
            version: text(&thing["version"]),
            score: cause["score"].as_f64().unwrap_or(0.0),
            summary: text(&cause["summary"]).unwrap_or_default(),
        }
    }

    /// The right service and the right thing.
    pub fn is_right(&self, truth: &Truth) -> bool {
        let is = |got: &Option<String>, want: &str| got.as_deref() == Some(want);
        let thing = match &truth.thing {
            Thing::Statement { table } => {
                self.thing_type == "statement"
                    && self.statement.as_deref().is_some_and(|s| words(s).any(|w| w == table))
            }
            Thing::Partition { group, topic, partition } => {
                self.thing_type == "partition"
                    && is(&self.group, group)
                    && is(&self.topic, topic)
                    && self.partition == Some(i64::from(*partition))
            }
            Thing::Version { version, .. } => self.thing_type == "version" && is(&self.version, version),
            Thing::None => false,
        };
        thing && self.service == truth.service
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// What was seen of one fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observed {
    pub fault: String,
    pub truth: Truth,
    pub injected_at: String,
    /// First page after the fault.
    pub page_after_ms: Option<i64>,
    /// Pages that rang from the fault until the next step.
    pub n_pages: usize,
    /// When an incident first named the right thing first.
    pub right_after_ms: Option<i64>,
    /// The last answer, right or wrong.
    pub answer: Option<Answer>,
    /// From healing until the pipeline was steady again.
    pub recovered_after_ms: Option<i64>,
}

impl Observed {
    /// What is wrong with it; empty when all is well but for the cause, which has its own quota.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        match self.page_after_ms {
            None => complaints.push(format!("{}: not paged", self.fault)),
            Some(ms) if ms > PAGE_MS_MAX => complaints.push(format!("{}: paged after {ms} ms", self.fault)),
            Some(_) => {}
        }
        if self.n_pages > 1 {
            complaints.push(format!("{}: {} pages for one fault", self.fault, self.n_pages));
        }
        if self.recovered_after_ms.is_none() {
            complaints.push(format!("{}: the pipeline was not steady again after healing", self.fault));
        }
        complaints
    }

    pub fn is_named(&self) -> bool {
        self.right_after_ms.is_some_and(|ms| ms <= CAUSE_MS_MAX)
    }
}

/// Pages in time when there should be none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quiet {
    /// A decoy's id, or `healthy`.
    pub during: String,
    pub seconds: f64,
    pub pages: Vec<String>,
}

/// The whole drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub passed: bool,
    pub n_faults: usize,
    pub n_found: usize,
    pub n_paged_in_time: usize,
    pub n_named: usize,
    pub reasons: Vec<String>,
}

/// Passed: every fault found and paged in time by one page, all but one in twelve named, and quiet otherwise.
pub fn judge(observed: &[Observed], quiet: &[Quiet]) -> Verdict {
    let mut reasons: Vec<String> = observed.iter().flat_map(Observed::complaints).collect();
    for time in quiet.iter().filter(|q| !q.pages.is_empty()) {
        reasons.push(format!("{}: paged without a fault: {}", time.during, time.pages.join("; ")));
    }
    let n_named = observed.iter().filter(|o| o.is_named()).count();
    let n_misses = observed.len() - n_named;
    if n_misses > observed.len() / 12 {
        for miss in observed.iter().filter(|o| !o.is_named()) {
            let got = miss
                .answer
                .as_ref()
                .map_or("nothing".to_owned(), |a| format!("{} {} ({})", a.service, a.thing_type, a.summary));
            reasons.push(format!("{}: the cause was not named in time; first was {got}", miss.fault));
        }
    }
    Verdict {
        passed: reasons.is_empty() && !observed.is_empty(),
        n_faults: observed.len(),
        n_found: observed.iter().filter(|o| o.page_after_ms.is_some()).count(),
        n_paged_in_time: observed.iter().filter(|o| o.page_after_ms.is_some_and(|ms| ms <= PAGE_MS_MAX)).count(),
        n_named,
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn truth(thing: Thing) -> Truth {
        Truth { service: "s".into(), thing }
    }

    #[track_caller]
    fn check(cause: Value, thing: Thing, want: bool) {
        assert_eq!(Answer::read(&cause).is_right(&truth(thing.clone())), want, "{cause} for {thing:?}");
    }

    #[test]
    fn an_answer_is_right_when_service_and_thing_are() {
        let statement = || Thing::Statement { table: "players".into() };
        let cause =
            |service: &str, text: &str| json!({"service": service, "thing": {"type": "statement", "statement": text}});
        check(cause("s", "SELECT name FROM players WHERE k = ?"), statement(), true);
        check(cause("s", "SELECT name FROM other_players"), statement(), false);
        check(cause("t", "SELECT name FROM players"), statement(), false);
        check(json!({"service": "s", "thing": {"type": "none"}}), statement(), false);

        let partition = || Thing::Partition { group: "g".into(), topic: "t".into(), partition: 2 };
        let cause = |group: &str, partition: Value| json!({"service": "s", "thing": {"type": "partition", "group": group, "topic": "t", "partition": partition}});
        check(cause("g", json!(2)), partition(), true);
        check(cause("g", json!("2")), partition(), true);
        check(cause("g", json!(1)), partition(), false);
        check(cause("h", json!(2)), partition(), false);

        let version = || Thing::Version { version: "1.2.3".into(), previous: "1.2.2".into() };
        let cause = |v: &str| json!({"service": "s", "thing": {"type": "version", "version": v}});
        check(cause("1.2.3"), version(), true);
        check(cause("1.2.2"), version(), false);
    }

    fn fine() -> Observed {
        Observed {
            fault: "f".into(),
            truth: truth(Thing::None),
            injected_at: String::new(),
            page_after_ms: Some(5_000),
            n_pages: 1,
            right_after_ms: Some(20_000),
            answer: None,
            recovered_after_ms: Some(9_000),
        }
    }

    /// Twelve faults, some of them changed, and whether that passes.
    #[track_caller]
    fn judged(n_changed: usize, change: impl Fn(&mut Observed), pages: &[&str], want: bool) {
        let mut observed = vec![fine(); 12];
        observed.iter_mut().take(n_changed).for_each(change);
        let pages = pages.iter().map(|p| (*p).to_owned()).collect();
        let verdict = judge(&observed, &[Quiet { during: "healthy".into(), seconds: 60.0, pages }]);
        assert_eq!(verdict.passed, want, "{:?}", verdict.reasons);
        assert_eq!(verdict.reasons.is_empty(), want);
    }

    #[test]
    fn the_bar_is_where_it_should_be() {
        judged(0, |_| {}, &[], true);
        judged(1, |o| o.page_after_ms = None, &[], false);
        judged(1, |o| o.page_after_ms = Some(10_000), &[], true);
        judged(1, |o| o.page_after_ms = Some(10_001), &[], false);
        judged(1, |o| o.n_pages = 2, &[], false);
        judged(1, |o| o.recovered_after_ms = None, &[], false);
        judged(1, |o| o.right_after_ms = None, &[], true);
        judged(1, |o| o.right_after_ms = Some(60_001), &[], true);
        judged(2, |o| o.right_after_ms = None, &[], false);
        judged(0, |_| {}, &["late"], false);
    }

    #[test]
    fn a_short_drill_forgives_no_miss_and_an_empty_one_fails() {
        let mut observed = vec![fine(); 4];
        observed[3].right_after_ms = None;
        assert!(!judge(&observed, &[]).passed);
        assert!(!judge(&[], &[]).passed);
    }
}
