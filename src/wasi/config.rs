//! What the guest is given at its start: arguments, environment, directories, clocks, chance.

use std::{collections::HashSet, path::PathBuf};

use anyhow::{Result, ensure};

use super::{
    clock::ClockMode,
    disks::{DISKS_MAX, DiskConfig},
};

/// Most bytes of arguments, and of environment, that a guest can be given.
const STRINGS_LEN_MAX: usize = 16 << 20;
/// Most directories.
pub(super) const PREOPENS_MAX: usize = 1024;

/// What a new guest is given. The default is nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Arguments; the first is the program's name.
    pub args: Vec<String>,
    /// Environment variables, as name and value.
    pub env: Vec<(String, String)>,
    /// Host directories, in the order of their descriptors (the first is 3).
    pub dirs: Vec<Preopen>,
    /// Private disks, whose descriptors come after those of `dirs`.
    pub disks: Vec<DiskConfig>,
    /// Directory for the private disks while they are in use; the system's for temporary files unless told.
    pub scratch: Option<PathBuf>,
    /// Which time it is given.
    pub clock: ClockMode,
    /// Hash the files of read-only directories that the guest opens, so that a resume can tell their contents
    /// from others by more than size and time.
    pub hash_inputs: bool,
    /// Seed of `random_get`; unless given, the system's generator is asked for one.
    pub seed: Option<[u8; 32]>,
}

/// A host directory that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preopen {
    /// Where it is on the host.
    pub host: PathBuf,
    /// The guest's name for it.
    pub guest: String,
    /// The guest may not change anything in it.
    pub read_only: bool,
}

impl Config {
    /// Refuses what could not be handed to the guest.
    pub(super) fn check(&self) -> Result<()> {
        for arg in &self.args {
            ensure!(!arg.contains('\0'), "argument `{}` holds a NUL byte", arg.escape_debug());
        }
        for (name, value) in &self.env {
            ensure!(
                !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'),
                "environment variable `{}` has a name or value that cannot be passed on",
                name.escape_debug()
            );
        }
        let args: usize = self.args.iter().map(|arg| arg.len() + 1).sum();
        let env: usize = self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        ensure!(args <= STRINGS_LEN_MAX, "the arguments take {args} bytes; the limit is {STRINGS_LEN_MAX}");
        ensure!(env <= STRINGS_LEN_MAX, "the environment takes {env} bytes; the limit is {STRINGS_LEN_MAX}");
        ensure!(self.dirs.len() <= PREOPENS_MAX, "more than {PREOPENS_MAX} directories");
        ensure!(self.disks.len() <= DISKS_MAX, "more than {DISKS_MAX} private disks");
        let mut names = HashSet::new();
        let disks = self.disks.iter().map(|disk| (&disk.guest, true));
        for (name, is_disk) in self.dirs.iter().map(|dir| (&dir.guest, false)).chain(disks) {
            ensure!(
                !name.is_empty() && !name.contains('\0'),
                "`{}` cannot be the guest's name of a directory",
                name.escape_debug()
            );
            ensure!(
                names.insert(name) || !is_disk,
                "there is another directory with the name of the disk `{name}`"
            );
        }
        Ok(())
    }
}
