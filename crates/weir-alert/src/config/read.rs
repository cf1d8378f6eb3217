//! From what was written to the checked form: defaults, references, secrets from files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_saphyr::Spanned;
use weir_go::parse_prometheus_duration;
use weir_model::{MatchOp, Matcher};

use super::raw::*;
use super::*;
use crate::matchers::{parse_matchers, show_matchers};
use crate::template::default_templates;

const PAGERDUTY_V2: &str = "https://events.pagerduty.com/v2/enqueue";
const PAGERDUTY_V1: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";

/// Reads a configuration file; template globs and secret files are relative to its folder.
pub fn read_config(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
        file: file.clone(),
        line: 0,
        reason: format!("cannot read the file: {e}"),
    })?;
    parse_config(&file, &text, path.parent())
}

/// `folder`: where relative paths start; without it they are refused.
pub fn parse_config(file: &str, text: &str, folder: Option<&Path>) -> Result<Config, ConfigError> {
    let fail = |line: u64, reason: String| ConfigError { file: file.to_owned(), line, reason };
    let raw: RawConfig = serde_saphyr::from_str(text).map_err(|e| {
        let reason = e.without_snippet().to_string();
        fail(e.location().map_or(0, |l| l.line()), reason.lines().next().unwrap_or_default().to_owned())
    })?;
    let mut reader = Reader { file, folder, secrets: Vec::new(), global_http: RawHttp::default(), names: Vec::new() };
    let mut warnings: Vec<String> = raw.global.ignored().iter().map(|k| format!("global.{k} has no effect")).collect();
    let resolve_timeout = match &raw.global.resolve_timeout {
        Some(t) => reader.duration(t.referenced.line(), "resolve_timeout", &t.value)?,
        None => Duration::from_secs(300),
    };
    reader.global_http = raw.global.http_config.clone().unwrap_or_default();
    reader.names = raw.receivers.iter().map(|r| r.value.name.clone()).collect();
    let mut receivers = Vec::new();
    for (idx, receiver) in raw.receivers.iter().enumerate() {
        let line = receiver.referenced.line();
        if reader.names[..idx].contains(&receiver.value.name) {
            return Err(fail(line, format!("notification config name {:?} is not unique", receiver.value.name)));
        }
        receivers.push(reader.receiver(&raw.global, &receiver.value)?);
    }
    let root = raw.route.ok_or_else(|| fail(1, "no routes provided; give `route` with a `receiver`".to_owned()))?;
    let mut routes = Vec::new();
    reader.route(&root, None, &mut routes, &mut warnings)?;
    let mut inhibit_rules = Vec::new();
    for rule in &raw.inhibit_rules {
        inhibit_rules.push(reader.inhibit(rule)?);
    }
    let mut templates = default_templates();
    for pattern in &raw.templates {
        for (name, text) in reader.template_files(pattern)? {
            templates.add(&name, &text).map_err(|e| fail(0, e.to_string()))?;
        }
    }
    let original = mask(text, &reader.secrets);
    let config = Config { resolve_timeout, routes, receivers, inhibit_rules, templates, original, warnings };
    crate::notify::check_templates(&config).map_err(|reason| fail(0, reason))?;
    Ok(config)
}

/// The text without any secret; when one stands in it in another spelling, nothing is shown.
fn mask(text: &str, secrets: &[(String, bool)]) -> String {
    let mut out = text.to_owned();
    for (secret, inline) in secrets.iter().filter(|(s, _)| !s.is_empty()) {
        if *inline && !text.contains(secret.as_str()) {
            return "# not shown: a secret is written in a form that cannot be masked\n".to_owned();
        }
        out = out.replace(secret.as_str(), "<secret>");
    }
    out
}

struct Reader<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
    /// Each with whether it stands in the file itself.
    secrets: Vec<(String, bool)>,
    global_http: RawHttp,
    names: Vec<String>,
}

impl Reader<'_> {
    fn fail(&self, line: u64, reason: impl Into<String>) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line, reason: reason.into() }
    }

    fn duration(&self, line: u64, key: &str, text: &str) -> Result<Duration, ConfigError> {
        parse_prometheus_duration(text).map_err(|e| self.fail(line, format!("{key}: {e}")))
    }

    /// A secret given directly or by file; `None` when neither is.
    fn secret(&mut self, line: u64, key: &str, value: &Text, file: &Text) -> Result<Option<Secret>, ConfigError> {
        let (secret, inline) = match (value, file) {
            (Some(_), Some(_)) => {
                return Err(self.fail(line, format!("at most one of {key} & {key}_file must be configured")));
            }
            (Some(value), None) => (value.clone(), true),
            (None, Some(name)) => {
                let path = self.folder.map_or_else(|| Path::new(name).to_owned(), |f| f.join(name));
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| self.fail(line, format!("{key}_file: cannot read {}: {e}", path.display())))?;
                (text.trim().to_owned(), false)
            }
            (None, None) => return Ok(None),
        };
        self.secrets.push((secret.clone(), inline));
        Ok(Some(Secret(secret)))
    }

    fn template_files(&self, pattern: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let folder = self.folder.unwrap_or(Path::new("."));
        let path = folder.join(pattern);
        let last = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let mut files = Vec::new();
        if let Some((prefix, suffix)) = last.split_once('*') {
            if suffix.contains('*') || last.contains(['?', '[']) {
                return Err(self.fail(0, format!("templates: {pattern:?}: use one `*` in the file name at most")));
            }
            let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix) {
                    files.push(entry.path());
                }
            }
            files.sort();
        } else {
            files.push(path);
        }
        let read = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| self.fail(0, format!("templates: cannot read {}: {e}", path.display())))?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            Ok((name, text))
        };
        files.into_iter().map(read).collect()
    }

    fn matchers(
        &self,
        line: u64,
        texts: &[String],
        equal: &BTreeMap<String, String>,
        regex: &BTreeMap<String, String>,
    ) -> Result<Vec<Matcher>, ConfigError> {
        let mut out = Vec::new();
        for (name, value) in equal {
            out.push(Matcher::equal(name, value));
        }
        for (name, value) in regex {
            out.push(Matcher::new(name, MatchOp::Regex, value).map_err(|e| self.fail(line, e.to_string()))?);
        }
        for text in texts {
            out.extend(parse_matchers(text).map_err(|e| self.fail(line, e.to_string()))?);
        }
        out.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        Ok(out)
    }

    /// Adds the route and its children to `routes`; gives its index.
    fn route(
        &self,
        raw: &Spanned<RawRoute>,
        parent: Option<usize>,
        routes: &mut Vec<Route>,
        warnings: &mut Vec<String>,
    ) -> Result<usize, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let texts = raw.matchers.clone().unwrap_or_default();
        let matchers = self.matchers(line, &texts, &raw.equal, &raw.match_re)?;
        if parent.is_none() && !matchers.is_empty() {
            return Err(self.fail(line, "root route must not have any matchers"));
        }
        let inherited = parent.map(|idx| routes[idx].clone());
        let receiver = match (&raw.receiver, &inherited) {
            (Some(name), _) => self
                .names
                .iter()
                .position(|n| n == name)
                .ok_or_else(|| self.fail(line, format!("undefined receiver {name:?} used in route")))?,
            (None, Some(parent)) => parent.receiver,
            (None, None) => return Err(self.fail(line, "root route must specify a default receiver")),
        };
        let group_by = match (&raw.group_by, &inherited) {
            (Some(names), _) if names.iter().any(|n| n == "...") => {
                if names.len() > 1 {
                    return Err(
                        self.fail(line, "cannot have wildcard group_by (`...`) and other labels at the same time")
                    );
                }
                GroupBy::All
            }
            (Some(names), _) => GroupBy::Labels(names.clone()),
            (None, Some(parent)) => parent.group_by.clone(),
            (None, None) => GroupBy::Labels(Vec::new()),
        };
        let time = |key: &str, text: &Text, from: Option<Duration>, default: u64| match text {
            Some(text) => self.duration(line, key, text),
            None => Ok(from.unwrap_or(Duration::from_secs(default))),
        };
        let from = inherited.as_ref();
        let group_wait = time("group_wait", &raw.group_wait, from.map(|r| r.group_wait), 30)?;
        let group_interval = time("group_interval", &raw.group_interval, from.map(|r| r.group_interval), 300)?;
        let repeat_interval = time("repeat_interval", &raw.repeat_interval, from.map(|r| r.repeat_interval), 4 * 3600)?;
        for (key, value) in [("group_interval", group_interval), ("repeat_interval", repeat_interval)] {
            if value.is_zero() {
                return Err(self.fail(line, format!("{key} cannot be zero")));
            }
        }
        if repeat_interval < group_interval {
            warnings.push(format!("{}:{line}: repeat_interval is less than group_interval", self.file));
        }
        let own_key = show_matchers(&matchers);
        let key = from.map_or(own_key.clone(), |parent| format!("{}/{own_key}", parent.key));
        let idx = routes.len();
        routes.push(Route {
            receiver,
            group_by,
            matchers,
            continues: raw.continues,
            group_wait,
            group_interval,
            repeat_interval,
            children: Vec::new(),
            key,
        });
        for child in &raw.routes {
            let child = self.route(child, Some(idx), routes, warnings)?;
            routes[idx].children.push(child);
        }
        Ok(idx)
    }

    fn inhibit(&self, raw: &Spanned<RawInhibit>) -> Result<InhibitRule, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        Ok(InhibitRule {
            source: self.matchers(line, &raw.source_matchers, &raw.source_match, &raw.source_match_re)?,
            target: self.matchers(line, &raw.target_matchers, &raw.target_match, &raw.target_match_re)?,
            equal: raw.equal.clone(),
        })
    }

    fn http(&mut self, line: u64, raw: &Option<RawHttp>) -> Result<HttpConfig, ConfigError> {
        let raw = raw.clone().unwrap_or_else(|| self.global_http.clone());
        let basic_auth = match &raw.basic_auth {
            Some(auth) => {
                let password = self.secret(line, "password", &auth.password, &auth.password_file)?;
                Some((auth.username.clone(), password.unwrap_or(Secret(String::new()))))
            }
            None => None,
        };
        let mut authorization = match &raw.authorization {
            Some(auth) => self
                .secret(line, "credentials", &auth.credentials, &auth.credentials_file)?
                .map(|secret| (auth.kind.clone().unwrap_or_else(|| "Bearer".to_owned()), secret)),
            None => None,
        };
        if let Some(token) = self.secret(line, "bearer_token", &raw.bearer_token, &raw.bearer_token_file)? {
            authorization = Some(("Bearer".to_owned(), token));
        }
        if basic_auth.is_some() && authorization.is_some() {
            return Err(self.fail(line, "at most one of basic_auth and authorization must be configured"));
        }
        // HTTP/2 is negotiated where it is on by default; turning it off changes nothing a receiver sees.
        let _ = raw.enable_http2;
        Ok(HttpConfig { basic_auth, authorization, follow_redirects: raw.follow_redirects.unwrap_or(true) })
    }

    fn url(&self, line: u64, key: &str, text: &str) -> Result<(), ConfigError> {
        let valid = url::Url::parse(text).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        // The text may hold a token: name the key, not the value.
        if valid { Ok(()) } else { Err(self.fail(line, format!("{key} is not a valid http or https URL"))) }
    }

    fn receiver(&mut self, global: &RawGlobal, raw: &RawReceiver) -> Result<Receiver, ConfigError> {
        let mut integrations = Vec::new();
        for webhook in &raw.webhook_configs {
            integrations.push(self.webhook(webhook)?);
        }
        for slack in &raw.slack_configs {
            integrations.push(self.slack(global, slack)?);
        }
        for pagerduty in &raw.pagerduty_configs {
            integrations.push(self.pagerduty(global, pagerduty)?);
        }
        Ok(Receiver { name: raw.name.clone(), integrations })
    }

    fn timeout(&self, line: u64, text: &Text) -> Result<Option<Duration>, ConfigError> {
        let timeout = text.as_ref().map(|t| self.duration(line, "timeout", t)).transpose()?;
        Ok(timeout.filter(|t| !t.is_zero()))
    }

    fn webhook(&mut self, raw: &Spanned<RawWebhook>) -> Result<Integration, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let url = self.secret(line, "url", &raw.url, &raw.url_file)?;
        let url = url.ok_or_else(|| self.fail(line, "one of url or url_file must be configured"))?;
        self.url(line, "webhook url", &url.0)?;
        Ok(Integration {
            send_resolved: raw.send_resolved.unwrap_or(true),
            http: self.http(line, &raw.http_config)?,
            timeout: self.timeout(line, &raw.timeout)?,
            kind: IntegrationKind::Webhook(Webhook { url, max_alerts: raw.max_alerts }),
        })
    }

    fn slack(&mut self, global: &RawGlobal, raw: &Spanned<RawSlack>) -> Result<Integration, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let own = self.secret(line, "api_url", &raw.api_url, &raw.api_url_file)?;
        let api_url = match own {
            Some(url) => url,
            None => self
                .secret(line, "slack_api_url", &global.slack_api_url, &global.slack_api_url_file)?
                .ok_or_else(|| self.fail(line, "no global Slack API URL set: give api_url or global.slack_api_url"))?,
        };
        self.url(line, "slack api_url", &api_url.0)?;
        let or = |text: &Text, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
        let named = |text: &Text, name: &str| or(text, &format!("{{{{ template \"slack.default.{name}\" . }}}}"));
        let texts = BTreeMap::from([
            ("channel", or(&raw.channel, "")),
            ("username", named(&raw.username, "username")),
            ("color", or(&raw.color, r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#)),
            ("title", named(&raw.title, "title")),
            ("title_link", named(&raw.title_link, "titlelink")),
            ("pretext", named(&raw.pretext, "pretext")),
            ("text", named(&raw.text, "text")),
            ("fallback", named(&raw.fallback, "fallback")),
            ("callback_id", named(&raw.callback_id, "callbackid")),
            ("icon_emoji", named(&raw.icon_emoji, "iconemoji")),
            ("icon_url", named(&raw.icon_url, "iconurl")),
            ("footer", named(&raw.footer, "footer")),
            ("image_url", or(&raw.image_url, "")),
            ("thumb_url", or(&raw.thumb_url, "")),
            ("message_text", or(&raw.message_text, "")),
        ]);
        let field = |f: &RawSlackField| SlackField { title: f.title.clone(), value: f.value.clone(), short: f.short };
        let mrkdwn = || ["fallback", "pretext", "text"].map(str::to_owned).to_vec();
        Ok(Integration {
            send_resolved: raw.send_resolved.unwrap_or(false),
            http: self.http(line, &raw.http_config)?,
            timeout: self.timeout(line, &raw.timeout)?,
            kind: IntegrationKind::Slack(Box::new(Slack {
                api_url,
                texts,
                link_names: raw.link_names,
                short_fields: raw.short_fields,
                fields: raw.fields.iter().map(field).collect(),
                actions: raw.actions.iter().map(slack_action).collect(),
                mrkdwn_in: raw.mrkdwn_in.clone().unwrap_or_else(mrkdwn),
            })),
        })
    }

    fn pagerduty(&mut self, global: &RawGlobal, raw: &Spanned<RawPagerduty>) -> Result<Integration, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let routing = self.secret(line, "routing_key", &raw.routing_key, &raw.routing_key_file)?;
        let service = self.secret(line, "service_key", &raw.service_key, &raw.service_key_file)?;
        let (key, default_url) = match (routing, service) {
            (Some(key), None) => (PagerdutyKey::Routing(key), PAGERDUTY_V2),
            (None, Some(key)) => (PagerdutyKey::Service(key), PAGERDUTY_V1),
            (None, None) => return Err(self.fail(line, "missing service or routing key in PagerDuty config")),
            (Some(_), Some(_)) => {
                return Err(self.fail(line, "at most one of routing_key & service_key must be configured"));
            }
        };
        let url = raw.url.clone().or_else(|| global.pagerduty_url.clone()).unwrap_or_else(|| default_url.to_owned());
        self.url(line, "pagerduty url", &url)?;
        let or = |text: &Text, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
        let client = or(&raw.client, r#"{{ template "pagerduty.default.client" . }}"#);
        let texts = BTreeMap::from([
            ("client_url", or(&raw.client_url, r#"{{ template "pagerduty.default.clientURL" . }}"#)),
            ("description", or(&raw.description, r#"{{ template "pagerduty.default.description" . }}"#)),
            ("severity", or(&raw.severity, "error")),
            ("source", raw.source.clone().unwrap_or_else(|| client.clone())),
            ("client", client),
            ("class", or(&raw.class, "")),
            ("component", or(&raw.component, "")),
            ("group", or(&raw.group, "")),
        ]);
        let mut details = serde_json::Map::new();
        for (name, text) in [
            ("firing", r#"{{ template "pagerduty.default.instances" .Alerts.Firing }}"#),
            ("resolved", r#"{{ template "pagerduty.default.instances" .Alerts.Resolved }}"#),
            ("num_firing", "{{ .Alerts.Firing | len }}"),
            ("num_resolved", "{{ .Alerts.Resolved | len }}"),
        ] {
            details.insert(name.to_owned(), text.into());
        }
        details.extend(raw.details.clone());
        let given = |pairs: [(&'static str, &Text); 3]| -> BTreeMap<&'static str, String> {
            pairs.iter().filter_map(|(k, v)| Some((*k, (*v).clone()?))).collect()
        };
        let none = None;
        Ok(Integration {
            send_resolved: raw.send_resolved.unwrap_or(true),
            http: self.http(line, &raw.http_config)?,
            timeout: self.timeout(line, &raw.timeout)?,
            kind: IntegrationKind::Pagerduty(Box::new(Pagerduty {
                url,
                key,
                texts,
                details,
                images: raw
                    .images
                    .iter()
                    .map(|i| given([("src", &i.src), ("alt", &i.alt), ("href", &i.href)]))
                    .collect(),
                links: raw.links.iter().map(|l| given([("href", &l.href), ("text", &l.text), ("", &none)])).collect(),
            })),
        })
    }
}

fn slack_action(raw: &RawSlackAction) -> SlackAction {
    let or_empty = |text: &Text| text.clone().unwrap_or_default();
    let texts = BTreeMap::from([
        ("type", raw.kind.clone().unwrap_or_else(|| "button".to_owned())),
        ("text", or_empty(&raw.text)),
        ("url", or_empty(&raw.url)),
        ("style", or_empty(&raw.style)),
        ("name", or_empty(&raw.name)),
        ("value", or_empty(&raw.value)),
    ]);
    let confirm = raw.confirm.as_ref().map(|c| {
        BTreeMap::from([
            ("title", or_empty(&c.title)),
            ("text", or_empty(&c.text)),
            ("ok_text", or_empty(&c.ok_text)),
            ("dismiss_text", or_empty(&c.dismiss_text)),
        ])
    });
    SlackAction { texts, confirm }
}
