//! Tenants: the boundary around every read and write.

use std::sync::Arc;

/// Name of a tenant, as `X-Scope-OrgID` carries it. Valid names are 1 to 150 bytes of
/// `A-Za-z0-9!-_.*'()` and are neither `.` nor `..`. Source: Mimir/Loki `dskit/tenant`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("invalid tenant `{name}` in X-Scope-OrgID: use 1 to 150 of the characters A-Z a-z 0-9 ! - _ . * ' ( )")]
pub struct InvalidTenant {
    name: String,
}

impl TenantId {
    /// The tenant of requests without the header.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    pub fn parse(name: &str) -> Result<Self, InvalidTenant> {
        let valid = (1..=150).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!-_.*'()".contains(&b));
        if valid { Ok(Self(name.into())) } else { Err(InvalidTenant { name: name.chars().take(200).collect() }) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "team-1", "EU_west.(1)"] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a|b", "ä", &"x".repeat(151)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }
}
