//! `include` and `exclude`: which items a processor is for.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use regex::Regex;

use crate::config::{Field, Section};
use crate::data::{Signal, get, text_of};
use crate::ottl::{Context, Scene, Subject};

/// Which items are meant: included, if anything is, and not excluded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Include {
    include: Option<Properties>,
    exclude: Option<Properties>,
}

#[derive(Clone, Debug)]
enum Text {
    Is(String),
    Matches(Regex),
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => wanted == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

type Attribute = (String, Option<Text>);

/// Of each list that is given one entry must fit.
#[derive(Clone, Debug, Default)]
struct Properties {
    services: Vec<Text>,
    span_names: Vec<Text>,
    span_kinds: Vec<Text>,
    attributes: Vec<Attribute>,
    resources: Vec<Attribute>,
    libraries: Vec<(Text, Option<Text>)>,
    log_bodies: Vec<Text>,
    log_severity_texts: Vec<Text>,
    log_severity: Option<(i32, bool)>,
    metric_names: Vec<Text>,
}

/// Reads both blocks; `None` when neither is written.
pub(crate) fn include_blocks(section: &Section<'_>, signal: Signal) -> Option<Include> {
    let block = |key| section.get(key).map(|field| Properties::read(&field, signal));
    let (include, exclude) = (block("include"), block("exclude"));
    (include.is_some() || exclude.is_some()).then_some(Include { include, exclude })
}

impl Properties {
    fn read(field: &Field<'_>, signal: Signal) -> Self {
        let section = field.section();
        let is_regex = match section.text("match_type").as_deref() {
            Some("regexp") => true,
            Some("strict") => false,
            Some(other) => {
                section.error(format!("match_type `{other}` is not supported: strict, regexp"));
                false
            }
            None => {
                section.error("`match_type` is missing: strict or regexp");
                false
            }
        };
        section.without_effect(&["regexp"], "expressions need no cache");
        let texts = |key: &'static str| -> Vec<Text> {
            section.items(key).iter().filter_map(|item| text(item, is_regex)).collect()
        };
        let mut found = Self::default();
        if signal == Signal::Metrics {
            found.metric_names = texts("metric_names");
            found.resources = attributes(&section.items("resource_attributes"), is_regex);
        } else {
            found.services = texts("services");
            found.attributes = attributes(&section.items("attributes"), is_regex);
            found.resources = attributes(&section.items("resources"), is_regex);
            found.libraries = libraries(&section, is_regex);
        }
        if signal == Signal::Traces {
            found.span_names = texts("span_names");
            found.span_kinds = texts("span_kinds");
        }
        if signal == Signal::Logs {
            found.log_bodies = [texts("log_bodies"), texts("bodies")].concat();
            found.log_severity_texts = [texts("log_severity_texts"), texts("severity_texts")].concat();
            found.resources.extend(attributes(&section.items("resource_attributes"), is_regex));
            found.attributes.extend(attributes(&section.items("record_attributes"), is_regex));
            for key in ["log_severity_number", "severity_number"] {
                if let Some(inner) = section.get(key).map(|field| field.section()) {
                    let min = i32::try_from(inner.int("min").unwrap_or(0)).unwrap_or(0);
                    found.log_severity = Some((min, inner.bool_or("match_undefined", false)));
                    inner.finish();
                }
            }
        }
        section.finish();
        found
    }

    fn fits(&self, scene: &mut Scene<'_>) -> bool {
        let any = |list: &[Text], text: &str| list.is_empty() || list.iter().any(|t| t.fits(text));
        let service = get(&scene.resource.attributes, "service.name").map(text_of).unwrap_or_default();
        let library = (self.libraries.is_empty())
            || self.libraries.iter().any(|(name, version)| {
                name.fits(&scene.scope.name) && version.as_ref().is_none_or(|v| v.fits(&scene.scope.version))
            });
        if !any(&self.services, &service) || !library || !all(&self.resources, &scene.resource.attributes) {
            return false;
        }
        match &scene.subject {
            Subject::Span(span) => {
                let kind = match span.kind {
                    1 => "SPAN_KIND_INTERNAL",
                    2 => "SPAN_KIND_SERVER",
                    3 => "SPAN_KIND_CLIENT",
                    4 => "SPAN_KIND_PRODUCER",
                    5 => "SPAN_KIND_CONSUMER",
                    _ => "SPAN_KIND_UNSPECIFIED",
                };
                any(&self.span_names, &span.name)
                    && any(&self.span_kinds, kind)
                    && all(&self.attributes, &span.attributes)
            }
            Subject::Log(record) => {
                let body = || record.body.as_ref().and_then(|b| b.value.as_ref()).map(text_of).unwrap_or_default();
                let severe = self.log_severity.is_none_or(|(min, undefined)| {
                    if record.severity_number == 0 { undefined } else { record.severity_number >= min }
                });
                severe
                    && (self.log_bodies.is_empty() || any(&self.log_bodies, &body()))
                    && any(&self.log_severity_texts, &record.severity_text)
                    && all(&self.attributes, &record.attributes)
            }
            Subject::Metric(metric) => any(&self.metric_names, &metric.name),
            _ => true,
        }
    }
}

fn all(wanted: &[Attribute], attributes: &[KeyValue]) -> bool {
    wanted
        .iter()
        .all(|(key, text)| get(attributes, key).is_some_and(|v| text.as_ref().is_none_or(|t| t.fits(&text_of(v)))))
}

fn text(item: &Field<'_>, is_regex: bool) -> Option<Text> {
    let written = item.text()?;
    if !is_regex {
        return Some(Text::Is(written));
    }
    match weir_go::regex(&written) {
        Ok(regex) => Some(Text::Matches(regex)),
        Err(error) => {
            item.error(error.to_string());
            None
        }
    }
}

fn attributes(items: &[Field<'_>], is_regex: bool) -> Vec<Attribute> {
    let read = |item: &Field<'_>| {
        let section = item.section();
        let key = section.required("key").and_then(|field| field.text());
        let value = section.get("value").map(|field| text(&field, is_regex));
        section.finish();
        Some((key?, value.flatten()))
    };
    items.iter().filter_map(read).collect()
}

fn libraries(section: &Section<'_>, is_regex: bool) -> Vec<(Text, Option<Text>)> {
    let read = |item: &Field<'_>| {
        let section = item.section();
        let name = section.required("name").and_then(|field| text(&field, is_regex));
        let version = section.get("version").and_then(|field| text(&field, is_regex));
        section.finish();
        Some((name?, version))
    };
    section.items("libraries").iter().filter_map(read).collect()
}

impl Include {
    /// The items that it tells apart.
    pub(crate) fn context(&self, signal: Signal) -> Context {
        match signal {
            Signal::Traces => Context::Span,
            Signal::Metrics => Context::Metric,
            Signal::Logs => Context::Log,
        }
    }

    pub(crate) fn applies(&self, scene: &mut Scene<'_>) -> bool {
        self.include.as_ref().is_none_or(|p| p.fits(scene)) && !self.exclude.as_ref().is_some_and(|p| p.fits(scene))
    }
}
