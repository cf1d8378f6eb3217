//! Names of services, topics, groups and databases: fixed ones for the demo, drawn ones for a drill.
//!
//! A drill draws them so that a diagnosis which had learnt names by heart would fail. No drawn name
//! says what is done to the thing.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::release::Train;
use crate::topology::Role;

/// The names of one demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub namespace: String,
    pub environment: String,
    /// Name of the Kafka cluster in lag metrics.
    pub cluster: String,
    pub topic_raw: String,
    pub topic_enriched: String,
    pub topic_updates: String,
    pub topic_dead: String,
    /// Table of players in the enricher's database, and its key column.
    pub players_table: String,
    pub players_key: String,
    /// Table of matches in the sink's database, and its key column.
    pub matches_table: String,
    pub matches_key: String,
    /// Leagues, the tenants of the pipeline.
    pub leagues: Vec<String>,
    services: BTreeMap<Role, String>,
    groups: BTreeMap<Role, String>,
    trains: BTreeMap<Role, Train>,
}

/// Releases per service beyond the first; enough for every deployment of a long drill.
const N_RELEASES: usize = 12;

impl Names {
    /// The names of `weir demo`.
    pub fn standard() -> Self {
        let services = [
            (Role::Producer, "match-producer"),
            (Role::Enricher, "enricher"),
            (Role::Aggregator, "window-aggregator"),
            (Role::Tracker, "form-tracker"),
            (Role::Sink, "sink-writer"),
            (Role::Delivery, "delivery-api"),
        ];
        let services: BTreeMap<Role, String> = services.into_iter().map(|(r, s)| (r, s.to_owned())).collect();
        let mut rng = SmallRng::seed_from_u64(1);
        Self {
            namespace: "live-sports".into(),
            environment: "demo".into(),
            cluster: "demo".into(),
            topic_raw: "events.raw".into(),
            topic_enriched: "events.enriched".into(),
            topic_updates: "match.updates".into(),
            topic_dead: "events.dead-letter".into(),
            players_table: "players".into(),
            players_key: "player_key".into(),
            matches_table: "match_totals".into(),
            matches_key: "match_key".into(),
            leagues: ["premier-league", "bundesliga", "serie-a"].map(str::to_owned).to_vec(),
            groups: services.iter().map(|(r, s)| (*r, s.clone())).collect(),
            trains: services.keys().map(|r| (*r, draw_train(&mut rng))).collect(),
            services,
        }
    }

    /// Names drawn from `seed`; the same seed gives the same names.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6e61_6d65_735f_6f66);
        let mut firsts = FIRST_WORDS.to_vec();
        firsts.shuffle(&mut rng);
        let mut services = BTreeMap::new();
        let mut groups = BTreeMap::new();
        for (role, first) in Role::ALL.into_iter().zip(&firsts) {
            let second = pick(&mut rng, second_words(role));
            let service = format!("{first}-{second}");
            let group = match rng.random_range(0..3) {
                0 => service.clone(),
                1 => format!("{service}-v{}", rng.random_range(1..9)),
                _ => format!("cg.{second}.{first}"),
            };
            services.insert(role, service);
            groups.insert(role, group);
        }
        let sport = pick(&mut rng, &["football", "hockey", "rugby", "basket", "cricket", "handball"]);
        let cluster = pick(&mut rng, &["edge-a", "stream-1", "kafka-main", "north"]).to_owned();
        let [raw, enriched, updates] = *[
            ["events.raw", "events.enriched", "match.updates"],
            ["feed.in", "feed.full", "feed.out"],
            ["plays.v1", "plays.joined.v1", "scores.v1"],
            ["ticks", "ticks-with-roster", "ticker"],
        ]
        .choose(&mut rng)
        .expect("the list is not empty");
        let prefix = if rng.random_bool(0.5) { format!("{sport}.") } else { String::new() };
        let mut leagues: Vec<String> = ["alpha", "beta", "coastal", "delta", "eastern", "first", "grand", "high"]
            .map(|l| format!("{l}-{sport}"))
            .to_vec();
        leagues.shuffle(&mut rng);
        leagues.truncate(3);
        Self {
            namespace: format!("{sport}-{}", pick(&mut rng, &["live", "prod", "rt", "stream"])),
            environment: pick(&mut rng, &["prod", "staging", "blue"]).to_owned(),
            cluster,
            topic_raw: format!("{prefix}{raw}"),
            topic_enriched: format!("{prefix}{enriched}"),
            topic_updates: format!("{prefix}{updates}"),
            topic_dead: format!("{prefix}{raw}.dlq"),
            players_table: pick(&mut rng, &["players", "athletes", "squad_members", "roster"]).to_owned(),
            players_key: pick(&mut rng, &["player_key", "ext_ref", "code"]).to_owned(),
            matches_table: pick(&mut rng, &["match_totals", "fixtures", "games", "scoreboard"]).to_owned(),
            matches_key: pick(&mut rng, &["match_key", "fixture_ref", "game_code"]).to_owned(),
            leagues,
            trains: Role::ALL.into_iter().map(|r| (r, draw_train(&mut rng))).collect(),
            services,
            groups,
        }
    }

    pub fn service(&self, role: Role) -> &str {
        &self.services[&role]
    }

    pub fn group(&self, role: Role) -> &str {
        &self.groups[&role]
    }

    pub fn releases(&self, role: Role) -> &Train {
        &self.trains[&role]
    }

    /// The role behind a service name.
    pub fn role_of(&self, service: &str) -> Option<Role> {
        self.services.iter().find(|(_, s)| *s == service).map(|(r, _)| *r)
    }

    pub fn topics(&self) -> [&str; 4] {
        [&self.topic_raw, &self.topic_enriched, &self.topic_updates, &self.topic_dead]
    }
}

const FIRST_WORDS: [&str; 12] = [
    "amber", "birch", "cobalt", "drift", "ember", "falcon", "garnet", "harbor", "indigo", "juniper", "kestrel", "lotus",
];

fn second_words(role: Role) -> &'static [&'static str] {
    match role {
        Role::Producer => &["feed", "source", "ingress", "collector"],
        Role::Enricher => &["join", "lookup", "roster", "decorate"],
        Role::Aggregator => &["windows", "rollup", "tally", "summary"],
        Role::Tracker => &["form", "momentum", "scores", "trend"],
        Role::Sink => &["writer", "store", "archive", "persist"],
        Role::Delivery => &["push", "gateway", "fanout", "live"],
    }
}

fn pick<'a>(rng: &mut SmallRng, words: &[&'a str]) -> &'a str {
    words.choose(rng).expect("word lists are not empty")
}

fn draw_train(rng: &mut SmallRng) -> Train {
    let first = (rng.random_range(1..5), rng.random_range(0..20), rng.random_range(0..10));
    let mut faulty: Vec<bool> = (0..N_RELEASES).map(|i| i % 2 == 0).collect();
    faulty.shuffle(rng);
    Train::new(first, &faulty)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_distinct_names() {
        for seed in 0..200 {
            let names = Names::drawn(seed);
            assert_eq!(names, Names::drawn(seed), "seed {seed}");
            let services: HashSet<_> = Role::ALL.iter().map(|r| names.service(*r)).collect();
            assert_eq!(services.len(), Role::ALL.len(), "seed {seed}: {services:?}");
            let groups: HashSet<_> = Role::ALL.iter().map(|r| names.group(*r)).collect();
            assert_eq!(groups.len(), Role::ALL.len(), "seed {seed}: {groups:?}");
            assert_eq!(names.topics().iter().collect::<HashSet<_>>().len(), 4, "seed {seed}");
            assert_eq!(names.leagues.len(), 3);
        }
    }

    #[test]
    fn seeds_differ() {
        let distinct: HashSet<_> = (0..50).map(|s| Names::drawn(s).service(Role::Sink).to_owned()).collect();
        assert!(distinct.len() > 10, "{distinct:?}");
    }

    #[test]
    fn no_name_tells_a_fault() {
        let telling = ["fault", "bad", "broken", "stall", "slow", "drop", "decoy", "drill", "error", "poison"];
        for seed in 0..200 {
            let text = serde_json::to_string(&Names::drawn(seed)).unwrap();
            // The build of a release is known to its process alone and is reported nowhere.
            let text = text.replace("\"build\":\"faulty\"", "");
            for word in telling {
                assert!(!text.contains(word), "seed {seed} holds `{word}`: {text}");
            }
        }
    }
}
