//! Names of objects: relative, separated by slashes, the same in every store.

use std::fmt;

use super::StoreError;

/// Longest key in bytes: a local store keeps each lock under one file name made of the whole key, and
/// file systems stop at 255 bytes a name.
pub const KEY_MAX: usize = 240;

/// Why a key is refused beside certain others.
pub(super) const FILE_AND_DIRECTORY: &str = "one key cannot be the directory of another";

/// A validated name such as `jobs/x/log/00000001`.
///
/// Segments are of `a-z A-Z 0-9 . _ -`, none is empty or begins with a dot; at most [`KEY_MAX`] bytes in
/// all. A key must not also be the directory of another (`a` beside `a/b`): a file system cannot hold
/// both. Names that differ only in case are best avoided, since some file systems take them for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks the text and makes it a key.
    ///
    /// # Errors
    /// [`StoreError::BadKey`], which says what is wrong with it.
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = text.into();
        match fault_of(&text) {
            None => Ok(Self(text)),
            Some(why) => Err(StoreError::BadKey { key: shown(&text), why }),
        }
    }

    /// `<dir>/<id>`, both of our own making.
    pub(super) fn of_parts(dir: &'static str, id: &str) -> Self {
        let text = format!("{dir}/{id}");
        debug_assert_eq!(fault_of(&text), None);
        Self(text)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The segments, outermost first.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Key {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Self::new(text)
    }
}

/// Checks the prefix of a listing: the beginning of a key, or nothing.
///
/// # Errors
/// [`StoreError::BadKey`] where no key can begin so.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let whole = prefix.strip_suffix('/').unwrap_or(prefix);
    match fault_of(whole) {
        Some(why) if !prefix.is_empty() => Err(StoreError::BadKey { key: shown(prefix), why }),
        _ => Ok(()),
    }
}

fn fault_of(text: &str) -> Option<&'static str> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    if text.is_empty() {
        Some("it is empty")
    } else if text.len() > KEY_MAX {
        Some("it is longer than 240 bytes")
    } else if !text.bytes().all(safe) {
        Some("only a-z A-Z 0-9 . _ - are allowed between slashes")
    } else if text.split('/').any(str::is_empty) {
        Some("it has an empty segment")
    } else if text.split('/').any(|s| s.starts_with('.')) {
        Some("a segment begins with a dot")
    } else {
        None
    }
}

/// What a message shows of a hostile text: no control characters, and not all of it.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_relative_names_are_keys() {
        for good in ["a", "jobs/x/log/00000001", "a.b/c-d_e", "A/9"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(KEY_MAX + 1);
        let bad =
            ["", "/", "/a", "a/", "a//b", "..", "a/../b", ".", "a/.b", "a b", "a\\b", "a\0", "é", "a+b"];
        for bad in bad.into_iter().chain([long.as_str()]) {
            assert!(matches!(Key::new(bad), Err(StoreError::BadKey { .. })), "{bad:?}");
        }
        assert_eq!(Key::new("jobs/x/head").unwrap().name(), "head");
    }

    #[test]
    fn prefixes() {
        for good in ["", "a", "a/", "a/b", "a/b/0"] {
            assert!(check_prefix(good).is_ok(), "{good:?}");
        }
        for bad in ["/", "a//", "../", "a/.", "a/../"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
