//! Where a store on HDFS is, and as whom.

use std::fmt;

use super::super::super::StoreError;
use super::super::connect::bad_address;

/// Where a store on HDFS is. The client finds the rest as Hadoop's own does: `HADOOP_CONF_DIR` for the addresses of a name
/// service and for Kerberos, `HADOOP_USER_NAME` for the user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port` of the NameNode, or the name of a name service.
    pub authority: String,
    /// The directory: absolute, and not the root.
    pub dir: String,
    /// The user's name, where it is not to be found by the client.
    pub user: Option<String>,
}

impl Config {
    /// The store at `hdfs://NAMENODE:PORT/DIR` or `hdfs://NAMESERVICE/DIR`.
    ///
    /// # Errors
    /// [`StoreError::BadAddress`], which says what is wrong with the URL.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        Self::parse(
            url,
            std::env::var_os("HADOOP_CONF_DIR").or_else(|| std::env::var_os("HADOOP_HOME")).is_some(),
        )
    }

    /// `configured`: the client will find a configuration, which may name name services.
    fn parse(url: &str, configured: bool) -> Result<Self, StoreError> {
        let rest =
            url.strip_prefix("hdfs://").ok_or_else(|| bad_address(url, "it does not begin with hdfs://"))?;
        let (authority, dir) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            // Not shown: there may be a password in it.
            return Err(bad_address(
                "hdfs://…@…",
                "the user's name goes into HADOOP_USER_NAME, and there is no password",
            ));
        }
        let host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if authority.is_empty() || !authority.chars().all(host_char) {
            return Err(bad_address(url, "name the NameNode, as in hdfs://NAMENODE:8020/DIR"));
        }
        match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {}
            Some(_) => return Err(bad_address(url, "its port is not a number from 1 to 65535")),
            None if configured => {}
            None => {
                let why = "give the NameNode's port (often 8020), or for a name service set HADOOP_CONF_DIR to the directory of hdfs-site.xml";
                return Err(bad_address(url, why));
            }
        }
        let dir = dir.trim_matches('/');
        if dir.is_empty() {
            return Err(bad_address(
                url,
                "name a directory as well, as in hdfs://NAMENODE:8020/user/me/store",
            ));
        }
        let allowed = |c: char| !c.is_control() && !matches!(c, ':' | '%' | '?' | '#' | '\\');
        if !dir.chars().all(allowed) || dir.split('/').any(|s| matches!(s, "" | "." | "..")) {
            return Err(bad_address(
                url,
                "its directory has an empty segment, `.`, `..` or one of : % ? # \\",
            ));
        }
        Ok(Self { authority: authority.to_string(), dir: format!("/{dir}"), user: None })
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hdfs://{}{}", self.authority, self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(url: &str) -> String {
        let error = Config::parse(url, false).unwrap_err();
        error.to_string()
    }

    #[test]
    fn urls_are_taken_apart() {
        let config = Config::parse("hdfs://nn.example:8020/user/me/store/", false).unwrap();
        let wanted = Config { authority: "nn.example:8020".into(), dir: "/user/me/store".into(), user: None };
        assert_eq!(config, wanted);
        assert_eq!(config.to_string(), "hdfs://nn.example:8020/user/me/store");
        assert_eq!(Config::parse("hdfs://[::1]:8020/s", false).unwrap().authority, "[::1]:8020");
        assert_eq!(Config::parse("hdfs://cluster/s", true).unwrap().authority, "cluster");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        assert!(why("s3://x/y").contains("hdfs://"));
        assert!(why("hdfs://nn/s").contains("HADOOP_CONF_DIR"));
        assert!(why("hdfs:///s").contains("NAMENODE:8020"));
        for url in ["hdfs://nn:8020", "hdfs://nn:8020/", "hdfs://nn:8020//"] {
            assert!(why(url).contains("a directory"), "{url}");
        }
        for url in ["hdfs://nn:0/s", "hdfs://nn:99999/s", "hdfs://nn:/s", "hdfs://nn:x/s"] {
            assert!(why(url).contains("port"), "{url}");
        }
        for url in [
            "hdfs://nn:1/a//b",
            "hdfs://nn:1/a/../b",
            "hdfs://nn:1/a?b",
            "hdfs://nn:1/a%2fb",
            "hdfs://nn:1/a\nb",
        ] {
            assert!(why(url).contains("segment"), "{url}");
        }
        let message = why("hdfs://me:secret@nn:1/s");
        assert!(message.contains("HADOOP_USER_NAME") && !message.contains("secret"), "{message}");
    }
}
