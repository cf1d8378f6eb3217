//! The configuration as written. Unknown keys are refused by serde with their line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

pub(super) type Text = Option<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub global: RawGlobal,
    #[serde(default)]
    pub templates: Vec<String>,
    pub route: Option<Spanned<RawRoute>>,
    #[serde(default)]
    pub receivers: Vec<Spanned<RawReceiver>>,
    #[serde(default)]
    pub inhibit_rules: Vec<Spanned<RawInhibit>>,
}

/// Keys of integrations that are not supported are accepted: without such a receiver, which is
/// refused, they have no effect.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGlobal {
    pub resolve_timeout: Option<Spanned<String>>,
    pub http_config: Option<RawHttp>,
    pub slack_api_url: Text,
    pub slack_api_url_file: Text,
    pub pagerduty_url: Text,
    pub smtp_from: Option<IgnoredAny>,
    pub smtp_hello: Option<IgnoredAny>,
    pub smtp_smarthost: Option<IgnoredAny>,
    pub smtp_auth_username: Option<IgnoredAny>,
    pub smtp_auth_password: Option<IgnoredAny>,
    pub smtp_auth_password_file: Option<IgnoredAny>,
    pub smtp_auth_secret: Option<IgnoredAny>,
    pub smtp_auth_identity: Option<IgnoredAny>,
    pub smtp_require_tls: Option<IgnoredAny>,
    pub smtp_tls_config: Option<IgnoredAny>,
    pub opsgenie_api_url: Option<IgnoredAny>,
    pub opsgenie_api_key: Option<IgnoredAny>,
    pub opsgenie_api_key_file: Option<IgnoredAny>,
    pub victorops_api_url: Option<IgnoredAny>,
    pub victorops_api_key: Option<IgnoredAny>,
    pub victorops_api_key_file: Option<IgnoredAny>,
    pub telegram_api_url: Option<IgnoredAny>,
    pub webex_api_url: Option<IgnoredAny>,
    pub wechat_api_url: Option<IgnoredAny>,
}

impl RawGlobal {
    /// Names of keys that were given and have no effect.
    pub fn ignored(&self) -> Vec<&'static str> {
        let given = [
            ("smtp_from", self.smtp_from.is_some()),
            ("smtp_hello", self.smtp_hello.is_some()),
            ("smtp_smarthost", self.smtp_smarthost.is_some()),
            ("smtp_auth_username", self.smtp_auth_username.is_some()),
            ("smtp_auth_password", self.smtp_auth_password.is_some()),
            ("smtp_auth_password_file", self.smtp_auth_password_file.is_some()),
            ("smtp_auth_secret", self.smtp_auth_secret.is_some()),
            ("smtp_auth_identity", self.smtp_auth_identity.is_some()),
            ("smtp_require_tls", self.smtp_require_tls.is_some()),
            ("smtp_tls_config", self.smtp_tls_config.is_some()),
            ("opsgenie_api_url", self.opsgenie_api_url.is_some()),
            ("opsgenie_api_key", self.opsgenie_api_key.is_some()),
            ("opsgenie_api_key_file", self.opsgenie_api_key_file.is_some()),
            ("victorops_api_url", self.victorops_api_url.is_some()),
            ("victorops_api_key", self.victorops_api_key.is_some()),
            ("victorops_api_key_file", self.victorops_api_key_file.is_some()),
            ("telegram_api_url", self.telegram_api_url.is_some()),
            ("webex_api_url", self.webex_api_url.is_some()),
            ("wechat_api_url", self.wechat_api_url.is_some()),
        ];
        given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect()
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRoute {
    pub receiver: Text,
    pub group_by: Option<Vec<String>>,
    #[serde(rename = "continue")]
    pub continues: bool,
    pub matchers: Option<Vec<String>>,
    #[serde(rename = "match")]
    pub equal: BTreeMap<String, String>,
    pub match_re: BTreeMap<String, String>,
    pub group_wait: Text,
    pub group_interval: Text,
    pub repeat_interval: Text,
    pub routes: Vec<Spanned<RawRoute>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawInhibit {
    #[serde(rename = "name")]
    pub _name: Text,
    pub source_matchers: Vec<String>,
    pub target_matchers: Vec<String>,
    pub source_match: BTreeMap<String, String>,
    pub source_match_re: BTreeMap<String, String>,
    pub target_match: BTreeMap<String, String>,
    pub target_match_re: BTreeMap<String, String>,
    pub equal: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReceiver {
    pub name: String,
    #[serde(default)]
    pub webhook_configs: Vec<Spanned<RawWebhook>>,
    #[serde(default)]
    pub slack_configs: Vec<Spanned<RawSlack>>,
    #[serde(default)]
    pub pagerduty_configs: Vec<Spanned<RawPagerduty>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    pub basic_auth: Option<RawBasicAuth>,
    pub authorization: Option<RawAuthorization>,
    pub bearer_token: Text,
    pub bearer_token_file: Text,
    pub follow_redirects: Option<bool>,
    pub enable_http2: Option<bool>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBasicAuth {
    pub username: String,
    pub password: Text,
    pub password_file: Text,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuthorization {
    #[serde(rename = "type")]
    pub kind: Text,
    pub credentials: Text,
    pub credentials_file: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWebhook {
    pub send_resolved: Option<bool>,
    pub http_config: Option<RawHttp>,
    pub url: Text,
    pub url_file: Text,
    pub max_alerts: usize,
    pub timeout: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSlack {
    pub send_resolved: Option<bool>,
    pub http_config: Option<RawHttp>,
    pub api_url: Text,
    pub api_url_file: Text,
    pub channel: Text,
    pub username: Text,
    pub color: Text,
    pub title: Text,
    pub title_link: Text,
    pub pretext: Text,
    pub text: Text,
    pub fallback: Text,
    pub callback_id: Text,
    pub icon_emoji: Text,
    pub icon_url: Text,
    pub image_url: Text,
    pub thumb_url: Text,
    pub footer: Text,
    pub message_text: Text,
    pub link_names: bool,
    pub short_fields: bool,
    pub mrkdwn_in: Option<Vec<String>>,
    pub fields: Vec<RawSlackField>,
    pub actions: Vec<RawSlackAction>,
    pub timeout: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSlackField {
    pub title: String,
    pub value: String,
    pub short: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSlackAction {
    #[serde(rename = "type")]
    pub kind: Text,
    pub text: Text,
    pub url: Text,
    pub style: Text,
    pub name: Text,
    pub value: Text,
    pub confirm: Option<RawSlackConfirm>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSlackConfirm {
    pub title: Text,
    pub text: Text,
    pub ok_text: Text,
    pub dismiss_text: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPagerduty {
    pub send_resolved: Option<bool>,
    pub http_config: Option<RawHttp>,
    pub routing_key: Text,
    pub routing_key_file: Text,
    pub service_key: Text,
    pub service_key_file: Text,
    pub url: Text,
    pub client: Text,
    pub client_url: Text,
    pub description: Text,
    pub severity: Text,
    pub source: Text,
    pub class: Text,
    pub component: Text,
    pub group: Text,
    pub details: BTreeMap<String, serde_json::Value>,
    pub images: Vec<RawImage>,
    pub links: Vec<RawLink>,
    pub timeout: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawImage {
    pub src: Text,
    pub alt: Text,
    pub href: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLink {
    pub href: Text,
    pub text: Text,
}
