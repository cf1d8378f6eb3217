//! The configuration as written. Unknown keys are refused by serde with their line; the keys of
//! each kind of receiver stand beside its code in `notify/`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

use super::http::{RawHttp, RawTls};
use super::interval::RawTimeInterval;
use crate::notify;

pub(crate) type Text = Option<String>;

/// The keys of one kind of receiver: first those that are text, then others with their types.
macro_rules! receiver_keys {
    ($name:ident { $($text:ident),* $(,)? } $($(#[$meta:meta])* $other:ident: $ty:ty),* $(,)?) => {
        #[derive(serde::Deserialize, Default)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            pub send_resolved: Option<bool>,
            pub http_config: Option<$crate::config::http::RawHttp>,
            $(pub $text: Option<String>,)*
            $($(#[$meta])* pub $other: $ty,)*
        }
    };
}
pub(crate) use receiver_keys;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConfig {
    #[serde(default)]
    pub global: RawGlobal,
    #[serde(default)]
    pub templates: Vec<String>,
    pub route: Option<Spanned<RawRoute>>,
    #[serde(default)]
    pub receivers: Vec<Spanned<RawReceiver>>,
    #[serde(default)]
    pub inhibit_rules: Vec<Spanned<RawInhibit>>,
    #[serde(default)]
    pub time_intervals: Vec<Spanned<RawTimeInterval>>,
    #[serde(default)]
    pub mute_time_intervals: Vec<Spanned<RawTimeInterval>>,
    /// Alertmanager's traces of itself; accepted, without effect.
    pub tracing: Option<IgnoredAny>,
}

macro_rules! global_keys {
    ($($text:ident),* $(,)?) => {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct RawGlobal {
            pub resolve_timeout: Option<Spanned<String>>,
            pub http_config: Option<RawHttp>,
            pub smtp_require_tls: Option<bool>,
            pub smtp_force_implicit_tls: Option<bool>,
            pub smtp_tls_config: Option<RawTls>,
            $(pub $text: Text,)*
        }
    };
}

global_keys! {
    smtp_from, smtp_hello, smtp_smarthost, smtp_auth_username, smtp_auth_password, smtp_auth_password_file,
    smtp_auth_secret, smtp_auth_secret_file, smtp_auth_identity,
    slack_api_url, slack_api_url_file, slack_app_token, slack_app_token_file, slack_app_url,
    pagerduty_url,
    opsgenie_api_url, opsgenie_api_key, opsgenie_api_key_file,
    victorops_api_url, victorops_api_key, victorops_api_key_file,
    telegram_api_url, telegram_bot_token, telegram_bot_token_file,
    webex_api_url,
    wechat_api_url, wechat_api_secret, wechat_api_secret_file, wechat_api_corp_id,
    rocketchat_api_url, rocketchat_token, rocketchat_token_file, rocketchat_token_id, rocketchat_token_id_file,
    mattermost_webhook_url, mattermost_webhook_url_file,
    jira_api_url,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRoute {
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
    pub mute_time_intervals: Vec<String>,
    pub active_time_intervals: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub routes: Vec<Spanned<RawRoute>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawInhibit {
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

/// One place per kind of receiver: its key in the file, and what reads it.
macro_rules! receiver_kinds {
    ($($key:ident: $module:ident),* $(,)?) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct RawReceiver {
            pub name: String,
            #[serde(default)]
            pub labels: BTreeMap<String, String>,
            $(#[serde(default)] pub $key: Option<Vec<Spanned<notify::$module::Raw>>>,)*
        }

        impl RawReceiver {
            /// Integrations in upstream's order of kinds.
            pub(crate) fn integrations(
                &self,
                reader: &mut super::read::Reader<'_>,
                global: &RawGlobal,
            ) -> Result<Vec<super::Integration>, super::ConfigError> {
                let mut out = Vec::new();
                $(for raw in self.$key.iter().flatten() {
                    out.push(notify::$module::read(reader, global, raw.referenced.line(), &raw.value)?);
                })*
                Ok(out)
            }
        }
    };
}

receiver_kinds! {
    webhook_configs: webhook,
    email_configs: email,
    pagerduty_configs: pagerduty,
    opsgenie_configs: opsgenie,
    wechat_configs: wechat,
    slack_configs: slack,
    victorops_configs: victorops,
    pushover_configs: pushover,
    sns_configs: sns,
    telegram_configs: telegram,
    discord_configs: discord,
    webex_configs: webex,
    msteams_configs: msteams,
    msteamsv2_configs: msteamsv2,
    jira_configs: jira,
    rocketchat_configs: rocketchat,
    mattermost_configs: mattermost,
    incidentio_configs: incidentio,
    twilio_configs: twilio,
}
