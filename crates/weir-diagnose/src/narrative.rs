//! Sentences about incidents.

use weir_model::Timestamp;

use crate::incident::Incident;
use crate::types::Thing;

/// Lines of evidence in a notification.
const LINES_MAX: usize = 5;

/// `hh:mm:ss` in UTC.
pub fn clock_time(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// The cause as the start of a sentence: the thing, then the place.
pub fn headline(service: &str, thing: &Thing) -> String {
    match thing {
        Thing::Statement { statement, database } => {
            let place = database.as_ref().map_or(String::new(), |d| format!(" on database {d}"));
            format!("statement `{}` of {service}{place}", clip(statement, 120))
        }
        Thing::Partition { group, topic, partition } => match partition {
            Some(p) => format!("consumer group {group} stands still on {topic} partition {p} ({service})"),
            None => format!("consumer group {group} falls behind on {topic} ({service})"),
        },
        Thing::Version { version, previous } => {
            let from = previous.as_ref().map_or(String::new(), |p| format!(", before {p}"));
            format!("deployment of {service} {version}{from}")
        }
        Thing::None => service.to_owned(),
    }
}

fn clip(text: &str, chars_max: usize) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= chars_max { flat } else { flat.chars().take(chars_max).chain(['…']).collect() }
}

/// One sentence: the cause with its thing and since when, or that it is not known.
pub fn sentence(incident: &Incident) -> String {
    let Some(cause) = incident.cause() else {
        let yet = if incident.diagnosed_at.is_none() { " yet" } else { "" };
        return format!("cause not known{yet}");
    };
    let since = clock_time(cause.since.unwrap_or(incident.since()));
    format!("{} since {since}", cause.summary)
}

/// The first line of a notification, which stands alone: the sentence with its confidence, or what
/// was ruled out.
pub fn summary(incident: &Incident) -> String {
    let diagnosis = &incident.diagnosis;
    if incident.cause().is_some() {
        return format!("{} (confidence {:.0} %)", sentence(incident), diagnosis.confidence * 100.0);
    }
    match &diagnosis.ruled_out[..] {
        ruled_out if incident.diagnosed_at.is_some() && !ruled_out.is_empty() => {
            format!("cause not known; ruled out: {}", ruled_out.join("; "))
        }
        _ => sentence(incident),
    }
}

/// A few words for lists: the thing, or the alerts.
pub fn title(incident: &Incident) -> String {
    if let Some(cause) = incident.cause() {
        return headline(&cause.service, &cause.thing);
    }
    let mut names: Vec<&str> = incident.alerts.iter().map(|a| a.labels.value("alertname")).collect();
    names.dedup();
    match &names[..] {
        [] => "incident".to_owned(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// What a notification adds below the sentence.
pub fn lines(incident: &Incident) -> Vec<String> {
    let evidence = incident.cause().into_iter().flat_map(|c| c.evidence.iter().map(|e| e.text.clone()));
    let changes = incident.diagnosis.changes.iter().map(|c| format!("{} {}", clock_time(c.at), c.title));
    evidence.take(LINES_MAX).chain(changes.take(3)).collect()
}

/// Who feels it: one line per alert that is not resolved, and the services with symptoms.
pub fn impact(incident: &Incident) -> Vec<String> {
    let told = |a: &crate::incident::IncidentAlert| {
        let text = ["summary", "description"].iter().find_map(|name| a.annotations.get(name));
        text.map_or_else(|| a.labels.value("alertname").to_owned(), str::to_owned)
    };
    let mut out: Vec<String> = incident.alerts.iter().map(told).collect();
    out.dedup();
    out.truncate(10);
    let affected = &incident.diagnosis.affected;
    if !affected.is_empty() {
        let names: Vec<&str> = affected.iter().take(6).map(|s| &**s).collect();
        out.push(format!("symptoms in {}", names.join(", ")));
    }
    out
}
