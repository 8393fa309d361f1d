//! Where the cluster is, and as whom to use it.

use std::fmt;
use std::time::Duration;

use super::super::super::{Key, StoreError};
use super::super::connect::bad_address;

/// Cassandra's port for clients, where the URL names none.
const PORT: u16 = 9042;
/// The form of the URL, for messages.
const FORM: &str = "write cassandra://HOST[:PORT][,HOST2…]/KEYSPACE[/PREFIX]";

/// What is needed to use a keyspace of a cluster as a store.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of some nodes; the others are learnt from them.
    pub nodes: Vec<String>,
    /// The keyspace that has the tables.
    pub keyspace: String,
    /// Where in it the store is, so that several fit into one keyspace; may be empty.
    pub prefix: String,
    /// User and password, where the cluster wants them.
    pub login: Option<(String, String)>,
    /// The replication with which a missing keyspace is made, as CQL has it; a missing keyspace is an error without.
    pub replication: Option<String>,
    /// How long a request is repeated while the cluster does not answer, or not with success.
    pub patience: Duration,
}

/// Without the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address())
            .field("user", &self.login.as_ref().map(|(user, _)| user))
            .field("replication", &self.replication)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the URL `cassandra://HOST[:PORT][,HOST2…]/KEYSPACE[/PREFIX]`, and `CASSANDRA_USER`, `CASSANDRA_PASSWORD` and
    /// `CASSANDRA_REPLICATION` from the environment.
    ///
    /// # Errors
    /// [`StoreError::BadAddress`], which says what to write instead.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        Self::from_url_and(url, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// [`Config::from_url`] with this for an environment.
    fn from_url_and(url: &str, env: impl Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        let refuse = |why: &str| bad_address(url, format!("{why}: {FORM}"));
        let rest =
            url.strip_prefix("cassandra://").ok_or_else(|| refuse("it does not begin with cassandra://"))?;
        if rest.contains('@') {
            return Err(refuse(
                "user and password are no part of it; set CASSANDRA_USER and CASSANDRA_PASSWORD",
            ));
        }
        let (nodes, path) = rest.split_once('/').ok_or_else(|| refuse("it names no keyspace"))?;
        let (keyspace, prefix) = path.split_once('/').unwrap_or((path, ""));
        let nodes: Option<Vec<String>> = nodes.split(',').map(node).collect();
        let nodes = nodes.ok_or_else(|| refuse("what it names for a host is none"))?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if keyspace.is_empty() || keyspace.len() > 48 || !keyspace.chars().all(is_word) {
            return Err(refuse("a keyspace is named by 1 to 48 of a-z A-Z 0-9 _"));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && Key::new(prefix).is_err() {
            return Err(refuse("a prefix is of a-z A-Z 0-9 . _ - between slashes"));
        }
        let login = match (env("CASSANDRA_USER"), env("CASSANDRA_PASSWORD")) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => return Err(refuse("set both CASSANDRA_USER and CASSANDRA_PASSWORD, or none of them")),
        };
        Ok(Self {
            nodes,
            keyspace: keyspace.to_string(),
            prefix: prefix.to_string(),
            login,
            replication: env("CASSANDRA_REPLICATION"),
            patience: Duration::from_secs(30),
        })
    }

    /// The URL, for messages.
    pub fn address(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("cassandra://{}/{}{slash}{}", self.nodes.join(","), self.keyspace, self.prefix)
    }
}

/// `host:port` of a host with or without a port; nothing if it is none. An address with colons is in brackets.
fn node(text: &str) -> Option<String> {
    let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_brackets..].rfind(':') {
        Some(at) => (&text[..after_brackets + at], text[after_brackets + at + 1..].parse().ok()?),
        None => (text, PORT),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_plain),
    };
    (is_host && port != 0).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<Config, StoreError> {
        Config::from_url_and(url, |_| None)
    }

    fn why(error: &StoreError) -> String {
        error.to_string()
    }

    #[test]
    fn urls() {
        let plain = config("cassandra://db/jobs").unwrap();
        assert_eq!(
            (plain.nodes, plain.keyspace, plain.prefix),
            (vec!["db:9042".into()], "jobs".into(), "".into())
        );
        let full = config("cassandra://db-1.example:1,10.0.0.2,[::1]:3,[fe80::1]/K_1/team/a/").unwrap();
        assert_eq!(full.nodes, ["db-1.example:1", "10.0.0.2:9042", "[::1]:3", "[fe80::1]:9042"]);
        assert_eq!(full.prefix, "team/a");
        assert_eq!(
            full.address(),
            "cassandra://db-1.example:1,10.0.0.2:9042,[::1]:3,[fe80::1]:9042/K_1/team/a"
        );
    }

    #[test]
    fn bad_urls_say_what_to_write() {
        let bad = [
            "s3://db/jobs",
            "cassandra://db",
            "cassandra:///jobs",
            "cassandra://db/",
            "cassandra://db/a-b",
            "cassandra://db:0/jobs",
            "cassandra://db:x/jobs",
            "cassandra://a,,b/jobs",
            "cassandra://::1/jobs",
            "cassandra://[x]/jobs",
            "cassandra://db/jobs/../x",
            "cassandra://d b/jobs",
            "cassandra://db/jobs\"",
        ];
        for url in bad {
            let error = config(url).unwrap_err();
            assert!(why(&error).contains("write cassandra://HOST[:PORT]"), "{url}: {}", why(&error));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let error = config("cassandra://me:hidden@db/jobs").unwrap_err();
        assert!(
            why(&error).contains("CASSANDRA_PASSWORD") && !why(&error).contains("hidden"),
            "{}",
            why(&error)
        );
        let one = |name: &str| (name == "CASSANDRA_USER").then(|| "me".to_string());
        assert!(
            why(&Config::from_url_and("cassandra://db/jobs", one).unwrap_err())
                .contains("CASSANDRA_PASSWORD")
        );
        let config = Config::from_url_and("cassandra://db/jobs", |_| Some("hidden".into())).unwrap();
        let login = Some(("me".to_string(), "hidden".to_string()));
        let config = Config { login, replication: None, ..config };
        assert!(!format!("{config:?} {}", config.address()).contains("hidden"));
    }
}
