//! Types of components, their other names, and what they are for.

use crate::data::Signal;

/// Where a component stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Receiver,
    Processor,
    Exporter,
    Connector,
}

impl Role {
    pub fn section(self) -> &'static str {
        match self {
            Self::Receiver => "receivers",
            Self::Processor => "processors",
            Self::Exporter => "exporters",
            Self::Connector => "connectors",
        }
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Processor => "processor",
            Self::Exporter => "exporter",
            Self::Connector => "connector",
        }
    }
}

const TRACES: &[Signal] = &[Signal::Traces];
const METRICS: &[Signal] = &[Signal::Metrics];
const LOGS: &[Signal] = &[Signal::Logs];
const TRACES_AND_LOGS: &[Signal] = &[Signal::Traces, Signal::Logs];

/// A row per type: its name, the signals that it is for.
const KINDS: &[(Role, &str, &[Signal])] = &[
    (Role::Receiver, "otlp", &Signal::ALL),
    (Role::Processor, "attributes", &Signal::ALL),
    (Role::Processor, "batch", &Signal::ALL),
    (Role::Processor, "filter", &Signal::ALL),
    (Role::Processor, "k8sattributes", &Signal::ALL),
    (Role::Processor, "memory_limiter", &Signal::ALL),
    (Role::Processor, "probabilistic_sampler", TRACES_AND_LOGS),
    (Role::Processor, "redaction", &Signal::ALL),
    (Role::Processor, "resource", &Signal::ALL),
    (Role::Processor, "tail_sampling", TRACES),
    (Role::Processor, "transform", &Signal::ALL),
    (Role::Exporter, "debug", &Signal::ALL),
    (Role::Exporter, "loki", LOGS),
    (Role::Exporter, "nop", &Signal::ALL),
    (Role::Exporter, "otlp", &Signal::ALL),
    (Role::Exporter, "otlphttp", &Signal::ALL),
    (Role::Exporter, "prometheusremotewrite", METRICS),
    (Role::Exporter, "weir", &Signal::ALL),
    (Role::Connector, "count", &Signal::ALL),
    (Role::Connector, "forward", &Signal::ALL),
    (Role::Connector, "servicegraph", TRACES),
    (Role::Connector, "spanmetrics", TRACES),
];

/// Newer names of upstream for the same types, and its old `logging`.
const ALIASES: &[(Role, &str, &str)] = &[
    (Role::Exporter, "otlp_grpc", "otlp"),
    (Role::Exporter, "otlp_http", "otlphttp"),
    (Role::Exporter, "prometheus_remote_write", "prometheusremotewrite"),
    (Role::Exporter, "logging", "debug"),
    (Role::Processor, "k8s_attributes", "k8sattributes"),
    (Role::Connector, "service_graph", "servicegraph"),
    (Role::Connector, "span_metrics", "spanmetrics"),
];

/// What a connector gives to the pipelines that it begins, of what it takes.
pub(super) fn gives(connector: &str, taken: Signal) -> Signal {
    if connector == "forward" { taken } else { Signal::Metrics }
}

/// The type by its own name, and its signals.
pub(super) fn kind(role: Role, name: &str) -> Result<(&'static str, &'static [Signal]), String> {
    let own = ALIASES.iter().find(|(r, alias, _)| *r == role && *alias == name).map_or(name, |(_, _, own)| *own);
    if let Some((_, own, signals)) = KINDS.iter().find(|(r, kind, _)| *r == role && *kind == own) {
        return Ok((own, signals));
    }
    let known: Vec<&str> = KINDS.iter().filter(|(r, ..)| *r == role).map(|(_, kind, _)| *kind).collect();
    let hint = match (role, name) {
        (Role::Receiver, "prometheus") => "; give its scrape_configs to --prometheus-config",
        _ => "",
    };
    Err(format!("a {} of type `{name}` is not supported; known are {}{hint}", role.as_str(), known.join(", ")))
}
