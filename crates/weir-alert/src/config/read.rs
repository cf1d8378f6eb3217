//! From what was written to the checked form: defaults, references, secrets from files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_saphyr::Spanned;
use weir_go::parse_prometheus_duration;
use weir_model::{MatchOp, Matcher};

use super::http::RawHttp;
use super::raw::*;
use super::*;
use crate::matchers::{parse_matchers, show_matchers};
use crate::template::default_templates;

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
    let mut reader = Reader::new(file, folder, &raw.global);
    if raw.tracing.is_some() {
        reader.warnings.push("`tracing` has no effect".to_owned());
    }
    let resolve_timeout = match &raw.global.resolve_timeout {
        Some(t) => reader.duration(t.referenced.line(), "resolve_timeout", &t.value)?,
        None => Duration::from_secs(300),
    };
    reader.http(0, &None)?;
    reader.global_secrets(&raw.global);
    reader.names = raw.receivers.iter().map(|r| r.value.name.clone()).collect();
    let mut receivers = Vec::new();
    for (idx, receiver) in raw.receivers.iter().enumerate() {
        let line = receiver.referenced.line();
        if reader.names[..idx].contains(&receiver.value.name) {
            return Err(fail(line, format!("notification config name {:?} is not unique", receiver.value.name)));
        }
        let integrations = receiver.value.integrations(&mut reader, &raw.global)?;
        let (name, labels) = (receiver.value.name.clone(), receiver.value.labels.clone());
        receivers.push(Receiver { name, labels, integrations });
    }
    for interval in raw.mute_time_intervals.iter().chain(&raw.time_intervals) {
        let line = interval.referenced.line();
        let interval = interval.value.check().map_err(|e| fail(line, e))?;
        if reader.intervals.iter().any(|known| known.name == interval.name) {
            return Err(fail(line, format!("time interval {:?} is not unique", interval.name)));
        }
        reader.intervals.push(interval);
    }
    let root = raw.route.ok_or_else(|| fail(1, "no routes provided; give `route` with a `receiver`".to_owned()))?;
    let mut routes = Vec::new();
    reader.route(&root, None, &mut routes)?;
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
    let (time_intervals, warnings) = (reader.intervals, reader.warnings);
    let config =
        Config { resolve_timeout, routes, receivers, inhibit_rules, time_intervals, templates, original, warnings };
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

pub(crate) struct Reader<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
    /// Each with whether it stands in the file itself.
    secrets: Vec<(String, bool)>,
    pub(super) global_http: RawHttp,
    names: Vec<String>,
    intervals: Vec<TimeInterval>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a str, folder: Option<&'a Path>, global: &RawGlobal) -> Self {
        Self {
            file,
            folder,
            secrets: Vec::new(),
            global_http: global.http_config.clone().unwrap_or_default(),
            names: Vec::new(),
            intervals: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }
}

impl Reader<'_> {
    pub(crate) fn fail(&self, line: u64, reason: impl Into<String>) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line, reason: reason.into() }
    }

    pub(crate) fn duration(&self, line: u64, key: &str, text: &str) -> Result<Duration, ConfigError> {
        parse_prometheus_duration(text).map_err(|e| self.fail(line, format!("{key}: {e}")))
    }

    /// A secret given directly or by file; `None` when neither is.
    pub(crate) fn secret(
        &mut self,
        line: u64,
        key: &str,
        value: &Text,
        file: &Text,
    ) -> Result<Option<Secret>, ConfigError> {
        let Some(secret) = self.text_or_file(line, key, value, file)? else { return Ok(None) };
        self.secrets.push((secret.clone(), value.is_some()));
        Ok(Some(Secret(secret)))
    }

    /// Notes them for masking, whether a receiver uses them or not.
    fn global_secrets(&mut self, global: &RawGlobal) {
        let given = [
            &global.smtp_auth_password,
            &global.smtp_auth_secret,
            &global.slack_api_url,
            &global.slack_app_token,
            &global.opsgenie_api_key,
            &global.victorops_api_key,
            &global.telegram_bot_token,
            &global.wechat_api_secret,
            &global.rocketchat_token,
            &global.rocketchat_token_id,
            &global.mattermost_webhook_url,
        ];
        self.secrets.extend(given.into_iter().flatten().map(|s| (s.clone(), true)));
    }

    /// As [`Reader::secret`], for what may be shown.
    pub(crate) fn text_or_file(
        &self,
        line: u64,
        key: &str,
        value: &Text,
        file: &Text,
    ) -> Result<Option<String>, ConfigError> {
        match (value, file) {
            (Some(_), Some(_)) => Err(self.fail(line, format!("at most one of {key} & {key}_file must be configured"))),
            (Some(value), None) => Ok(Some(value.clone())),
            (None, Some(name)) => {
                let path = self.folder.map_or_else(|| Path::new(name).to_owned(), |f| f.join(name));
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| self.fail(line, format!("{key}_file: cannot read {}: {e}", path.display())))?;
                Ok(Some(text.trim().to_owned()))
            }
            (None, None) => Ok(None),
        }
    }

    /// A secret of a receiver, else the global one of the same meaning.
    pub(crate) fn secret_or(
        &mut self,
        line: u64,
        key: &str,
        own: (&Text, &Text),
        global: (&str, &Text, &Text),
    ) -> Result<Option<Secret>, ConfigError> {
        match self.secret(line, key, own.0, own.1)? {
            Some(secret) => Ok(Some(secret)),
            None => self.secret(line, global.0, global.1, global.2),
        }
    }

    /// The URL in a secret. A placeholder such as `<SLACK_WEBHOOK_URL>` is loaded with a warning, so that
    /// a file from a repository can be tried as it stands; nothing can be sent to it.
    pub(crate) fn secret_url(&mut self, line: u64, key: &str, url: &Secret) -> Result<(), ConfigError> {
        if is_placeholder(&url.0) {
            self.warnings.push(format!("{}:{line}: {key} is a placeholder; nothing can be sent there", self.file));
            return Ok(());
        }
        self.url(line, key, &url.0)
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
        &mut self,
        raw: &Spanned<RawRoute>,
        parent: Option<usize>,
        routes: &mut Vec<Route>,
    ) -> Result<usize, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let texts = raw.matchers.clone().unwrap_or_default();
        let matchers = self.matchers(line, &texts, &raw.equal, &raw.match_re)?;
        if parent.is_none() && !matchers.is_empty() {
            return Err(self.fail(line, "root route must not have any matchers"));
        }
        for (key, names) in [("mute", &raw.mute_time_intervals), ("active", &raw.active_time_intervals)] {
            if parent.is_none() && !names.is_empty() {
                return Err(self.fail(line, format!("root route must not have any {key} time intervals")));
            }
        }
        let mute_time_intervals = self.interval_names(line, &raw.mute_time_intervals)?;
        let active_time_intervals = self.interval_names(line, &raw.active_time_intervals)?;
        let inherited = parent.map(|idx: usize| routes[idx].clone());
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
            self.warnings.push(format!("{}:{line}: repeat_interval is less than group_interval", self.file));
        }
        let own_key = show_matchers(&matchers);
        let key = from.map_or(own_key.clone(), |parent| format!("{}/{own_key}", parent.key));
        let mut labels = from.map(|r| r.labels.clone()).unwrap_or_default();
        labels.extend(raw.labels.clone());
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
            mute_time_intervals,
            active_time_intervals,
            labels,
        });
        for child in &raw.routes {
            let child = self.route(child, Some(idx), routes)?;
            routes[idx].children.push(child);
        }
        Ok(idx)
    }

    fn interval_names(&self, line: u64, names: &[String]) -> Result<Vec<usize>, ConfigError> {
        let find = |name: &String| {
            let found = self.intervals.iter().position(|i| i.name == *name);
            found.ok_or_else(|| self.fail(line, format!("undefined time interval {name:?} used in route")))
        };
        names.iter().map(find).collect()
    }

    fn inhibit(&self, raw: &Spanned<RawInhibit>) -> Result<InhibitRule, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        Ok(InhibitRule {
            source: self.matchers(line, &raw.source_matchers, &raw.source_match, &raw.source_match_re)?,
            target: self.matchers(line, &raw.target_matchers, &raw.target_match, &raw.target_match_re)?,
            equal: raw.equal.clone(),
        })
    }

    pub(crate) fn url(&self, line: u64, key: &str, text: &str) -> Result<(), ConfigError> {
        let valid = url::Url::parse(text).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        // The text may hold a token: name the key, not the value.
        if valid { Ok(()) } else { Err(self.fail(line, format!("{key} is not a valid http or https URL"))) }
    }

    pub(crate) fn timeout(&self, line: u64, text: &Text) -> Result<Option<Duration>, ConfigError> {
        let timeout = text.as_ref().map(|t| self.duration(line, "timeout", t)).transpose()?;
        Ok(timeout.filter(|t| !t.is_zero()))
    }

    /// A matter of taste of every kind of receiver: what it is, with the keys that all of them have.
    pub(crate) fn integration(
        &mut self,
        line: u64,
        send_resolved: bool,
        http_config: &Option<RawHttp>,
        kind: impl Receive + 'static,
    ) -> Result<Integration, ConfigError> {
        Ok(Integration { send_resolved, http: self.http(line, http_config)?, timeout: None, kind: Arc::new(kind) })
    }
}

/// Text in angle brackets, as documents write what the reader should fill in.
pub(crate) fn is_placeholder(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    inner.is_some_and(|t| {
        !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b' '))
    })
}
