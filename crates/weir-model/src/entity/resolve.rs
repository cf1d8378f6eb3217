//! From what a sender says to entities. Pure: no table, no clock.

use std::sync::Arc;

use super::{Aliases, EntityId, EntityKind};
use crate::labels::Labels;
use crate::span::{AttrValue, Attributes, Resource, Span, attr};

/// Who emitted something, and what it is about.
///
/// The emitter of `kafka_consumergroup_group_lag` is an exporter and its subject is a group: both
/// stand here. Version is an attribute, never identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntityRefs {
    /// Name of the service that sent it; `None` when it did not say.
    pub emitter: Option<Arc<str>>,
    pub instance: Option<Arc<str>>,
    pub namespace: Option<Arc<str>>,
    pub version: Option<Arc<str>>,
    /// Topics, partitions, groups, databases and nodes, each once.
    pub subjects: Vec<EntityId>,
}

impl EntityRefs {
    pub fn service(&self) -> Option<EntityId> {
        self.emitter.clone().map(|name| EntityId::new(EntityKind::Service, name))
    }
    pub fn subject(&self, kind: EntityKind) -> Option<&EntityId> {
        self.subjects.iter().find(|s| s.kind == kind)
    }
    /// Emitter, instance and subjects.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> + '_ {
        let instance = self.instance.clone().map(|name| EntityId::new(EntityKind::Instance, name));
        self.service().into_iter().chain(instance).chain(self.subjects.iter().cloned())
    }
    fn add(&mut self, kind: EntityKind, name: Arc<str>) {
        let id = EntityId { kind, name };
        if !self.subjects.contains(&id) {
            self.subjects.push(id);
        }
    }
}

/// Where names are looked up: a label set, or lists of attributes.
trait Lookup {
    fn text(&self, name: &str) -> Option<Arc<str>>;
}

impl Lookup for Labels {
    fn text(&self, name: &str) -> Option<Arc<str>> {
        self.get(name).map(Arc::from)
    }
}

impl Lookup for Attributes {
    fn text(&self, name: &str) -> Option<Arc<str>> {
        match attr(self, name)? {
            AttrValue::Str(s) if s.is_empty() => None,
            AttrValue::Str(s) => Some(s.clone()),
            AttrValue::Int(v) => Some(v.to_string().into()),
            _ => None,
        }
    }
}

fn first(from: &impl Lookup, names: &[String]) -> Option<Arc<str>> {
    names.iter().find_map(|name| from.text(name))
}

/// Names that mean "the sender did not say".
fn is_placeholder(service: &str) -> bool {
    service == "unknown_service" || service.starts_with("unknown_service:")
}

/// Labels called `version` that are not a release: API and protocol versions, runtimes.
fn is_release(metric: &str, label: &str, value: &str) -> bool {
    if label != "version" || metric.is_empty() || metric == "target_info" {
        return true;
    }
    if let Some(stem) = metric.strip_suffix("_info") {
        return stem.ends_with("build") && !stem.starts_with("go_");
    }
    value.contains('.') && value.contains(|c: char| c.is_ascii_digit()) && !value.contains(['/', ' '])
}

/// Attributes of spans that name a kind of database, and where it is.
const DATABASE_SYSTEMS: [&str; 2] = ["db.system.name", "db.system"];
const DATABASE_PEERS: [&str; 3] = ["server.address", "net.peer.name", "peer.service"];

const DATABASE_WORDS: [&str; 9] = ["pg_", "postgres", "mysql", "sql", "mongo", "redis", "db_", "_db", "database"];

impl Aliases {
    /// Of a series or a log stream.
    pub fn resolve_labels(&self, labels: &Labels) -> EntityRefs {
        let mut refs = self.emitter(labels);
        let metric = labels.metric_name();
        refs.version = self.version.iter().find_map(|name| {
            let value = labels.get(name)?;
            is_release(metric, name, value).then(|| Arc::from(value))
        });
        self.subjects(labels, metric, &mut refs);
        refs
    }

    pub fn resolve_resource(&self, resource: &Resource) -> EntityRefs {
        let mut refs = self.emitter(&resource.attributes);
        refs.version = first(&resource.attributes, &self.version);
        self.subjects(&resource.attributes, "", &mut refs);
        refs
    }

    /// The resource's refs, and what the span says it talks to.
    pub fn resolve_span(&self, span: &Span) -> EntityRefs {
        let mut refs = self.resolve_resource(&span.resource);
        self.span_subjects(span, &mut refs);
        refs
    }

    /// Adds what the span itself says to `refs` of its resource, for who resolves each resource once.
    pub fn span_subjects(&self, span: &Span, refs: &mut EntityRefs) {
        let attributes = &span.attributes;
        self.subjects(attributes, "", refs);
        if refs.subject(EntityKind::Database).is_some() {
            return;
        }
        let Some(system) = DATABASE_SYSTEMS.iter().find_map(|name| attributes.text(name)) else { return };
        let name = DATABASE_PEERS.iter().find_map(|name| attributes.text(name));
        refs.add(EntityKind::Database, name.unwrap_or(system));
    }

    /// Names of all attributes that [`Aliases::span_subjects`] looks at.
    pub fn span_subject_names(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.topic, &self.partition, &self.consumer_group, &self.consumer_group_weak, &self.database];
        lists.into_iter().flatten().map(String::as_str).chain(DATABASE_SYSTEMS).chain(DATABASE_PEERS)
    }

    fn emitter(&self, from: &impl Lookup) -> EntityRefs {
        let mut refs = EntityRefs { instance: first(from, &self.instance), ..EntityRefs::default() };
        refs.namespace = first(from, &self.namespace);
        for name in &self.service {
            let Some(value) = from.text(name) else { continue };
            if is_placeholder(&value) {
                continue;
            }
            // `job` of OTLP metrics is `service.namespace/service.name`.
            let split = if name == "job" { value.split_once('/') } else { None };
            if let Some((namespace, service)) = split.filter(|(ns, s)| !ns.is_empty() && !s.is_empty()) {
                refs.namespace.get_or_insert_with(|| namespace.into());
                refs.emitter = Some(service.into());
            } else {
                refs.emitter = Some(value);
            }
            break;
        }
        if let Some(node) = first(from, &self.node) {
            refs.add(EntityKind::Node, node);
        }
        refs
    }

    fn subjects(&self, from: &impl Lookup, metric: &str, refs: &mut EntityRefs) {
        let topic = first(from, &self.topic);
        let about_groups = topic.is_some() || metric.contains("consumergroup") || metric.contains("consumer_group");
        let group = first(from, &self.consumer_group)
            .or_else(|| if about_groups { first(from, &self.consumer_group_weak) } else { None });
        if let Some(topic) = topic {
            let partition = first(from, &self.partition).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
            if let Some(partition) = partition {
                refs.add(EntityKind::Partition, format!("{topic}/{partition}").into());
            }
            refs.add(EntityKind::Topic, topic);
        }
        if let Some(group) = group {
            refs.add(EntityKind::ConsumerGroup, group);
        }
        let about_databases = DATABASE_WORDS.iter().any(|word| metric.contains(word));
        let database = first(from, &self.database)
            .or_else(|| if about_databases { first(from, &self.database_weak) } else { None });
        if let Some(database) = database {
            refs.add(EntityKind::Database, database);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(refs: &EntityRefs) -> String {
        let text = |v: &Option<Arc<str>>| v.as_deref().unwrap_or("-").to_owned();
        let subjects: Vec<String> = refs.subjects.iter().map(ToString::to_string).collect();
        format!(
            "{} {} {} {} [{}]",
            text(&refs.emitter),
            text(&refs.instance),
            text(&refs.namespace),
            text(&refs.version),
            subjects.join(" ")
        )
    }

    #[track_caller]
    fn check(labels: &[(&str, &str)], want: &str) {
        let labels = Labels::from_pairs(labels.iter().copied());
        assert_eq!(show(&Aliases::default().resolve_labels(&labels)), want, "{labels}");
    }

    #[test]
    fn labels_name_who_speaks_and_of_what() {
        check(&[("job", "node"), ("instance", "a:9100")], "node a:9100 - - []");
        check(&[("job", "shop/checkout"), ("instance", "i1")], "checkout i1 shop - []");
        check(&[("job", "x"), ("app", "api"), ("pod", "api-0"), ("namespace", "prod")], "api api-0 prod - []");
        check(&[("service_name", "unknown_service"), ("app", "api")], "api - - - []");
        check(&[("app_kubernetes_io_name", "web"), ("node", "n1")], "web - - - [node:n1]");
        check(
            &[
                ("__name__", "kafka_consumergroup_group_lag"),
                ("job", "lag-exporter"),
                ("group", "g"),
                ("topic", "t"),
                ("partition", "3"),
            ],
            "lag-exporter - - - [partition:t/3 topic:t consumer_group:g]",
        );
        check(&[("__name__", "kafka_consumergroup_members"), ("group", "g")], "- - - - [consumer_group:g]");
        check(&[("__name__", "apiserver_request_total"), ("group", "apps"), ("version", "v1")], "- - - - []");
        check(&[("__name__", "pg_up"), ("server", "db1:5432")], "- - - - [database:db1:5432]");
        check(&[("__name__", "http_requests_total"), ("server", "web1")], "- - - - []");
    }

    #[test]
    fn a_version_label_counts_when_it_is_a_release() {
        let check = |metric: &str, label: &str, value: &str, want: &str| {
            check(&[("__name__", metric), ("job", "j"), (label, value)], &format!("j - - {want} []"));
        };
        check("app_build_info", "version", "abc", "abc");
        check("target_info", "service_version", "1.2.3", "1.2.3");
        check("events_total", "version", "1.2.3", "1.2.3");
        check("go_info", "version", "go1.22.1", "-");
        check("go_build_info", "version", "1.2.3", "-");
        check("node_uname_info", "version", "#1 SMP 6.1", "-");
        check("http_requests_total", "version", "HTTP/1.1", "-");
        check("events_total", "app_kubernetes_io_version", "7", "7");
    }

    #[test]
    fn spans_name_topics_groups_and_databases() {
        let text = |name: &str, value: &str| (Arc::from(name), AttrValue::from(value));
        let resource = Resource {
            attributes: vec![text("service.name", "enricher"), text("service.version", "2"), text("host.name", "h")],
        };
        let check = |attributes: Attributes, want: &str| {
            let span = Span { attributes, resource: Arc::new(resource.clone()), ..Span::default() };
            assert_eq!(show(&Aliases::default().resolve_span(&span)), format!("enricher - - 2 [node:h{want}]"));
        };
        check(vec![], "");
        check(
            vec![
                text("messaging.destination.name", "raw"),
                (Arc::from("messaging.kafka.destination.partition"), AttrValue::Int(2)),
                text("messaging.consumer.group.name", "enrich"),
            ],
            " partition:raw/2 topic:raw consumer_group:enrich",
        );
        check(vec![text("db.system.name", "sqlite"), text("db.namespace", "players")], " database:players");
        check(vec![text("db.system", "redis"), text("server.address", "cache-1")], " database:cache-1");
    }
}
