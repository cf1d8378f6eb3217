//! Incidents as they are written down: JSON with a version of its own, one record each.

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use weir_model::{Labels, TenantId};
use weir_state::{Batch, State};

use crate::incident::{Book, Incident};

const TABLE: &str = "diagnose.incidents";
const VERSION: u8 = 1;
/// Longer records are written without their alerts' annotations: two hundred incidents of a tenant stay
/// within what a snapshot of the state can hold.
const RECORD_BYTES_MAX: usize = 256 << 10;

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    v: u8,
    incident: T,
}

fn encode(incident: &Incident) -> Vec<u8> {
    serde_json::to_vec(&Stored { v: VERSION, incident }).expect("these types have only text keys")
}

/// `None` removes it.
pub fn put(batch: &mut Batch, tenant: &TenantId, id: String, incident: Option<Incident>) {
    let Some(mut incident) = incident else {
        batch.remove(TABLE, tenant, id);
        return;
    };
    let mut bytes = encode(&incident);
    if bytes.len() > RECORD_BYTES_MAX {
        incident.alerts.iter_mut().for_each(|a| a.annotations = Labels::empty());
        bytes = encode(&incident);
    }
    batch.put(TABLE, tenant, id, bytes);
}

/// What an earlier run left.
pub fn read(state: &State) -> AHashMap<TenantId, Book> {
    let mut found: AHashMap<TenantId, Vec<Incident>> = AHashMap::new();
    for (tenant, id, bytes) in state.scan(TABLE) {
        match serde_json::from_slice::<Stored<Incident>>(&bytes) {
            Ok(stored) if stored.v == VERSION => found.entry(tenant).or_default().push(stored.incident),
            Ok(stored) => {
                tracing::error!(%tenant, id, version = stored.v, "an incident of another version is left alone")
            }
            Err(error) => tracing::error!(%tenant, id, %error, "an incident of an earlier run cannot be read"),
        }
    }
    found.into_iter().map(|(tenant, incidents)| (tenant, Book::restored(incidents))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use weir_model::entity::Aliases;
    use weir_model::{AlertEvent, AlertPhase, Change, ChangeKind, EntityId, EntityKind, Timestamp};
    use weir_wal::SimDir;

    use super::*;
    use crate::incident::Acknowledgement;
    use crate::types::{Cause, CauseKind, Chart, Diagnosis, Evidence, Link, Signal, Thing};

    fn event(phase: AlertPhase, at: i64, value: f64) -> AlertEvent {
        AlertEvent {
            tenant: TenantId::anonymous(),
            labels: Labels::from_pairs([("alertname", "slow"), ("service", "shop")]),
            annotations: Labels::from_pairs([("summary", "slow: 3 s")]),
            phase,
            active_at: Timestamp(at),
            at: Timestamp(at),
            value,
            expr: "x > 1".into(),
            generator_url: String::new(),
        }
    }

    /// With every field and every kind of thing in it.
    fn diagnosis() -> Diagnosis {
        let evidence = Evidence {
            text: "self time of GET /: 3 to 40 ms".to_owned(),
            signal: Signal::Spans,
            before: Some(3.0),
            during: Some(40.0),
            unit: Some("ms".into()),
            chart: Some(Chart { language: "traceql".into(), query: "{}".to_owned(), unit: Some("s".into()) }),
            links: vec![Link { title: "trace".to_owned(), url: "/trace/1".to_owned() }],
        };
        let cause = |thing| Cause {
            service: "shop".into(),
            instance: "".into(),
            kind: CauseKind::Code,
            signal: Signal::Spans,
            score: 0.8,
            since: Some(Timestamp(1_700_000_000_123)),
            summary: "slow".to_owned(),
            thing,
            evidence: vec![evidence.clone()],
        };
        let things = [
            Thing::None,
            Thing::Statement { statement: "SELECT 1".to_owned(), database: None },
            Thing::Partition { group: "g".to_owned(), topic: "t".to_owned(), partition: Some(3) },
            Thing::Version { version: "v2".to_owned(), previous: Some("v1".to_owned()) },
        ];
        let change = Change {
            at: Timestamp(5),
            kind: ChangeKind::Flag,
            entity: EntityId::new(EntityKind::Service, "shop"),
            title: "flag on".to_owned(),
            from: None,
            to: None,
            instances: Vec::new(),
            source: "api".to_owned(),
            attributes: BTreeMap::new(),
        };
        Diagnosis {
            causes: things.map(cause).into(),
            known: true,
            confidence: 0.8,
            changes: vec![change],
            ruled_out: vec!["network".to_owned()],
            affected: vec!["shop".into()],
            stats: crate::ReadStats::default(),
        }
    }

    fn book() -> Book {
        let mut book = Book::default();
        let linked = |_: &_, _: &_| true;
        let id =
            book.hear(&event(AlertPhase::Firing, 1_000, 2.5), &Aliases::default(), linked, Timestamp(2_000)).unwrap();
        book.get_mut(&id).unwrap().learn(diagnosis(), Timestamp(3_000));
        let by = Acknowledgement { by: "ann".to_owned(), at: Timestamp(4_000), comment: "looking".to_owned() };
        book.acknowledge(&id, by).unwrap();
        book
    }

    fn commit(book: &mut Book, state: &State) {
        let mut batch = Batch::default();
        book.take_changed().into_iter().for_each(|(id, i)| put(&mut batch, &TenantId::anonymous(), id, i));
        state.commit(batch).unwrap();
    }

    #[test]
    fn an_incident_comes_back_as_it_was() {
        let dir = SimDir::new(1);
        let state = State::open(Arc::new(dir.clone())).unwrap();
        let mut before = book();
        commit(&mut before, &state);
        drop(state);
        dir.restart();
        let state = State::open(Arc::new(dir)).unwrap();
        let mut books = read(&state);
        let after = books.get_mut(&TenantId::anonymous()).unwrap();
        assert!(before.iter().eq(after.iter()), "{:#?}\n{:#?}", before.iter().next(), after.iter().next());
        // A resolve heard by the new run closes it, and its end is written down too.
        let linked = |_: &_, _: &_| true;
        after.hear(&event(AlertPhase::Resolved, 9_000, f64::NAN), &Aliases::default(), linked, Timestamp(9_000));
        commit(after, &state);
        let books = read(&state);
        let told = books[&TenantId::anonymous()].iter().next().unwrap().clone();
        assert_eq!(told.resolved_at, Some(Timestamp(9_000)));
        assert!(told.alerts[0].value.is_nan());
    }

    #[test]
    fn what_leaves_the_book_leaves_the_disk() {
        let state = State::in_memory();
        let mut book = Book::default();
        let linked = |_: &_, _: &_| true;
        book.hear(&event(AlertPhase::Pending, 1_000, 1.0), &Aliases::default(), linked, Timestamp(1_000));
        commit(&mut book, &state);
        assert_eq!(state.scan(TABLE).len(), 1);
        book.hear(&event(AlertPhase::Resolved, 2_000, 1.0), &Aliases::default(), linked, Timestamp(2_000));
        commit(&mut book, &state);
        assert!(state.scan(TABLE).is_empty());
    }

    #[test]
    fn a_long_record_loses_its_annotations_alone() {
        let mut book = book();
        let id = book.iter().next().unwrap().id.clone();
        let long = Labels::from_pairs([("description", "x".repeat(RECORD_BYTES_MAX))]);
        book.get_mut(&id).unwrap().alerts[0].annotations = long;
        book.note_changed(&id);
        let state = State::in_memory();
        commit(&mut book, &state);
        assert!(state.scan(TABLE)[0].2.len() < RECORD_BYTES_MAX);
        let books = read(&state);
        assert_eq!(books[&TenantId::anonymous()].iter().next().unwrap().alerts[0].labels.value("alertname"), "slow");
    }
}
