//! Where a bucket is and how one gets in: from a URL and the environment.

use std::fmt;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientOptions, Error, RetryConfig};

use super::super::super::{Key, StoreError};
use super::super::connect::bad_address;

/// A connection that is not made in this time is tried again.
const CONNECT: Duration = Duration::from_secs(5);
/// What the service has not answered in this time, since the request or since its last bytes, it will not.
const ANSWER: Duration = Duration::from_secs(25);

/// A bucket, and how to get into it.
#[derive(Clone)]
pub struct Config {
    /// The bucket.
    bucket: String,
    /// What the names of all objects begin with, without a slash at the end; may be empty.
    prefix: String,
    /// Address of the service, where it is not that of Amazon.
    endpoint: Option<String>,
    /// Settings and secrets.
    options: Vec<(AmazonS3ConfigKey, String)>,
}

impl Config {
    /// From a URL such as `s3://bucket/prefix`, and what `AWS_…` variables of the environment say.
    ///
    /// # Errors
    /// What is wrong with the URL or a variable.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        Self::new(
            url,
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// The same with these variables.
    ///
    /// # Errors
    /// As of [`Config::from_url`].
    pub fn new(url: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, StoreError> {
        if url.contains('@') {
            return Err(bad_address(
                "s3://…",
                "a password in a URL is seen by others; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        let rest = url
            .strip_prefix("s3://")
            .ok_or_else(|| bad_address(url, "it is to be like s3://BUCKET/PREFIX"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if bucket.is_empty() || bucket.starts_with('.') || !bucket.bytes().all(safe) {
            return Err(bad_address(url, "it is to begin with s3:// and the name of a bucket"));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && Key::new(prefix).is_err() {
            return Err(bad_address(
                url,
                "after the bucket, only names of a-z A-Z 0-9 . _ - between single slashes are allowed",
            ));
        }
        let mut options = Vec::new();
        for (name, value) in variables {
            if name.starts_with("AWS_") && !value.is_empty() {
                // There are others, which are not for this client.
                options.extend(
                    name.to_ascii_lowercase().parse().ok().map(|key: AmazonS3ConfigKey| (key, value)),
                );
            }
        }
        options.retain(|(key, _)| *key != AmazonS3ConfigKey::Bucket);
        let of = |wanted| options.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone());
        let endpoint = of(AmazonS3ConfigKey::S3Endpoint).or_else(|| of(AmazonS3ConfigKey::Endpoint));
        if let Some(endpoint) = &endpoint {
            let web = endpoint.starts_with("http://") || endpoint.starts_with("https://");
            if !web || endpoint.contains('@') {
                return Err(bad_address(
                    "AWS_ENDPOINT_URL",
                    "it is to be like https://HOST:PORT, without a password",
                ));
            }
        }
        match (of(AmazonS3ConfigKey::AccessKeyId), of(AmazonS3ConfigKey::SecretAccessKey)) {
            (Some(_), None) => {
                return Err(bad_address("AWS_SECRET_ACCESS_KEY", "set it, as well as AWS_ACCESS_KEY_ID"));
            }
            (None, Some(_)) => {
                return Err(bad_address("AWS_ACCESS_KEY_ID", "set it, as well as AWS_SECRET_ACCESS_KEY"));
            }
            _ => {}
        }
        Ok(Self { bucket: bucket.into(), prefix: prefix.into(), endpoint, options })
    }

    /// A client that repeats what fails for so long.
    pub(super) fn client(&self, patience: Duration) -> Result<AmazonS3, Error> {
        let http = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new()
            .with_allow_http(http)
            .with_connect_timeout(CONNECT)
            .with_read_timeout(ANSWER)
            // Whole objects may take long.
            .with_timeout_disabled();
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..Default::default() };
        let retry = RetryConfig { backoff, max_retries: 1000, retry_timeout: patience };
        let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
        for (key, value) in &self.options {
            builder = builder.with_config(*key, value);
        }
        builder.with_bucket_name(&self.bucket).build()
    }

    /// What the names of all objects begin with: nothing, or the prefix and a slash.
    pub(super) fn root(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
    }

    /// The URL of what has this name in the store.
    pub(super) fn address(&self, name: &str) -> String {
        format!("s3://{}/{}{name}", self.bucket, self.root())
    }

    /// The address of the whole store, for messages.
    pub(super) fn describe(&self) -> String {
        let url = self.address("");
        let url = url.trim_end_matches('/');
        self.endpoint.as_ref().map_or_else(|| url.to_string(), |endpoint| format!("{url} at {endpoint}"))
    }

    /// Whom one asks, for messages.
    pub(super) fn server(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| "Amazon's S3".to_string())
    }

    /// Whether anything says who we are, other than the machine that this runs on.
    pub(super) fn has_credentials(&self) -> bool {
        use AmazonS3ConfigKey as K;
        let tells = |key: &K| {
            matches!(
                key,
                K::AccessKeyId
                    | K::SkipSignature
                    | K::WebIdentityTokenFile
                    | K::ContainerCredentialsRelativeUri
                    | K::ContainerCredentialsFullUri
            )
        };
        self.options.iter().any(|(key, _)| tells(key))
    }
}

/// Without values, some of which are secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.options.iter().map(|(key, _)| key.as_ref()).collect();
        write!(f, "{} with {}", self.describe(), names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::new(url, variables).map_err(|error| error.to_string())
    }

    #[test]
    fn urls() {
        for (url, address) in [
            ("s3://b", "s3://b/k"),
            ("s3://b/", "s3://b/k"),
            ("s3://b.c-d/e/f", "s3://b.c-d/e/f/k"),
            ("s3://b/e/", "s3://b/e/k"),
        ] {
            assert_eq!(config(url, &[]).unwrap().address("k"), address);
        }
        for (url, why) in [
            ("http://b", "like s3://BUCKET/PREFIX"),
            ("s3:b", "like s3://BUCKET/PREFIX"),
            ("s3://", "the name of a bucket"),
            ("s3:///x", "the name of a bucket"),
            ("s3://b c", "the name of a bucket"),
            ("s3://b?x=1", "the name of a bucket"),
            ("s3://..", "the name of a bucket"),
            ("s3://b/a//b", "between single slashes"),
            ("s3://b/../c", "between single slashes"),
            ("s3://b/a?x", "between single slashes"),
        ] {
            let error = config(url, &[]).unwrap_err();
            assert!(error.contains(why) && error.contains(url), "{url}: {error}");
        }
        let error = config("s3://id:hidden@b", &[]).unwrap_err();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY") && !error.contains("hidden"), "{error}");
    }

    #[test]
    fn variables() {
        let secrets = [
            ("AWS_ACCESS_KEY_ID", "me"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("AWS_SESSION_TOKEN", "hidden"),
            ("AWS_BUCKET", "other"),
            ("AWS_PAGER", "less"),
            ("HOME", "/root"),
        ];
        let given = config("s3://b/p", &secrets).unwrap();
        assert_eq!(given.describe(), "s3://b/p");
        let shown = format!("{given:?}");
        assert!(shown.contains("aws_session_token") && !shown.contains("hidden"), "{shown}");
        assert!(given.has_credentials() && !config("s3://b", &[]).unwrap().has_credentials());

        let endpoint = [("AWS_ENDPOINT_URL", "http://h:1"), ("AWS_REGION", "")];
        assert_eq!(config("s3://b", &endpoint).unwrap().describe(), "s3://b at http://h:1");
        let both = [("AWS_ENDPOINT_URL", "http://h:1"), ("AWS_ENDPOINT_URL_S3", "https://s:2")];
        assert_eq!(config("s3://b", &both).unwrap().describe(), "s3://b at https://s:2");

        for (variables, why) in [
            (&secrets[..1], "AWS_SECRET_ACCESS_KEY"),
            (&secrets[1..2], "AWS_ACCESS_KEY_ID"),
            (&[("AWS_ENDPOINT_URL", "h:1")], "https://HOST:PORT"),
            (&[("AWS_ENDPOINT_URL", "http://me:hidden@h:1")], "https://HOST:PORT"),
        ] {
            let error = config("s3://b", variables).unwrap_err();
            assert!(error.contains(why) && !error.contains("hidden"), "{error}");
        }
    }
}
