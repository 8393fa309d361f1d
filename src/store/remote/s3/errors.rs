//! What a service answers, sorted by what a user would do about it.

use std::fmt;
use std::io;

use object_store::Error;

use super::super::super::StoreError;
use super::config::Config;

/// More of what a service says is not shown.
const SHOWN: usize = 300;

/// Why a request failed.
#[derive(Debug)]
struct Answer {
    /// The HTTP status; none if there was no answer.
    status: Option<u16>,
    /// The same request may be answered otherwise a little later.
    passing: bool,
    text: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Answer {}

fn answer(error: &io::Error) -> Option<&Answer> {
    error.get_ref()?.downcast_ref()
}

/// Whether the object has no byte of the range that was asked for.
pub(super) fn is_no_range(error: &io::Error) -> bool {
    answer(error).is_some_and(|answer| answer.status == Some(416))
}

/// Whether it is worth another try.
pub(super) fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if answer(source).is_some_and(|answer| answer.passing))
}

impl Config {
    /// The error of what has this name in the store.
    pub(super) fn failed(&self, doing: &'static str, name: &str, error: Error) -> StoreError {
        let (what, said) = (self.address(name), Said::by(&error));
        // What one writes need not be there: something else is missing then.
        if doing == "read" && matches!(error, Error::NotFound { .. }) && said.code != "NoSuchBucket" {
            return StoreError::NotFound { what };
        }
        let passing = match said.status {
            Some(status) => matches!(status, 408 | 409 | 429 | 500..),
            None => error.to_string().contains("Error performing"),
        };
        let (kind, advice) = self.sort(&error, &said);
        let text = format!("{} says: {}; {advice}", self.server(), said.text);
        let source = io::Error::new(kind, Answer { status: said.status, passing, text });
        StoreError::from_io(doing, what, source)
    }

    /// Of what kind it is, and what to do about it.
    fn sort(&self, error: &Error, said: &Said) -> (io::ErrorKind, &'static str) {
        use io::ErrorKind as K;
        const FULL: [&str; 3] = ["Quota", "StorageFull", "EntityTooLarge"];
        const DENIED: [&str; 4] = ["AccessDenied", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
        if said.status == Some(507) || FULL.iter().any(|part| said.code.contains(part)) {
            return (K::StorageFull, "free some space, or raise the quota");
        }
        // The machine was asked who it is.
        if !self.has_credentials() && said.status.is_none() && error.to_string().contains("/latest/") {
            return (K::PermissionDenied, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        }
        if matches!(said.status, Some(401 | 403)) || DENIED.contains(&said.code.as_str()) {
            let advice = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and what they permit in the bucket";
            return (K::PermissionDenied, advice);
        }
        let advice = if said.code == "NoSuchBucket" {
            "make the bucket, or correct its name in the URL"
        } else if matches!(error, Error::InvalidPath { .. }) {
            "remove that object, which is not of this store, or use another prefix"
        } else if matches!(said.status, Some(301 | 307 | 400)) || said.text.contains("configured region") {
            "check AWS_REGION, and AWS_ENDPOINT_URL where it is not Amazon's"
        } else {
            "check AWS_ENDPOINT_URL, and that the service runs"
        };
        (K::Other, advice)
    }

    /// The error where nothing came back in time.
    pub(super) fn silent(&self, doing: &'static str, name: &str) -> StoreError {
        let text =
            format!("{} does not answer; check AWS_ENDPOINT_URL, and that the service runs", self.server());
        let answer = Answer { status: None, passing: true, text };
        StoreError::from_io(doing, self.address(name), io::Error::new(io::ErrorKind::TimedOut, answer))
    }
}

/// What a service has said, in short.
struct Said {
    status: Option<u16>,
    /// The protocol's name for it, or nothing.
    code: String,
    text: String,
}

impl Said {
    fn by(error: &Error) -> Self {
        // The innermost is what happened; those around it say the same at length.
        let mut inner: &dyn std::error::Error = error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        let whole = inner.to_string();
        let status = whole.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let code = between(&whole, "<Code>", "</Code>").or_else(|| between(&whole, "(code: ", ")"));
        let text = match (&code, between(&whole, "<Message>", "</Message>"), status) {
            (Some(code), Some(message), _) if !message.is_empty() => format!("{code}, {message}"),
            (Some(code), ..) => code.clone(),
            // The rest may be a whole page, with what was sent in it.
            (None, _, Some(_)) => whole.split('<').next().unwrap_or_default().to_string(),
            (None, _, None) => whole,
        };
        Self { status, code: code.unwrap_or_default(), text: shown(&text) }
    }
}

fn between(text: &str, begin: &str, end: &str) -> Option<String> {
    Some(text.split_once(begin)?.1.split_once(end)?.0.to_string())
}

fn shown(text: &str) -> String {
    let text = text.trim().trim_end_matches(':');
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn sorted(doing: &'static str, variables: &[(&str, &str)], error: Error) -> StoreError {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::new("s3://b/p", variables).unwrap().failed(doing, "k", error)
    }

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn answers_are_sorted() {
        let status = "Server returned non-2xx status code: ";
        let missing =
            || Error::NotFound { path: "p/k".into(), source: format!("{status}404 Not Found: ").into() };
        assert!(
            matches!(sorted("read", &[], missing()), StoreError::NotFound { what } if what == "s3://b/p/k")
        );
        assert!(matches!(sorted("write", &[], missing()), StoreError::Io { .. }));

        let quota =
            format!("{status}403 Forbidden: <Error><Code>QuotaExceeded</Code><Message></Message></Error>");
        let quota = Error::PermissionDenied { path: "p/k".into(), source: quota.into() };
        assert!(matches!(sorted("write", &[], quota), StoreError::Full { .. }));

        let secret = "<Code>SignatureDoesNotMatch</Code><Message>no\nmatch</Message><Sent>hidden</Sent>";
        let denied =
            Error::PermissionDenied { path: "p/k".into(), source: format!("{status}403 F: {secret}").into() };
        let denied = sorted("write", &[], denied);
        assert!(matches!(denied, StoreError::Denied { .. }));
        let text = denied.source().unwrap().to_string();
        assert!(text.contains("SignatureDoesNotMatch, no match; check AWS_ACCESS_KEY_ID"), "{text}");
        assert!(!text.contains("hidden"), "{text}");

        let busy = sorted("write", &[], generic(&format!("{status}503 Slow Down: <html>")));
        assert!(is_passing(&busy));
        let refused = sorted("write", &[("AWS_ENDPOINT_URL", "http://h:1")], generic("Connection refused"));
        let text = refused.source().unwrap().to_string();
        assert!(text.starts_with("http://h:1 says: Connection refused; check AWS_ENDPOINT_URL"), "{text}");
        let range = sorted("read", &[], generic(&format!("{status}416 Range: ")));
        assert!(matches!(range, StoreError::Io { source, .. } if is_no_range(&source)));
    }
}
