//! Which clusters are polled, and how often.

use std::str::FromStr;
use std::time::Duration;

use weir_model::{Budget, TenantId};

/// One cluster, written `name=host:port[,host:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Value of the label `cluster_name`.
    pub name: String,
    /// Where to begin; the other brokers are found by asking these.
    pub brokers: Vec<String>,
    pub interval: Duration,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("kafka cluster `{given}`: {problem}; write name=host:port[,host:port]")]
pub struct OptionsError {
    given: String,
    problem: &'static str,
}

impl FromStr for ClusterOptions {
    type Err = OptionsError;

    fn from_str(given: &str) -> Result<Self, OptionsError> {
        let bad = |problem| OptionsError { given: given.to_owned(), problem };
        let (name, brokers) = given.split_once('=').ok_or_else(|| bad("the name is missing"))?;
        if name.is_empty() {
            return Err(bad("the name is empty"));
        }
        let brokers: Vec<String> = brokers.split(',').map(|b| b.trim().to_owned()).collect();
        for broker in &brokers {
            let (host, port) = broker.rsplit_once(':').ok_or_else(|| bad("a broker has no port"))?;
            if host.is_empty() || port.parse::<u16>().is_err() {
                return Err(bad("a broker's host or port is not valid"));
            }
        }
        // A second gives the page and the alerts fresh lag; one poll is three requests a broker.
        Ok(Self { name: name.to_owned(), brokers, interval: Duration::from_secs(1) })
    }
}

#[derive(Clone, Debug)]
pub struct LagOptions {
    pub clusters: Vec<ClusterOptions>,
    /// Whose series these are, and whose spans tell positions.
    pub tenant: TenantId,
    /// Where the offset-to-time indexes draw from.
    pub budget: Budget,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_read_from_one_argument() {
        let cluster: ClusterOptions = "prod=a:9092, [::1]:9093".parse().unwrap();
        assert_eq!(cluster.name, "prod");
        assert_eq!(cluster.brokers, ["a:9092", "[::1]:9093"]);
        for bad in ["", "a:9092", "=a:9092", "x=", "x=a", "x=a:b", "x=:1", "x=a:1,,b:2"] {
            assert!(bad.parse::<ClusterOptions>().is_err(), "{bad}");
        }
    }
}
