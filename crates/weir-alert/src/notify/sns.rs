//! Amazon SNS: a message published with a signed request.
//!
//! Source: AWS Signature Version 4 for API requests; SNS `Publish`.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use weir_model::Timestamp;

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once, or, truncate_bytes};
use crate::config::raw::{RawGlobal, Text, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};
use crate::hmac;

const SUBJECT_MAX: usize = 100;
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const SMS_BYTES_MAX: usize = 1600;

receiver_keys!(Raw { api_url, topic_arn, phone_number, target_arn, subject, message }
    sigv4: RawSigv4, attributes: BTreeMap<String, String>);

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSigv4 {
    region: Text,
    access_key: Text,
    secret_key: Text,
    profile: Text,
    role_arn: Text,
}

#[derive(Debug)]
struct Sns {
    url: String,
    region: String,
    access_key: String,
    secret_key: Secret,
    session_token: Option<Secret>,
    texts: Texts,
    attributes: Vec<(String, String)>,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let given = [&raw.topic_arn, &raw.phone_number, &raw.target_arn];
    if given.iter().filter(|t| t.as_deref().is_some_and(|t| !t.is_empty())).count() != 1 {
        return Err(r.fail(line, "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config"));
    }
    if raw.sigv4.role_arn.is_some() {
        return Err(
            r.fail(line, "sigv4.role_arn is not supported: give the role's own keys or a profile that has them")
        );
    }
    let environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let profile = profile(raw.sigv4.profile.as_deref());
    let region = raw.sigv4.region.clone().or_else(|| environment("AWS_REGION")).or(profile.region);
    let region = region.ok_or_else(|| r.fail(line, "sigv4.region must be given, or AWS_REGION"))?;
    let own = r.secret(line, "secret_key", &raw.sigv4.secret_key, &None)?;
    let (access_key, secret_key, session_token) = match (raw.sigv4.access_key.clone(), own) {
        (Some(access), Some(secret)) => (access, secret, None),
        (None, None) => {
            let from_environment = environment("AWS_ACCESS_KEY_ID").zip(environment("AWS_SECRET_ACCESS_KEY"));
            let token = environment("AWS_SESSION_TOKEN").map(Secret);
            let keys = from_environment.filter(|_| raw.sigv4.profile.is_none()).map(|(a, s)| (a, Secret(s), token));
            keys.or(profile.keys).ok_or_else(|| {
                r.fail(
                    line,
                    "no AWS credentials: give sigv4.access_key and secret_key, a profile, or AWS_ACCESS_KEY_ID",
                )
            })?
        }
        _ => {
            return Err(r.fail(line, "must provide a AWS SigV4 Access key and Secret Key if credentials are specified"));
        }
    };
    let url = raw.api_url.clone().unwrap_or_else(|| format!("https://sns.{region}.amazonaws.com/"));
    r.url(line, "sns api_url", &url)?;
    let texts = Texts::from([
        ("TopicArn", or(&raw.topic_arn, "")),
        ("PhoneNumber", or(&raw.phone_number, "")),
        ("TargetArn", or(&raw.target_arn, "")),
        ("Subject", named(&raw.subject, "sns.default.subject")),
        ("Message", named(&raw.message, "sns.default.message")),
    ]);
    let attributes = raw.attributes.clone().into_iter().collect();
    let sns = Sns { url, region, access_key, secret_key, session_token, texts, attributes };
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, sns)
}

#[derive(Default)]
struct Profile {
    region: Option<String>,
    keys: Option<(String, Secret, Option<Secret>)>,
}

/// What the shared credentials file says of a profile, `default` without a name.
fn profile(name: Option<&str>) -> Profile {
    let path = std::env::var("AWS_SHARED_CREDENTIALS_FILE")
        .ok()
        .or_else(|| Some(format!("{}/.aws/credentials", std::env::var("HOME").ok()?)));
    let text = path.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
    let wanted = format!("[{}]", name.unwrap_or("default"));
    let section = text.lines().map(str::trim).skip_while(|l| *l != wanted).skip(1).take_while(|l| !l.starts_with('['));
    let values: BTreeMap<&str, &str> =
        section.filter_map(|l| l.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let get = |key: &str| values.get(key).map(|v| (*v).to_owned());
    let keys = get("aws_access_key_id").zip(get("aws_secret_access_key"));
    Profile { region: get("region"), keys: keys.map(|(a, s)| (a, Secret(s), get("aws_session_token").map(Secret))) }
}

impl Receive for Sns {
    fn name(&self) -> &'static str {
        "sns"
    }
    fn target(&self) -> &str {
        &self.url
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts).into_iter().chain(self.attributes.iter().map(|(_, t)| t.as_str())).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let form = self.form(say)?;
            let mut request = Request::form(&*self.url, &form);
            request.headers = self.signed(&request, say.now)?;
            Ok(request)
        })
    }
}

impl Sns {
    fn form(&self, say: &Say<'_>) -> Result<Vec<(String, String)>, String> {
        let text = |key: &str| say.of(&self.texts, key);
        let sms = !self.texts["PhoneNumber"].is_empty();
        let message = text("Message")?;
        let limit = if sms { SMS_BYTES_MAX } else { MESSAGE_BYTES_MAX };
        let cut = message.len() > limit;
        let mut form = vec![
            ("Action".to_owned(), "Publish".to_owned()),
            ("Version".to_owned(), "2010-03-31".to_owned()),
            ("Message".to_owned(), truncate_bytes(message, limit)),
        ];
        for key in ["TopicArn", "PhoneNumber", "TargetArn"] {
            form.push((key.to_owned(), text(key)?));
        }
        // A subject is one line of ASCII.
        let subject: String = text("Subject")?.chars().filter(|c| c.is_ascii() && !c.is_control()).collect();
        form.push(("Subject".to_owned(), subject.chars().take(SUBJECT_MAX).collect()));
        if text("TopicArn")?.ends_with(".fifo") {
            let mut hash = Sha256::new();
            hash.update(say.dedup_key());
            hash.update(say.notification.reason.as_bytes());
            hash.update(say.now.0.to_be_bytes());
            form.push(("MessageDeduplicationId".to_owned(), hex::encode(hash.finalize())));
            form.push(("MessageGroupId".to_owned(), say.dedup_key()));
        }
        let mut attributes = Vec::new();
        for (name, value) in &self.attributes {
            attributes.push((name.clone(), say.text(value)?));
        }
        if cut {
            attributes.push(("truncated".to_owned(), "true".to_owned()));
        }
        for (idx, (name, value)) in attributes.into_iter().enumerate() {
            let entry = |part: &str| format!("MessageAttributes.entry.{}.{part}", idx + 1);
            form.push((entry("Name"), name));
            form.push((entry("Value.DataType"), "String".to_owned()));
            form.push((entry("Value.StringValue"), value));
        }
        form.retain(|(_, value)| !value.is_empty());
        Ok(form)
    }

    fn signed(&self, request: &Request, now: Timestamp) -> Result<Vec<(&'static str, String)>, String> {
        let url = url::Url::parse(&request.url).map_err(|e| e.to_string())?;
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let time = jiff::Timestamp::from_millisecond(now.0).map_err(|e| e.to_string())?;
        let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/{}/sns/aws4_request", &stamp[..8], self.region);
        let mut headers = vec![("host", host), ("x-amz-date", stamp.clone())];
        headers.extend(self.session_token.as_ref().map(|t| ("x-amz-security-token", t.0.clone())));
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let body = hex::encode(Sha256::digest(&request.body));
        let canonical = format!("POST\n{}\n\n{lines}\n{names}\n{body}", url.path());
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", self.secret_key.0).into_bytes();
        for part in [&stamp[..8], &self.region, "sns", "aws4_request"] {
            key = hmac::sha256(&key, part.as_bytes()).to_vec();
        }
        let signature = hex::encode(hmac::sha256(&key, to_sign.as_bytes()));
        let credential = format!("{}/{scope}", self.access_key);
        let text = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        // The client writes the host by itself.
        headers.remove(0);
        headers.push(("authorization", text));
        Ok(headers)
    }
}
