//! Names of jobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::JobError;

/// Longest name in bytes: it is part of the keys of the job's log.
pub const NAME_MAX: usize = 100;

/// The name of a job: `a-z A-Z 0-9 . _ -`, beginning with a letter or digit, at most [`NAME_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

impl JobName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made of `stem`, as far as its characters are allowed, and `tail`, which must be.
    pub fn derived(stem: &str, tail: &str) -> Self {
        let stem: String = stem.chars().filter(|c| is_plain(*c)).take(NAME_MAX - 1 - tail.len()).collect();
        let stem = stem.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        Self(format!("{}-{tail}", if stem.is_empty() { "job" } else { stem }))
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl FromStr for JobName {
    type Err = JobError;

    fn from_str(text: &str) -> Result<Self, JobError> {
        let fits = (1..=NAME_MAX).contains(&text.len()) && text.chars().all(is_plain);
        if fits && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Ok(Self(text.to_string()));
        }
        Err(JobError::BadName { name: text.chars().take(NAME_MAX).flat_map(char::escape_default).collect() })
    }
}

impl TryFrom<String> for JobName {
    type Error = JobError;

    fn try_from(text: String) -> Result<Self, JobError> {
        text.parse()
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> Self {
        name.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_to_be_part_of_keys() {
        for good in ["a", "nightly-7", "A.b_c", &"x".repeat(NAME_MAX)] {
            assert_eq!(good.parse::<JobName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", "a\0", &"x".repeat(NAME_MAX + 1)] {
            assert!(bad.parse::<JobName>().is_err(), "{bad}");
        }
        assert_eq!(JobName::derived("my prog.wasm", "0a1b").as_str(), "myprog.wasm-0a1b");
        for odd in ["", "..", "-", "é"] {
            assert_eq!(JobName::derived(odd, "0a1b").as_str(), "job-0a1b", "{odd}");
        }
        assert!(JobName::derived(&"x".repeat(300), "0a1b").as_str().parse::<JobName>().is_ok());
    }
}
