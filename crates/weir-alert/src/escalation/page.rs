//! A page: alerts that somebody is to act upon, and how far it has come.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use weir_model::{Labels, Timestamp};

/// Where a page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageState {
    /// The chain goes on at the page's `next_at`.
    Escalating,
    /// The chain is at its end, and nobody was asked to acknowledge.
    Told,
    /// The chain is at its end, and nobody acknowledged.
    Exhausted,
    Acknowledged,
    /// Over: its alerts are resolved.
    Resolved,
    /// Over: its alerts fire on, silenced or inhibited.
    Muted,
}

impl PageState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Escalating => "escalating",
            Self::Told => "told",
            Self::Exhausted => "exhausted",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Muted => "muted",
        }
    }

    pub fn is_open(self) -> bool {
        !matches!(self, Self::Resolved | Self::Muted)
    }
}

/// Who is told, and by what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    Person {
        person: String,
        channel: String,
    },
    /// Of `alertmanager.yml`.
    Receiver(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    UnderWay,
    Sent(Timestamp),
    Failed(Timestamp, String),
    /// Acknowledged or over before it was sent.
    Stopped,
}

/// One message of a page to one integration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub to: Recipient,
    /// Of the channel or the receiver.
    pub integration: usize,
    pub step: usize,
    pub round: u32,
    pub at: Timestamp,
    pub outcome: Outcome,
    /// That the page is over, for receivers that want to know.
    pub resolve: Option<Outcome>,
    /// What the receiver wants to know when it is over.
    pub kept: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    pub by: String,
    pub at: Timestamp,
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// 16 hex digits.
    pub id: String,
    pub chain: String,
    pub tier: Option<String>,
    /// Name of the first alert.
    pub rule: String,
    /// One line for people.
    pub title: String,
    /// Receiver and key of the groups that it speaks for.
    pub groups: BTreeSet<(String, String)>,
    #[serde(deserialize_with = "label_sets")]
    pub members: BTreeSet<Labels>,
    pub state: PageState,
    pub started_at: Timestamp,
    /// The step that began last, from 0, and how often the chain began anew. `None` before the first.
    pub step: Option<usize>,
    pub round: u32,
    pub step_at: Timestamp,
    /// When the next step begins.
    pub next_at: Option<Timestamp>,
    pub told: Vec<Told>,
    /// What hindered, such as a schedule with nobody on call.
    pub notes: Vec<String>,
    pub acknowledged: Option<Acknowledged>,
    pub ended_at: Option<Timestamp>,
    /// The receiver beside the chain was told.
    pub out_of_band: bool,
    /// The chain was at its end once, and nobody had acknowledged.
    pub exhausted: bool,
}

fn label_sets<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<Labels>, D::Error> {
    let sets = Vec::<BTreeMap<String, String>>::deserialize(from)?;
    Ok(sets.into_iter().map(Labels::from_pairs).collect())
}

impl Page {
    /// People that a message of the page reached, or was meant to reach.
    pub fn people(&self) -> BTreeSet<&str> {
        let mut people = BTreeSet::new();
        for told in &self.told {
            if let Recipient::Person { person, .. } = &told.to {
                people.insert(&**person);
            }
        }
        people
    }

    /// Messages of the step that began last.
    pub(super) fn current(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(|t| Some(t.step) == self.step && t.round == self.round)
    }
}
