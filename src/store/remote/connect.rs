//! From the URL of a store to the service.

use std::sync::Arc;

use super::super::StoreError;
use super::Service;

/// Whether it is a URL, and not the name of a directory.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Connects to the service that the URL names.
///
/// # Errors
/// [`StoreError::BadAddress`], and what the service reports.
pub fn connect(url: &str) -> Result<Arc<dyn Service>, StoreError> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "s3")]
        "s3" => Ok(Arc::new(super::s3::S3::connect(super::s3::Config::from_url(url)?)?)),
        #[cfg(feature = "hdfs")]
        "hdfs" => Ok(Arc::new(super::hdfs::Hdfs::connect(super::hdfs::Config::from_url(url)?)?)),
        #[cfg(feature = "cassandra")]
        "cassandra" => {
            Ok(Arc::new(super::cassandra::Cassandra::connect(&super::cassandra::Config::from_url(url)?)?))
        }
        #[cfg(not(all(feature = "s3", feature = "hdfs", feature = "cassandra")))]
        "s3" | "hdfs" | "cassandra" => {
            let why =
                format!("this build has no such stores; one made with `cargo build --features {scheme}` has");
            Err(StoreError::BadAddress { address: shown(url), why })
        }
        _ => {
            let why =
                "its kind is none of s3, hdfs and cassandra; a directory is named by its path alone".into();
            Err(StoreError::BadAddress { address: shown(url), why })
        }
    }
}

/// The error of an address that is none.
#[cfg(any(feature = "s3", feature = "hdfs", feature = "cassandra"))]
pub(super) fn bad_address(address: &str, why: impl Into<String>) -> StoreError {
    StoreError::BadAddress { address: shown(address), why: why.into() }
}

/// What a message shows of a URL that was given: no password, no control characters, and not all of it.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.find('/').unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    let secret = if host > 0 { "…@" } else { "" };
    let plain = format!("{scheme}://{secret}{}", &rest[host..]);
    plain.chars().take(300).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["s3://b/p", "hdfs://h:1/d", "cassandra://h/k", "S3://b", "no+such-1.0://x"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["store", "./s3://x", "/a://b", "a/b://c", "://x", "", "c:/x", "1://x"] {
            assert!(!is_url(path), "{path}");
        }
    }

    #[test]
    fn what_there_is_not_is_told_without_secrets() {
        let refused = connect("gopher://me:secret@host/x\n").err().unwrap().to_string();
        assert!(refused.contains("gopher://…@host/x\\n") && !refused.contains("secret"), "{refused}");
        #[cfg(not(feature = "s3"))]
        {
            let refused = connect("s3://bucket").err().unwrap().to_string();
            assert!(refused.contains("`s3://bucket`") && refused.contains("--features s3"), "{refused}");
        }
    }
}
