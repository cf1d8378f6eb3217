//! Breaking and healing: each fault as something that happens to real pipelines.

use rand::Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;

use super::fault::{Fault, FaultView, Thing, Truth};
use super::{Active, Demo, Undo};
use crate::database;
use crate::error::DemoError;
use crate::event::{EnrichedEvent, Kind, RawEvent};
use crate::metrics::now_ms;
use crate::pager::rfc3339;
use crate::release::Build;
use crate::topology::{N_PARTITIONS, Role};

impl Demo {
    /// All faults and decoys, with what is active.
    pub fn faults(&self) -> Vec<FaultView> {
        let active = self.active.lock();
        let view = |fault: Fault| FaultView {
            id: fault.id(),
            title: fault.title(&self.topology),
            detail: fault.detail(&self.topology),
            active: active.contains_key(&fault),
            since: active.get(&fault).map(|a| rfc3339(a.since_ms)),
        };
        Fault::all().into_iter().map(view).collect()
    }

    /// Does it, and tells what was done. `partition`: for a blocked partition, else a random one.
    pub async fn break_it(&self, fault: Fault, partition: Option<i32>) -> Result<Truth, DemoError> {
        let _one_at_a_time = self.acting.lock().await;
        if self.active.lock().contains_key(&fault) {
            return Err(DemoError::NotNow { id: fault.id(), why: "it is active; heal it first".into() });
        }
        let since_ms = now_ms();
        let active = |undo| Active { since_ms, undo };
        let truth = |role: Role, thing| Truth { service: self.topology.service(role).to_owned(), thing };
        let names = &self.topology.names;
        match fault {
            Fault::DropIndex(role) => {
                self.index(role, false).await?;
                self.active.lock().insert(fault, active(Undo::CreateIndex));
                let table = if role == Role::Enricher { &names.players_table } else { &names.matches_table };
                Ok(truth(role, Thing::Statement { table: table.clone() }))
            }
            Fault::BlockPartition(role) => {
                let partition = partition.unwrap_or_else(|| rand::rng().random_range(0..N_PARTITIONS));
                self.send_unprocessable(role, partition).await?;
                self.active.lock().insert(fault, active(Undo::Skip(partition)));
                let (group, topic) = (names.group(role).to_owned(), names.topic_enriched.clone());
                Ok(truth(role, Thing::Partition { group, topic, partition }))
            }
            Fault::DeployFaulty(role) => {
                let (version, previous) = self.next_version(fault, role, Build::Faulty).await?;
                self.active.lock().insert(fault, active(Undo::RollBack(previous.clone())));
                self.deploy(role, &previous, &version).await?;
                Ok(truth(role, Thing::Version { version, previous }))
            }
            Fault::DeploySound(role) => {
                let faulty = Fault::DeployFaulty(role);
                if self.active.lock().contains_key(&faulty) {
                    return Err(DemoError::NotNow { id: fault.id(), why: format!("`{}` is active", faulty.id()) });
                }
                let (version, previous) = self.next_version(fault, role, Build::Sound).await?;
                self.active.lock().insert(fault, active(Undo::Nothing));
                let deployed = self.deploy(role, &previous, &version).await;
                // It stays; there is nothing to heal.
                self.active.lock().remove(&fault);
                deployed.map(|()| truth(role, Thing::None))
            }
            Fault::Burst => {
                self.pods.control(Role::Producer, "rate?permille=2000").await?;
                self.active.lock().insert(fault, active(Undo::UsualRate));
                Ok(truth(Role::Producer, Thing::None))
            }
        }
    }

    /// Undoes it; nothing to do when it is not active.
    pub async fn heal(&self, fault: Fault) -> Result<(), DemoError> {
        let _one_at_a_time = self.acting.lock().await;
        let Some(undo) = self.active.lock().get(&fault).map(|a| a.undo.clone()) else { return Ok(()) };
        match (fault, undo) {
            (Fault::DropIndex(role), _) => self.index(role, true).await?,
            (Fault::BlockPartition(role), Undo::Skip(partition)) => {
                self.pods.control(role, &format!("skip?partition={partition}")).await?;
            }
            (Fault::DeployFaulty(role), Undo::RollBack(previous)) => {
                let current = self.pods.version(role).await;
                self.deploy(role, &current, &previous).await?;
            }
            (Fault::Burst, _) => self.pods.control(Role::Producer, "rate?permille=1000").await?,
            (Fault::BlockPartition(_) | Fault::DeployFaulty(_) | Fault::DeploySound(_), _) => {}
        }
        self.active.lock().remove(&fault);
        Ok(())
    }

    /// Drops or creates the index of a role's look-ups, as somebody with access to the database would.
    async fn index(&self, role: Role, create: bool) -> Result<(), DemoError> {
        let path = self.topology.database_path(role);
        let names = self.topology.names.clone();
        tokio::task::spawn_blocking(move || {
            let (table, key) = if role == Role::Enricher {
                (names.players_table, names.players_key)
            } else {
                (names.matches_table, names.matches_key)
            };
            let connection = database::open(&path)?;
            if create {
                database::create_index(&connection, &table, &key)
            } else {
                database::drop_index(&connection, &table, &key)
            }
        })
        .await?
        .map_err(DemoError::database("change an index"))
    }

    /// A record as a careless source sends it: its window has no length.
    async fn send_unprocessable(&self, role: Role, partition: i32) -> Result<(), DemoError> {
        let kind = if role == Role::Tracker { Kind::Position } else { Kind::Shot };
        let names = &self.topology.names;
        let now = now_ms();
        let event = RawEvent {
            event_id: format!("{now:x}-x"),
            tenant: names.leagues[0].clone(),
            match_id: database::match_key(7),
            player: database::player_key(11),
            kind,
            minute: 30,
            value: 3.5,
            event_time_ms: now,
        };
        let record = EnrichedEvent { event, player_name: None, club: None, window_seconds: 0 };
        let payload = serde_json::to_vec(&record).expect("events have string keys and finite numbers");
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.topology.broker)
            .create()
            .map_err(DemoError::kafka("make a Kafka producer"))?;
        let outgoing =
            FutureRecord::to(&names.topic_enriched).partition(partition).key(&record.event.match_id).payload(&payload);
        producer
            .send(outgoing, std::time::Duration::from_secs(5))
            .await
            .map_err(|(error, _)| DemoError::kafka(format!("send to {}", names.topic_enriched))(error))?;
        Ok(())
    }

    /// The next version of the wanted build, and the one that runs.
    async fn next_version(&self, fault: Fault, role: Role, wanted: Build) -> Result<(String, String), DemoError> {
        let current = self.pods.version(role).await;
        match self.topology.names.releases(role).next(&current, wanted) {
            Some(next) => Ok((next.to_owned(), current)),
            None => Err(DemoError::NotNow { id: fault.id(), why: "no other release of that build".into() }),
        }
    }

    /// Tells weir about the deployment, as a CI system does, and rolls it out.
    async fn deploy(&self, role: Role, from: &str, to: &str) -> Result<(), DemoError> {
        let service = self.topology.service(role);
        let pods: Vec<&str> = self.topology.instances_of(role).map(|i| i.pod.as_str()).collect();
        let change = json!({
            "at": rfc3339(now_ms()),
            "kind": "deployment",
            "entity": {"kind": "service", "name": service},
            "title": format!("{service} {from} to {to}"),
            "from": from,
            "to": to,
            "instances": pods,
            "source": "ci",
        });
        if let Some(weir) = &self.weir_url {
            let url = format!("{weir}/api/weir/v1/changes");
            let told = self.client.post(&url).json(&change).send().await.and_then(reqwest::Response::error_for_status);
            if let Err(error) = told {
                tracing::warn!(%error, "weir was not told about the deployment");
            }
        }
        self.pods.roll(role, to).await
    }
}
