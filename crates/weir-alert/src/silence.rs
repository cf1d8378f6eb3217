//! Silences: matchers and a time in which what they match notifies nobody.
//!
//! Source: Alertmanager `silence/silence.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_model::{Labels, MatchOp, Matcher, Timestamp, matcher::all_match};

/// Silences of one tenant at once.
const SILENCES_MAX: usize = 10_000;

#[derive(Clone, Debug)]
pub struct Silence {
    pub id: String,
    pub matchers: Vec<Matcher>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceState {
    Active,
    Pending,
    Expired,
}

impl SilenceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if self.ends_at <= now {
            SilenceState::Expired
        } else if self.starts_at > now {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }
}

/// A silence as posted.
#[derive(Clone, Debug)]
pub struct SilenceRequest {
    /// Of the one to change.
    pub id: Option<String>,
    pub matchers: Vec<Matcher>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    #[error("silence {id} not found")]
    NotFound { id: String },
    #[error("invalid silence: start time must be before end time")]
    EndsBeforeStart,
    #[error("invalid silence: end time can't be in the past")]
    Over,
    #[error("invalid silence: at least one matcher required")]
    NoMatcher,
    #[error("invalid silence: at least one matcher must not match the empty string")]
    MatchesEverything,
    #[error("more than {SILENCES_MAX} silences; expire some")]
    TooMany,
}

#[derive(Default)]
pub(crate) struct Silences(BTreeMap<String, Silence>);

impl Silences {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn all(&self) -> Vec<Silence> {
        self.0.values().cloned().collect()
    }

    /// Ids of active silences that match.
    pub fn muting(&self, labels: &Labels, now: Timestamp) -> Vec<String> {
        let active = self.0.values().filter(|s| s.state(now) == SilenceState::Active);
        active.filter(|s| all_match(&s.matchers, labels)).map(|s| s.id.clone()).collect()
    }

    /// `fresh`: the id of a new silence. In place only where that hides nothing that happened: same
    /// matchers and a legal move in time; otherwise the old one expires and a new one begins.
    pub fn set(&mut self, request: SilenceRequest, fresh: String, now: Timestamp) -> Result<String, SilenceError> {
        if request.matchers.is_empty() {
            return Err(SilenceError::NoMatcher);
        }
        if request.matchers.iter().all(accepts_empty) {
            return Err(SilenceError::MatchesEverything);
        }
        if request.ends_at <= request.starts_at {
            return Err(SilenceError::EndsBeforeStart);
        }
        if request.ends_at <= now {
            return Err(SilenceError::Over);
        }
        let mut silence = Silence {
            id: fresh,
            matchers: request.matchers,
            starts_at: request.starts_at.max(now),
            ends_at: request.ends_at,
            updated_at: now,
            created_by: request.created_by,
            comment: request.comment,
        };
        if let Some(id) = request.id.filter(|id| !id.is_empty()) {
            let old = self.0.get(&id).ok_or(SilenceError::NotFound { id: id.clone() })?;
            let in_place = old.matchers == silence.matchers
                && match old.state(now) {
                    SilenceState::Active => request.starts_at == old.starts_at,
                    SilenceState::Pending => request.starts_at >= now,
                    SilenceState::Expired => false,
                };
            if in_place {
                silence.id = id.clone();
                silence.starts_at = request.starts_at;
            } else {
                self.expire(&id, now);
            }
        } else if self.0.len() >= SILENCES_MAX {
            return Err(SilenceError::TooMany);
        }
        let id = silence.id.clone();
        self.0.insert(id.clone(), silence);
        Ok(id)
    }

    /// Whether it is known.
    pub fn expire(&mut self, id: &str, now: Timestamp) -> bool {
        let Some(silence) = self.0.get_mut(id) else { return false };
        if silence.ends_at > now {
            silence.starts_at = silence.starts_at.min(now);
            silence.ends_at = now;
            silence.updated_at = now;
        }
        true
    }

    /// Ids of those that are forgotten.
    pub fn collect_garbage(&mut self, now: Timestamp, retention: Duration) -> Vec<String> {
        let over = self.0.values().filter(|s| s.ends_at.plus(retention) <= now);
        let over: Vec<String> = over.map(|s| s.id.clone()).collect();
        over.iter().for_each(|id| drop(self.0.remove(id)));
        over
    }

    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.0.get(id)
    }

    /// As it was before a restart.
    pub fn restore(&mut self, silence: Silence) {
        self.0.insert(silence.id.clone(), silence);
    }
}

fn accepts_empty(matcher: &Matcher) -> bool {
    match matcher.op {
        MatchOp::Equal => matcher.value.is_empty(),
        _ => matcher.matches_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: Option<&str>, value: &str, starts: i64, ends: i64) -> SilenceRequest {
        SilenceRequest {
            id: id.map(str::to_owned),
            matchers: vec![Matcher::equal("a", value)],
            starts_at: Timestamp(starts),
            ends_at: Timestamp(ends),
            created_by: "me".into(),
            comment: "c".into(),
        }
    }

    #[test]
    fn silences_mute_while_they_are_active() {
        let mut silences = Silences::default();
        let id = silences.set(request(None, "b", 50, 100), "one".into(), Timestamp(10)).unwrap();
        let labels = Labels::from_pairs([("a", "b")]);
        let muted = |s: &Silences, now| s.muting(&labels, Timestamp(now)).len();
        assert_eq!((muted(&silences, 49), muted(&silences, 50), muted(&silences, 100)), (0, 1, 0));
        assert!(silences.expire(&id, Timestamp(60)));
        assert_eq!(muted(&silences, 61), 0);
        assert!(!silences.expire("other", Timestamp(60)));
    }

    #[test]
    fn changes_are_in_place_only_when_they_hide_nothing() {
        let check = |starts: i64, change: SilenceRequest, want: &str| {
            let mut silences = Silences::default();
            silences.set(request(None, "b", starts, 100), "old".into(), Timestamp(10)).unwrap();
            assert_eq!(silences.set(change.clone(), "new".into(), Timestamp(20)).unwrap(), want, "{change:?}");
        };
        check(10, request(Some("old"), "b", 10, 200), "old");
        check(10, request(Some("old"), "b", 30, 200), "new");
        check(10, request(Some("old"), "c", 10, 200), "new");
        check(50, request(Some("old"), "b", 60, 200), "old");
        check(50, request(Some("old"), "b", 15, 200), "new");
    }

    #[test]
    fn mistakes_are_refused() {
        let check = |request: SilenceRequest, want: SilenceError| {
            assert_eq!(Silences::default().set(request, "x".into(), Timestamp(10)), Err(want));
        };
        check(request(Some("gone"), "b", 10, 20), SilenceError::NotFound { id: "gone".into() });
        check(request(None, "b", 20, 20), SilenceError::EndsBeforeStart);
        check(request(None, "b", 1, 5), SilenceError::Over);
        check(request(None, "", 1, 50), SilenceError::MatchesEverything);
        check(SilenceRequest { matchers: Vec::new(), ..request(None, "b", 1, 50) }, SilenceError::NoMatcher);
    }
}
