//! The files that the guest has read from read-only host directories. They are not in the snapshot, being
//! large as a rule; but which they were is, so that a resume finds out if they have changed since.

use std::{collections::BTreeMap, fs::File, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    RootDir,
    errno::Errno,
    host::{self, How, Opened},
    restore::{FileProblem, Problem},
    save::{locate, or_dot},
    state::{FileIdentity, Place},
    types::Filetype,
};

/// Most files that are recorded; what is opened after so many others is not checked at a resume.
pub(super) const INPUTS_MAX: usize = 1 << 18;

/// A file that the guest has opened in a read-only directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Where it is.
    pub place: Place,
    /// Its content, as it was when it was opened last.
    pub content: Content,
}

/// What tells a content from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change: seconds since 1970, and ns.
    pub mtime: (i64, u32),
    /// blake3 of all bytes, if that was asked for.
    pub hash: Option<[u8; 32]>,
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size, mtime: (seconds, nanos), hash } = self;
        write!(f, "{size} bytes changed at {seconds}.{nanos:09}")?;
        hash.map_or(Ok(()), |hash| write!(f, ", blake3 {}", blake3::Hash::from_bytes(hash)))
    }
}

/// All of a guest's.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Whether to hash contents.
    hash: bool,
    files: BTreeMap<Place, Content>,
}

impl Inputs {
    pub fn new(hash: bool) -> Self {
        Self { hash, files: BTreeMap::new() }
    }

    /// Notes that the guest has opened a file, of a read-only directory, at a place. A device is none: it is always
    /// the same, and may have no end.
    pub fn opened(&mut self, roots: &[RootDir], place: &Place, file: &File) -> io::Result<()> {
        let found = host::attributes(file)?;
        if found.kind != Filetype::RegularFile {
            return Ok(());
        }
        let identity = FileIdentity::from(&found);
        let (place, gone) = locate(roots, place, file, &identity);
        let mut found = Content { size: identity.size, mtime: identity.mtime, hash: None };
        let known = self.files.get(&place);
        let same = known.is_some_and(|was| (was.size, was.mtime) == (found.size, found.mtime));
        if gone || same || (known.is_none() && self.files.len() >= INPUTS_MAX) {
            return Ok(());
        }
        if self.hash {
            found.hash = Some(hash(file)?);
        }
        self.files.insert(place, found);
        Ok(())
    }

    /// By ascending place.
    pub fn saved(&self) -> Vec<InputFile> {
        let input =
            |(place, content): (&Place, &Content)| InputFile { place: place.clone(), content: *content };
        self.files.iter().map(input).collect()
    }

    /// The inputs of a state, each of which must be what it was unless `accept_changed`; the error is a
    /// [`FileProblem`].
    pub fn restore(
        saved: Vec<InputFile>,
        hash: bool,
        roots: &[RootDir],
        accept_changed: bool,
    ) -> anyhow::Result<Self> {
        let mut inputs = Self::new(hash);
        for InputFile { place, content } in saved {
            let found = match check(roots, &place, content) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(_) if accept_changed => continue,
                Err(problem) => {
                    let root = roots.get(place.root as usize);
                    let guest = root.map_or(String::new(), |root| root.guest_path(&place));
                    let host = root.map_or(PathBuf::new(), |root| root.host.join(&place.path));
                    return Err(FileProblem { guest, host, problem }.into());
                }
            };
            inputs.files.insert(place, found);
        }
        Ok(inputs)
    }
}

/// Finds a file and compares it with what it was. Where that was hashed, the hash alone decides: a copy has
/// another time. Nothing for a device, which earlier builds have recorded as an empty file.
fn check(roots: &[RootDir], place: &Place, expected: Content) -> Result<Option<Content>, Problem> {
    let root = roots.get(place.root as usize).ok_or(Problem::CannotOpen(Errno::Noent))?;
    let how = How { read: true, follow: true, ..How::default() };
    let (file, found) = match host::open(&root.dir, or_dot(&place.path), how) {
        Ok(Opened::File { file, found }) if found.kind == Filetype::RegularFile => {
            (file, FileIdentity::from(&found))
        }
        Ok(Opened::File { .. }) if expected.size == 0 => return Ok(None),
        Ok(_) => return Err(Problem::OtherKind { expected: "a file" }),
        Err(errno) => return Err(Problem::CannotOpen(errno)),
    };
    let mut found = Content { size: found.size, mtime: found.mtime, hash: None };
    if expected.hash.is_some() && found.size == expected.size {
        found.hash = Some(hash(&file).map_err(|e| Problem::CannotOpen(e.into()))?);
        if found.hash == expected.hash {
            return Ok(Some(found));
        }
    }
    if found != expected {
        return Err(Problem::Input { expected: Box::new(expected), found: Box::new(found) });
    }
    Ok(Some(found))
}

/// blake3 of all bytes of a file.
fn hash(file: &File) -> io::Result<[u8; 32]> {
    use std::os::unix::fs::FileExt;
    let (mut hasher, mut buffer, mut at) = (blake3::Hasher::new(), vec![0; 1 << 17], 0);
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            n => {
                hasher.update(&buffer[..n]);
                at += n as u64;
            }
        }
    }
}
