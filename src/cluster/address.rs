//! Where a cluster is. In: `df://host:port` or `standalone`. Out: a value. It must not connect.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The port of a scheduler unless another is named: Ballista's.
pub const SCHEDULER_PORT: u16 = 50050;

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterAddress {
    /// A scheduler and an executor in the driver's process.
    Standalone,
    /// A scheduler's host and port.
    Scheduler {
        /// Its name or IP address; an IPv6 address in brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl FromStr for ClusterAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "standalone" {
            return Ok(Self::Standalone);
        }
        let wrong = || format!("`{text}` is neither `df://HOST:PORT` nor `standalone`");
        let url = Url::parse(text).map_err(|_| wrong())?;
        let rest = url.path().trim_matches('/');
        match url.host_str() {
            Some(host) if url.scheme() == "df" && rest.is_empty() && url.query().is_none() => {
                Ok(Self::Scheduler { host: host.to_owned(), port: url.port().unwrap_or(SCHEDULER_PORT) })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone => formatter.write_str("standalone"),
            Self::Scheduler { host, port } => write!(formatter, "df://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["standalone", "df://a.example:7", "df://[::1]:50050", "df://10.0.0.1:50050"] {
            assert_eq!(text.parse::<ClusterAddress>().unwrap().to_string(), text);
        }
        assert_eq!("df://host".parse::<ClusterAddress>().unwrap().to_string(), "df://host:50050");
        for text in ["", "host:50050", "http://host:50050", "df://", "df://host/path", "df://host:port"] {
            let error = text.parse::<ClusterAddress>().unwrap_err();
            assert!(error.contains("neither `df://HOST:PORT` nor `standalone`"), "{text}: {error}");
        }
    }
}
