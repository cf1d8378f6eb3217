//! Signed links: whoever holds one sees a page's incident and may acknowledge it, until it expires.
//!
//! A link is `tenant page person until` and the HMAC of it, under a key that stays in the data directory.

use weir_model::{TenantId, Timestamp};
use weir_state::{Batch, State, StateError};

use crate::{base64, hmac};

const TABLE: &str = "oncall.key";
const KEY: &str = "links";
const KEY_BYTES: usize = 32;
/// Of the HMAC: enough against guessing, and short enough for a text message.
const SIGNATURE_BYTES: usize = 16;
/// Of a link that is looked at at all.
const TOKEN_BYTES_MAX: usize = 2048;
/// What is signed is for this use alone.
const PURPOSE: &[u8] = b"weir page link 1\0";

/// What a link is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub tenant: TenantId,
    pub page: String,
    /// Whom it was sent to; empty for a receiver.
    pub person: String,
    pub until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("this link was not made here, or was cut")]
    Invalid,
    #[error("this link has expired; sign in to see the incident")]
    Expired,
}

/// Makes and checks links.
#[derive(Clone)]
pub(super) struct Signer([u8; KEY_BYTES]);

impl Signer {
    /// The key of the data directory, made at the first start.
    pub fn open(state: &State) -> Result<Self, StateError> {
        let tenant = TenantId::anonymous();
        if let Some((.., bytes)) = state.scan(TABLE).into_iter().find(|(_, key, _)| key == KEY)
            && let Ok(key) = <[u8; KEY_BYTES]>::try_from(&*bytes)
        {
            return Ok(Self(key));
        }
        let mut key = [0; KEY_BYTES];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut key).expect("the system gives random bytes");
        let mut batch = Batch::default();
        batch.put(TABLE, &tenant, KEY, key.to_vec());
        // A key that is not written yet is good until the end of this run.
        if let Err(error) = state.commit(batch) {
            tracing::error!(%error, "the key of links in pages is not on disk; links end with this run");
        }
        Ok(Self(key))
    }

    pub fn sign(&self, link: &Link) -> String {
        let text = format!("{}\n{}\n{}\n{}", link.tenant, link.page, link.person, link.until.0);
        let mut bytes = self.signature(text.as_bytes()).to_vec();
        bytes.extend_from_slice(text.as_bytes());
        base64::encode(&bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
    }

    fn signature(&self, text: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let whole = hmac::sha256(&self.0, &[PURPOSE, text].concat());
        let mut short = [0; SIGNATURE_BYTES];
        short.copy_from_slice(&whole[..SIGNATURE_BYTES]);
        short
    }

    pub fn read(&self, token: &str, now: Timestamp) -> Result<Link, LinkError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(LinkError::Invalid);
        }
        let bytes = base64::decode(&token.replace('-', "+").replace('_', "/")).ok_or(LinkError::Invalid)?;
        let (signature, text) = bytes.split_at_checked(SIGNATURE_BYTES).ok_or(LinkError::Invalid)?;
        // In the same time wherever they differ.
        let differs = self.signature(text).iter().zip(signature).fold(0, |d, (a, b)| d | (a ^ b));
        if differs != 0 {
            return Err(LinkError::Invalid);
        }
        let text = std::str::from_utf8(text).map_err(|_| LinkError::Invalid)?;
        let [tenant, page, person, until] = text.split('\n').collect::<Vec<_>>()[..] else {
            return Err(LinkError::Invalid);
        };
        let until = Timestamp(until.parse().map_err(|_| LinkError::Invalid)?);
        let tenant = TenantId::parse(tenant).map_err(|_| LinkError::Invalid)?;
        if until <= now {
            return Err(LinkError::Expired);
        }
        Ok(Link { tenant, page: page.to_owned(), person: person.to_owned(), until })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link() -> Link {
        let tenant = TenantId::parse("team-a").unwrap();
        Link { tenant, page: "0123456789abcdef".into(), person: "Ana Ø".into(), until: Timestamp(1000) }
    }

    #[test]
    fn the_key_lasts_and_links_expire() {
        let state = State::in_memory();
        let token = Signer::open(&state).unwrap().sign(&link());
        let again = Signer::open(&state).unwrap();
        assert_eq!(again.read(&token, Timestamp(999)), Ok(link()));
        assert_eq!(again.read(&token, Timestamp(1000)), Err(LinkError::Expired));
        let other = Signer::open(&State::in_memory()).unwrap();
        assert_eq!(other.read(&token, Timestamp(0)), Err(LinkError::Invalid));
    }

    proptest! {
        #[test]
        fn a_changed_link_is_refused(at in 0_usize..80, to: char, cut in 0_usize..80) {
            let signer = Signer([7; KEY_BYTES]);
            let token = signer.sign(&link());
            let mut chars: Vec<char> = token.chars().collect();
            let at = at % chars.len();
            chars[at] = to;
            let changed: String = chars.iter().collect();
            // The last digit of base64 may hold bits that say nothing.
            if changed != token && at + 1 < token.len() {
                prop_assert_eq!(signer.read(&changed, Timestamp(0)), Err(LinkError::Invalid));
            }
            let cut: String = token.chars().take(cut.min(token.len() - 1)).collect();
            prop_assert_eq!(signer.read(&cut, Timestamp(0)), Err(LinkError::Invalid));
        }

        #[test]
        fn any_text_is_refused_and_never_panics(text in ".{0,200}") {
            prop_assert_eq!(Signer([7; KEY_BYTES]).read(&text, Timestamp(0)), Err(LinkError::Invalid));
        }
    }
}
