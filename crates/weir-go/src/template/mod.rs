//! Go's text/template: what annotations, notifications and LogQL's `line_format` are written in.
//!
//! [`Templates`] holds functions and named templates; [`Templates::parse`] gives a [`Template`] that
//! can be rendered many times over [`Value`]s. Data with methods implements [`Object`].
//!
//! ```
//! use weir_go::template::{Functions, Templates, Value};
//! let templates = Templates::new(Functions::builtin());
//! let hello = templates.parse("hello", "{{range .names}}hello {{.}}! {{end}}").unwrap();
//! let data = Value::map([("names", Value::list([Value::from("ann"), Value::from("bo")]))]);
//! assert_eq!(templates.render(&hello, &data).unwrap(), "hello ann! hello bo! ");
//! ```
//!
//! Differences to Go: a key missing from any map is the empty string (`missingkey=zero` for string
//! maps, the setting of all three users); there are no complex numbers, function values or `call`;
//! output, loop rounds and nesting are limited. Source: Go `text/template` documentation.

mod builtin;
mod common;
mod exec;
mod html;
mod lex;
mod parse;
mod printf;
mod value;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use builtin::{FuncResult, Functions, escape_html};
pub use exec::Call;
pub use value::{Object, Value};

use parse::Block;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {name}:{line}: {reason}")]
pub struct TemplateError {
    pub name: String,
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// One parsed text, together with the templates it defines for itself.
#[derive(Clone, Debug)]
pub struct Template {
    name: Arc<str>,
    body: Arc<Block>,
    defined: BTreeMap<String, Arc<Named>>,
}

/// A template that others call by name.
#[derive(Debug)]
struct Named {
    /// The text it stands in, for errors.
    file: Arc<str>,
    body: Arc<Block>,
}

/// Functions and named templates that several texts share.
#[derive(Clone, Debug)]
pub struct Templates {
    functions: Functions,
    named: BTreeMap<String, Arc<Named>>,
}

impl Templates {
    pub fn new(functions: Functions) -> Self {
        Self { functions, named: BTreeMap::new() }
    }

    /// Takes over what `text` defines, replacing earlier definitions of the same names.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let template = self.parse(name, text)?;
        if !template.body.is_blank() {
            let named = Named { file: template.name.clone(), body: template.body.clone() };
            self.named.insert(name.to_owned(), Arc::new(named));
        }
        self.named.extend(template.defined);
        Ok(())
    }

    pub fn parse(&self, name: &str, text: &str) -> Result<Template, TemplateError> {
        let file: Arc<str> = name.into();
        let parsed = parse::parse(name, text, &self.functions)?;
        let wrap = |body: Block| Arc::new(Named { file: file.clone(), body: Arc::new(body) });
        let defined = parsed.defined.into_iter().map(|(name, body)| (name, wrap(body))).collect();
        Ok(Template { name: file.clone(), body: Arc::new(parsed.body), defined })
    }

    pub fn render(&self, template: &Template, data: &Value) -> Result<String, TemplateError> {
        self.render_with(template, data, &())
    }

    /// `env` is what functions see as [`Call::env`].
    pub fn render_with(&self, template: &Template, data: &Value, env: &dyn Any) -> Result<String, TemplateError> {
        exec::render(self, template, data, env, false)
    }

    /// As [`Templates::render_with`], with what actions print escaped for where in the HTML it stands.
    pub fn render_html(&self, template: &Template, data: &Value, env: &dyn Any) -> Result<String, TemplateError> {
        exec::render(self, template, data, env, true)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
