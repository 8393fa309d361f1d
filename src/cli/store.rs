//! Where the store is, as the command line or the environment says.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use super::exit::{Exit, failure};
use wasm_ckpt::Jobs;
use wasm_ckpt::store::remote::{self, Remote};
use wasm_ckpt::store::{Local, Store, StoreError};

/// Where jobs and snapshots are kept.
#[derive(Args, Clone)]
pub struct StoreArgs {
    /// The store: a directory, or a service, as far as this build knows its kind: `s3://BUCKET/PREFIX`,
    /// `hdfs://NAMENODE:PORT/DIR`, `cassandra://HOST:PORT/KEYSPACE` [default: ~/.local/state/wasm-ckpt]
    #[arg(long, value_name = "DIR|URL", env = "WASM_CKPT_STORE")]
    store: Option<OsString>,
}

/// Where a store is.
pub enum Place {
    /// In a directory.
    Directory(PathBuf),
    /// On a service.
    Service(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(dir) => dir.display().fmt(f),
            Self::Service(url) => url.fmt(f),
        }
    }
}

impl StoreArgs {
    /// The jobs in the store, which is made if there is none.
    pub fn open(&self) -> Result<Jobs> {
        let place = self.place()?;
        let opened: Result<Arc<dyn Store>, StoreError> = match &place {
            Place::Directory(dir) => Local::open(dir).map(|store| Arc::new(store) as _),
            Place::Service(url) => connected(url, Remote::open),
        };
        let store = opened.map_err(|error| match error {
            StoreError::NotFound { what } => {
                let message = format!("`{what}` cannot be made");
                failure(Exit::Store, message, "name another directory with `--store DIR`")
            }
            other => other.into(),
        });
        Ok(Jobs::new(store.with_context(|| cannot_use(&place))?))
    }

    /// The jobs in the store, if there is one; none is made.
    pub fn if_any(&self) -> Result<Option<Jobs>> {
        let place = self.place()?;
        let existing: Result<Arc<dyn Store>, StoreError> = match &place {
            Place::Directory(dir) => Local::existing(dir).map(|store| Arc::new(store) as _),
            Place::Service(url) => connected(url, Remote::existing),
        };
        match existing {
            Ok(store) => Ok(Some(Jobs::new(store))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(anyhow::Error::from(error).context(cannot_use(&place))),
        }
    }

    /// The jobs in the store, which there must be.
    pub fn existing(&self) -> Result<Jobs> {
        let none = |place: Place| {
            let message = format!("there is no store in `{place}`");
            failure(Exit::NotFound, message, "`wasm-ckpt run` makes one; `--store` names another")
        };
        self.if_any()?.map_or_else(|| Err(none(self.place()?)), Ok)
    }

    /// Where it is, or would be.
    pub fn place(&self) -> Result<Place> {
        match &self.store {
            Some(name) if name.is_empty() => {
                let message = "the store has an empty name, by `--store` or WASM_CKPT_STORE";
                Err(failure(Exit::Usage, message, "name a directory, or unset the variable"))
            }
            Some(name) => Ok(match name.to_str().filter(|text| remote::is_url(text)) {
                Some(url) => Place::Service(url.to_string()),
                None => Place::Directory(name.into()),
            }),
            None => user_dir("XDG_STATE_HOME", ".local/state").map(Place::Directory).ok_or_else(|| {
                let message = "there is no place for the store: neither HOME nor XDG_STATE_HOME is set";
                failure(Exit::Store, message, "name a directory with `--store DIR`")
            }),
        }
    }
}

/// A store on a service, with a directory of this user for working files.
fn connected(
    url: &str,
    open: impl FnOnce(Arc<dyn remote::Service>) -> Result<Remote, StoreError>,
) -> Result<Arc<dyn Store>, StoreError> {
    let store = open(remote::connect(url)?)?;
    let working = user_dir("XDG_CACHE_HOME", ".cache");
    Ok(Arc::new(working.into_iter().fold(store, Remote::with_working_dir)))
}

fn cannot_use(place: &Place) -> String {
    format!("the store `{place}` cannot be used")
}

/// `$VARIABLE/wasm-ckpt`, or in the home directory.
pub fn user_dir(variable: &str, at_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let base = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(at_home)))?;
    Some(base.join("wasm-ckpt"))
}
