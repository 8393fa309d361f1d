//! Going on from a state: directories and files are found again, checked, mended and repositioned.

use std::{collections::HashMap, ffi::OsStr, fs::File, os::unix::ffi::OsStrExt, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};

use super::{
    Preopen, RootDir, Wasi,
    appended::{self, AppendedFiles},
    clock::Clock,
    disks::{self, Contents},
    errno::Errno,
    fdtable::{FdTable, Open, OpenDirectory, OpenFile},
    handle::{DirHandle, FileHandle, HostDir},
    host::{self, How, Opened},
    hostfile::HostFile,
    inputs::{Content, Inputs},
    save::or_dot,
    state::{Descriptor, DirectoryState, FileIdentity, FileState, Nameless, State, Written},
    stdio::{Host, Streams},
    types::{Attributes, Filetype},
    unsynced::Unsynced,
};

/// How to go on from a state.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// Where the preopened directories are.
    pub dirs: Dirs,
    /// Take files as they are that have changed in a way that cannot be mended. The guest may then
    /// compute with what never was.
    pub accept_changed: bool,
    /// Its files are also those of the guest of which it is a copy, which has gone on: nothing is cut off them, and
    /// one that has grown since is refused ([`Problem::Grown`]).
    pub shares_files: bool,
    /// The process before it has left it in good order, and nothing of it ran after the snapshot: what its files have
    /// grown by since is of others. Nothing is cut off them; what the guest appends goes on behind it, and one that it
    /// may read, or writes at places of its own, is refused ([`Problem::Grown`]).
    pub stopped: bool,
    /// Hash the files of read-only directories that the guest opens from now on.
    pub hash_inputs: bool,
    /// Directory for the private disks while they are in use; the system's for temporary files unless told.
    pub scratch: Option<PathBuf>,
}

/// Where the preopened directories are.
#[derive(Debug, Clone, Default)]
pub enum Dirs {
    /// Where the state says. Only for a state that this host has made itself: any other could name any
    /// directory.
    #[default]
    AsRecorded,
    /// Here: one for each of the state's, by the guest's name.
    Given(Vec<Preopen>),
}

/// An open file or directory with which the guest cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the program's file `{guest}` ({}): {problem}", host.display())]
pub struct FileProblem {
    /// The guest's path of it.
    pub guest: String,
    /// Its path on this host.
    pub host: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an open file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It had no name any more when the snapshot was taken, and is not in the snapshot.
    #[error(
        "it had no name in the program's directories any more when the snapshot was taken, and is not in the \
         snapshot, which keeps small files that have no name at all"
    )]
    Nameless,
    /// It was read before, from a read-only directory, and is another now.
    #[error(
        "the program has read it before the snapshot, and it has changed since: expected {expected}, found {found}"
    )]
    Input {
        /// When it was read.
        expected: Box<Content>,
        /// Now.
        found: Box<Content>,
    },
    /// It cannot be opened.
    #[error("it cannot be opened again: {0:?}")]
    CannotOpen(Errno),
    /// It is now something else, such as a directory.
    #[error("it is not {expected} any more")]
    OtherKind {
        /// What it was.
        expected: &'static str,
    },
    /// Its content is not what the guest was reading.
    #[error("it has changed since the snapshot: expected {expected}, found {found}")]
    Changed {
        /// At the snapshot.
        expected: FileIdentity,
        /// Now.
        found: FileIdentity,
    },
    /// Another file has its name.
    #[error("another file has taken its place: expected {expected}, found {found}")]
    Replaced {
        /// At the snapshot.
        expected: FileIdentity,
        /// Now.
        found: FileIdentity,
    },
    /// Bytes that the guest relies on are lost.
    #[error("it has lost {} bytes since the snapshot: expected {expected}, found {found}", expected.size.saturating_sub(found.size))]
    Shorter {
        /// At the snapshot.
        expected: FileIdentity,
        /// Now.
        found: FileIdentity,
    },
    /// It is longer, and nothing tells that it was the guest that wrote the rest.
    #[error(
        "it has grown since the snapshot, perhaps by another program: expected {expected}, found {found}"
    )]
    Grown {
        /// At the snapshot.
        expected: FileIdentity,
        /// Now.
        found: FileIdentity,
    },
    /// The guest, or another program, has overwritten parts that the guest can read.
    #[error(
        "it was overwritten in place after the snapshot, and the program can read what it should not \
         have seen yet: expected {expected}, found {found}"
    )]
    Overwritten {
        /// At the snapshot.
        expected: FileIdentity,
        /// Now.
        found: FileIdentity,
    },
}

impl Wasi {
    /// The WASI side of a guest that goes on from a state, whose version and bytes [`Wasi::save`] gave.
    ///
    /// No file is touched unless all can be found and mended.
    ///
    /// # Errors
    /// The bytes are not a state; a directory cannot be opened; standard input is another; or
    /// [`FileProblem`], to be had by downcast.
    pub fn restore(version: u32, bytes: &[u8], host: Host, how: Restore) -> Result<Self> {
        Self::from_state(State::decode(version, bytes)?, host, how, None)
    }

    /// [`Wasi::restore`] of a guest that may have private disks.
    ///
    /// # Errors
    /// As there; a disk cannot be read, or is not one.
    pub fn restore_with(
        version: u32,
        bytes: &[u8],
        host: Host,
        how: Restore,
        contents: Contents<'_>,
    ) -> Result<Self> {
        Self::from_state(State::decode(version, bytes)?, host, how, Some(contents))
    }

    fn from_state(state: State, host: Host, how: Restore, contents: Option<Contents<'_>>) -> Result<Self> {
        let disks = disks::restore(&state, contents, how.scratch.as_deref())?;
        let roots = open_roots(&state, how.dirs)?;
        let streams = Streams::new(state.streams.clone(), host, how.accept_changed)?;
        let nameless = make_nameless(&state).context("files without a name cannot be made again")?;
        let scratch = how.scratch.unwrap_or_else(std::env::temp_dir);
        let lost = Lost { nameless, scratch, accept: how.accept_changed };
        let mut opened = Vec::with_capacity(state.descriptors.len());
        let mut cuts = Cuts::new(&state, how.shares_files, how.stopped);
        // Written files first: what is cut off them is taken into account for those who read them.
        let (first, then): (Vec<_>, Vec<_>) = state.descriptors.iter().partition(|(_, d)| is_writable(d));
        for (fd, descriptor) in first.into_iter().chain(then) {
            let explain = || format!("descriptor {fd} cannot be restored");
            let open = match disks::reopen(&disks, descriptor).with_context(explain)? {
                Some(open) => open,
                None => reopen(&state, &roots, descriptor, &lost, &mut cuts).with_context(explain)?,
            };
            opened.push((*fd, open));
        }
        let inputs = Inputs::restore(state.inputs, how.hash_inputs, &roots, how.accept_changed)?;
        let fds = FdTable::from_parts(state.numbers, opened);
        disks::check_reachable(&disks)?;
        cuts.make(&fds)?;
        if how.shares_files && !how.accept_changed {
            appended::check_not_grown(&state.appended, &roots)?;
        }
        let mut unsynced = Unsynced::default();
        let may_cut = !how.shares_files && !how.stopped;
        let appended = AppendedFiles::restore(state.appended, &roots, may_cut, &mut unsynced)?;
        Ok(Self {
            args: state.args,
            env: state.env,
            roots,
            fds,
            streams,
            clock: Clock::restore(state.clock),
            random: state.random,
            wait: state.wait,
            exit_code: state.exit_code,
            inputs,
            appended,
            unsynced,
            disks,
        })
    }
}

fn is_writable(descriptor: &Descriptor) -> bool {
    matches!(descriptor, Descriptor::File(file) if file.access.writable)
}

/// Opens the preopened directories.
fn open_roots(state: &State, dirs: Dirs) -> Result<Vec<RootDir>> {
    let mut given = match dirs {
        Dirs::AsRecorded => None,
        Dirs::Given(given) => Some(given),
    };
    let mut roots = Vec::with_capacity(state.roots.len());
    for root in &state.roots {
        let preopen = match &mut given {
            None => Preopen {
                host: PathBuf::from(OsStr::from_bytes(&root.host)),
                guest: root.guest.clone(),
                read_only: root.read_only,
            },
            Some(given) => match given.iter().position(|dir| dir.guest == root.guest) {
                Some(at) => given.remove(at),
                None => bail!("no directory is given for the program's `{}`", root.guest),
            },
        };
        roots.push(RootDir::open(preopen)?);
    }
    if let Some(unused) = given.iter().flatten().next() {
        bail!("the program has no directory `{}`; those of a snapshot cannot be added to", unused.guest);
    }
    Ok(roots)
}

/// Files by device and inode at the snapshot.
type Files = HashMap<(u64, u64), File>;

/// What to give the guest for what is not to be found.
struct Lost {
    nameless: Files,
    /// Where removed directories are made.
    scratch: PathBuf,
    /// Whatever has the name now.
    accept: bool,
}

/// Makes the files again that the state holds itself.
fn make_nameless(state: &State) -> Result<Files> {
    let make = |file: &Nameless| Ok(((file.dev, file.ino), host::nameless(&file.content)?));
    state.nameless.iter().map(make).collect()
}

fn reopen(
    state: &State,
    roots: &[RootDir],
    descriptor: &Descriptor,
    lost: &Lost,
    cuts: &mut Cuts,
) -> Result<Open> {
    let place = match descriptor {
        Descriptor::Stream(stream) => return Ok(Open::Stream(*stream)),
        Descriptor::Directory(dir) => &dir.place,
        Descriptor::File(file) => &file.place,
        Descriptor::DiskDirectory { .. } | Descriptor::DiskFile { .. } => bail!("it is on a private disk"),
    };
    let root = roots.get(place.root as usize).context("its directory is missing")?;
    let opened = match descriptor {
        Descriptor::Directory(dir) => reopen_directory(root, dir, lost),
        Descriptor::File(file) => reopen_file(root, file, lost, cuts),
        _ => bail!("it has no place"),
    };
    opened.map_err(|problem| {
        let host = root.host.join(&place.path);
        anyhow::Error::new(FileProblem { guest: state.guest_path(place), host, problem })
    })
}

fn reopen_directory(root: &RootDir, state: &DirectoryState, lost: &Lost) -> Result<Open, Problem> {
    let DirectoryState { place, gone, preopen, listing } = state;
    let dir = if *preopen {
        root.dir.clone()
    } else if *gone && place.is_of_removed() {
        let made = host::removed_directory(&lost.scratch);
        Arc::new(made.map_err(|e| Problem::CannotOpen(e.into()))?)
    } else if *gone && !lost.accept {
        return Err(Problem::Nameless);
    } else {
        let how = How { read: true, follow: true, ..How::default() };
        match host::open(&root.dir, or_dot(&place.path), how) {
            Ok(Opened::Directory(dir)) => Arc::new(dir),
            Ok(Opened::File { .. }) => return Err(Problem::OtherKind { expected: "a directory" }),
            Err(e) => return Err(Problem::CannotOpen(e)),
        }
    };
    let (place, listing) = (place.clone(), listing.clone());
    let dir = DirHandle::Host(HostDir { dir, place });
    Ok(Open::Directory(OpenDirectory { dir, preopen: *preopen, read_only: root.read_only, listing }))
}

fn reopen_file(root: &RootDir, state: &FileState, lost: &Lost, cuts: &mut Cuts) -> Result<Open, Problem> {
    let FileState { place, gone, kind: was, access, position, written, identity } = state;
    let open = |file| {
        let file = FileHandle::Host(HostFile { file, place: place.clone(), written: *written });
        let (kind, access, position) = (*was, *access, *position);
        Open::File(OpenFile { file, kind, read_only: root.read_only, access, position })
    };
    if *gone {
        match lost.nameless.get(&(identity.dev, identity.ino)) {
            Some(file) => return Ok(open(file.try_clone().map_err(|e| Problem::CannotOpen(e.into()))?)),
            None if !lost.accept => return Err(Problem::Nameless),
            None => {}
        }
    }
    if access.writable && root.read_only {
        return Err(Problem::CannotOpen(Errno::Perm));
    }
    // Neither made nor emptied again, whatever it was first opened with.
    let how = How { read: access.readable, write: access.writable, follow: true, ..How::default() };
    let (file, found) = match host::open(&root.dir, or_dot(&place.path), how) {
        Ok(Opened::File { file, found }) if found.kind == *was => (file, found),
        Ok(_) => return Err(Problem::OtherKind { expected: "the same kind of file" }),
        Err(e) => return Err(Problem::CannotOpen(e)),
    };
    if found.kind == Filetype::RegularFile {
        cuts.plan(state, &(&found).into(), lost.accept)?;
    }
    Ok(open(file))
}

/// The files that are to be cut off to the length that they had at the snapshot.
#[derive(Debug)]
struct Cuts {
    /// What the guest has written, through all its descriptors, by device and inode at the snapshot.
    written: HashMap<(u64, u64), Written>,
    /// By device and inode.
    files: HashMap<(u64, u64), Cut>,
    /// As in [`Restore::shares_files`]: nothing may be cut off.
    shared: bool,
    /// As in [`Restore::stopped`]: nor then.
    stopped: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Length to cut to, in bytes.
    to: u64,
    /// Nothing before that was overwritten, as far as is known.
    clean: bool,
}

impl Cuts {
    fn new(state: &State, shared: bool, stopped: bool) -> Self {
        let mut written = HashMap::<_, Written>::new();
        for (_, descriptor) in &state.descriptors {
            if let Descriptor::File(file) = descriptor {
                let all = written.entry((file.identity.dev, file.identity.ino)).or_default();
                all.end = all.end.max(file.written.end);
                all.in_place |= file.written.in_place;
            }
        }
        Self { written, files: HashMap::new(), shared, stopped }
    }

    /// Decides whether the guest can go on with a file as it is found, or after cutting it off.
    ///
    /// After the snapshot the guest went on until it was killed, and what it wrote then is in its files.
    /// It will write the same again. That is harmless where it cannot read what it wrote, and mended
    /// where it only wrote at the end; anything else is refused, since the guest would read what it
    /// has not written yet.
    fn plan(&mut self, state: &FileState, found: &FileIdentity, accept: bool) -> Result<(), Problem> {
        let FileState { access, identity, .. } = state;
        let (expected, found) = (*identity, *found);
        let written = self.written.get(&(expected.dev, expected.ino)).copied().unwrap_or_default();
        if found.same_content(&expected) {
            return Ok(());
        }
        let refuse = |problem| if accept { Ok(()) } else { Err(problem) };
        let key = (found.dev, found.ino);
        if !access.writable {
            // Another descriptor has written it, and is about to cut off what came after the snapshot.
            return match self.files.get(&key) {
                Some(cut) if cut.clean && cut.to == expected.size => Ok(()),
                _ => refuse(Problem::Changed { expected, found }),
            };
        }
        if !found.same_file(&expected) {
            return refuse(Problem::Replaced { expected, found });
        }
        if found.size < expected.size {
            return refuse(Problem::Shorter { expected, found });
        }
        let only_at_end = found.size > expected.size && !written.in_place;
        if access.readable && !only_at_end {
            return refuse(Problem::Overwritten { expected, found });
        }
        if found.size > expected.size {
            if self.stopped && !self.shared && access.append && !access.readable {
                return Ok(());
            }
            if self.shared || self.stopped || written.end != Some(expected.size) {
                return refuse(Problem::Grown { expected, found });
            }
            self.files.insert(key, Cut { to: expected.size, clean: !written.in_place });
        }
        Ok(())
    }

    /// Cuts the files off.
    fn make(self, fds: &FdTable) -> Result<()> {
        for (_, open) in fds.iter() {
            let Open::File(OpenFile { file: FileHandle::Host(open), access, .. }) = open else { continue };
            if !access.writable {
                continue;
            }
            let HostFile { file, place, .. } = open;
            let explain = || format!("file `{}` cannot be cut off to its length at the snapshot", place.path);
            let Attributes { dev, ino, .. } = host::attributes(file).with_context(explain)?;
            if let Some(cut) = self.files.get(&(dev, ino)) {
                file.set_len(cut.to).with_context(explain)?;
            }
        }
        Ok(())
    }
}
