//! Jira: an issue per group, found again by a label, moved along its workflow.

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::{Answer, Receive, Request, Say, Step, Texts, Verdict, all, base, named, or, strings, truncate};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration};

const SUMMARY_MAX: usize = 255;
const DESCRIPTION_MAX: usize = 32_767;

receiver_keys!(Raw {
    api_url, api_type, project, issue_type, summary, description, priority, reopen_transition, resolve_transition,
    wont_fix_resolution, reopen_duration,
} labels: Vec<String>, fields: std::collections::BTreeMap<String, Json>);

#[derive(Debug)]
struct Jira {
    api: String,
    /// `search/jql` in the cloud, `search` in a data center.
    search: &'static str,
    texts: Texts,
    labels: Vec<String>,
    fields: Json,
    reopen_minutes: u64,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let api = raw.api_url.clone().or_else(|| global.jira_api_url.clone());
    let api = api.ok_or_else(|| r.fail(line, "no global Jira Cloud URL set: give api_url or global.jira_api_url"))?;
    r.url(line, "jira api_url", &api)?;
    for (key, text) in [("project", &raw.project), ("issue_type", &raw.issue_type)] {
        if text.as_deref().unwrap_or_default().is_empty() {
            return Err(r.fail(line, format!("missing {key} in jira_config")));
        }
    }
    let cloud = match raw.api_type.as_deref() {
        None | Some("" | "auto") => {
            url::Url::parse(&api).is_ok_and(|u| u.domain().is_some_and(|d| d.ends_with("atlassian.net")))
        }
        Some("cloud") => true,
        Some("datacenter") => false,
        Some(other) => {
            return Err(
                r.fail(line, format!("unknown api_type {other:?} on jira_config, must be cloud, datacenter or auto"))
            );
        }
    };
    let reopen = raw.reopen_duration.as_ref().map(|t| r.duration(line, "reopen_duration", t)).transpose()?;
    let texts = Texts::from([
        ("project", or(&raw.project, "")),
        ("issue_type", or(&raw.issue_type, "")),
        ("summary", named(&raw.summary, "jira.default.summary")),
        ("description", named(&raw.description, "jira.default.description")),
        ("priority", named(&raw.priority, "jira.default.priority")),
        ("reopen_transition", or(&raw.reopen_transition, "")),
        ("resolve_transition", or(&raw.resolve_transition, "")),
        ("wont_fix_resolution", or(&raw.wont_fix_resolution, "")),
    ]);
    let jira = Jira {
        api: base(&api),
        search: if cloud { "search/jql" } else { "search" },
        texts,
        labels: raw.labels.clone(),
        fields: Json::Object(raw.fields.clone().into_iter().collect()),
        reopen_minutes: reopen.unwrap_or_default().as_secs() / 60,
    };
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, jira)
}

impl Receive for Jira {
    fn name(&self) -> &'static str {
        "jira"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        let labels = self.labels.iter().map(String::as_str);
        all(&self.texts).into_iter().chain(labels).chain(strings(&self.fields)).collect()
    }
    /// Search; then create, or change; then look up the transition that is due, and go through it.
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        if let Some(step) = answers.last().and_then(|a| a.failure(&[])) {
            return Ok(step);
        }
        let Some(found) = answers.first() else {
            let body = json!({ "jql": self.jql(say)?, "maxResults": 2, "fields": ["status"] });
            return Ok(Step::Http(Request::post(format!("{}{}", self.api, self.search), &body)));
        };
        let found = found.json();
        let issue = &found["issues"][0];
        let Some(key) = issue["key"].as_str() else {
            return Ok(match answers.len() {
                1 if say.firing() => {
                    let body = json!({ "fields": self.issue(say)? });
                    Step::Http(Request::post(format!("{}issue", self.api), &body))
                }
                _ => Step::End(Verdict::delivered()),
            });
        };
        let done = issue["fields"]["status"]["statusCategory"]["key"] == "done";
        let wanted = match (say.firing(), done) {
            (true, true) => say.of(&self.texts, "reopen_transition")?,
            (false, false) => say.of(&self.texts, "resolve_transition")?,
            _ => String::new(),
        };
        let transitions = format!("{}issue/{key}/transitions", self.api);
        Ok(match answers.len() {
            1 => {
                let body = json!({ "fields": self.issue(say)? });
                Step::Http(Request::post(format!("{}issue/{key}", self.api), &body).method(Method::PUT))
            }
            2 if !wanted.is_empty() => Step::Http(Request::get(transitions)),
            3 => {
                let list = answers[2].json();
                let list = list["transitions"].as_array().cloned().unwrap_or_default();
                let id = list.iter().find(|t| t["name"] == *wanted).map(|t| t["id"].clone());
                let id = id.ok_or_else(|| format!("jira: issue {key} has no transition {wanted:?} now"))?;
                Step::Http(Request::post(transitions, &json!({ "transition": { "id": id } })))
            }
            _ => Step::End(Verdict::delivered()),
        })
    }
}

impl Jira {
    fn jql(&self, say: &Say<'_>) -> Result<String, String> {
        let mut jql = String::new();
        let wont_fix = say.of(&self.texts, "wont_fix_resolution")?;
        if !wont_fix.is_empty() {
            jql += &format!("resolution != {wont_fix:?} and ");
        }
        if !say.firing() || self.texts["reopen_transition"].is_empty() {
            jql += "statusCategory != Done and ";
        } else if self.reopen_minutes > 0 {
            jql += &format!("(resolutiondate is EMPTY OR resolutiondate >= -{}m) and ", self.reopen_minutes);
        }
        let project = say.of(&self.texts, "project")?;
        jql += &format!("project={project:?} and labels={:?} order by status ASC,resolutiondate DESC", label(say));
        Ok(jql)
    }

    fn issue(&self, say: &Say<'_>) -> Result<Map<String, Json>, String> {
        let text = |key: &str| say.of(&self.texts, key);
        let mut fields = match say.tree(&self.fields)? {
            Json::Object(fields) => fields,
            _ => Map::new(),
        };
        let description = truncate(text("description")?, DESCRIPTION_MAX);
        // Version 3 of the API takes a document instead of text.
        let description = if self.api.ends_with("/3/") {
            match serde_json::from_str(&description) {
                Ok(document @ Json::Object(_)) => document,
                _ => json!({
                    "type": "doc", "version": 1,
                    "content": [{ "type": "paragraph", "content": [{ "type": "text", "text": description }] }],
                }),
            }
        } else {
            description.into()
        };
        let mut labels = self.labels.iter().map(|l| say.text(l)).collect::<Result<Vec<_>, _>>()?;
        labels.push(label(say));
        labels.sort();
        fields.insert("project".into(), json!({ "key": text("project")? }));
        fields.insert("issuetype".into(), json!({ "name": text("issue_type")? }));
        fields.insert("summary".into(), truncate(text("summary")?, SUMMARY_MAX).into());
        fields.insert("description".into(), description);
        fields.insert("labels".into(), labels.into());
        let priority = text("priority")?;
        if !priority.trim().is_empty() {
            fields.insert("priority".into(), json!({ "name": priority.trim() }));
        }
        Ok(fields)
    }
}

/// By which the group's issue is found again.
fn label(say: &Say<'_>) -> String {
    format!("ALERT{{{}}}", say.dedup_key())
}
