//! `template` and `replace`: values made by Go templates over what was extracted.

use std::sync::LazyLock;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use weir_go::template::{Template as Parsed, Templates, Value as Data};

use super::{not_empty, required};
use crate::logs::entry::{Entry, Value};

/// LogQL's functions, which are Promtail's, and its hash.
static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| {
    let mut functions = weir_logql::template_functions();
    functions.register("Sha2Hash", |_, args| {
        let [salt, input] = args else { return Err(format!("wrong number of args: want 2 got {}", args.len())) };
        let digest = Sha256::new().chain_update(salt.text()).chain_update(input.text()).finalize();
        Ok(digest.iter().map(|b| format!("{b:02x}")).collect::<String>().into())
    });
    Templates::new(functions)
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateFile {
    source: Option<String>,
    template: Option<String>,
}

#[derive(Debug)]
pub struct Template {
    source: String,
    template: Parsed,
}

impl TemplateFile {
    pub fn check(self) -> Result<Template, String> {
        Ok(Template {
            source: required("source", self.source)?,
            template: parse(&required("template", self.template)?)?,
        })
    }
}

fn parse(text: &str) -> Result<Parsed, String> {
    TEMPLATES.parse("pipeline_template", text).map_err(|e| e.to_string())
}

/// All that has a text, and what stands for it: `.Value` and `.Entry`.
fn data(entry: &Entry, extra: &[(&str, &str)]) -> Data {
    let own = entry.extracted.iter().filter_map(|(name, value)| Some((name.as_str(), Data::from(&*value.text()?))));
    Data::map(own.chain(extra.iter().map(|(name, text)| (*name, Data::from(*text)))))
}

impl Template {
    /// An empty result takes the value away; a template that fails changes nothing.
    pub fn run(&self, entry: &mut Entry) {
        let value = entry.text(&self.source).map(|text| text.into_owned());
        let mut extra = vec![("Entry", entry.line.as_str())];
        extra.extend(value.as_deref().map(|value| ("Value", value)));
        match TEMPLATES.render(&self.template, &data(entry, &extra)) {
            Ok(text) if text.is_empty() => drop(entry.extracted.remove(&self.source)),
            Ok(text) => entry.extract(&self.source, Value::Text(text)),
            Err(error) => tracing::debug!(%error, "a template stage failed"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplaceFile {
    expression: Option<String>,
    source: Option<String>,
    #[serde(default)]
    replace: String,
}

#[derive(Debug)]
pub struct Replace {
    regex: regex::Regex,
    source: Option<String>,
    template: Parsed,
}

impl ReplaceFile {
    pub fn check(self) -> Result<Replace, String> {
        let expression = required("expression", self.expression)?;
        Ok(Replace {
            regex: weir_go::regex(&expression).map_err(|e| e.to_string())?,
            source: not_empty("source", self.source)?,
            template: parse(&self.replace)?,
        })
    }
}

impl Replace {
    /// Each group gives way to the template's text; named groups are extracted as what took their place.
    pub fn run(&self, entry: &mut Entry) {
        let Some(text) = entry.source(self.source.as_deref()) else { return };
        let (mut out, mut end, mut named) = (String::new(), 0, Vec::new());
        let mut is_found = false;
        for (nth, found) in self.regex.captures_iter(&text).enumerate() {
            is_found = true;
            for (name, group) in self.regex.capture_names().zip(found.iter()).skip(1) {
                let Some(group) = group else { continue };
                let new = match TEMPLATES.render(&self.template, &data(entry, &[("Value", group.as_str())])) {
                    Ok(new) => new,
                    Err(error) => return tracing::debug!(%error, "a replace stage failed"),
                };
                // A group within a group went with it.
                if end <= group.start() {
                    out += &text[end..group.start()];
                    out += &new;
                    end = group.end();
                }
                if let (Some(name), 0) = (name, nth) {
                    named.push((name.to_owned(), new));
                }
            }
        }
        if !is_found {
            return;
        }
        out += &text[end..];
        match &self.source {
            Some(source) => entry.extract(source, Value::Text(out)),
            None => entry.line = out,
        }
        for (name, value) in named {
            entry.extracted.insert(name, Value::Text(value));
        }
    }
}
