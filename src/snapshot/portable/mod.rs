//! The portable stream: a snapshot with all that it needs, as one file or through a pipe.
//!
//! It holds modules, then chunks, then snapshots, so that whoever takes them over has the parts before
//! what names them. Writing and reading keep one block (1 MiB) and one entry in memory.

mod blocks;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, Read, Write};

use anyhow::ensure;

use super::limits::{MANIFEST_MAX, MODULE_MAX};
use super::{SnapshotError, Verified, check_chunk, decode, tree};
use crate::digest::{ChunkId, ModuleId, SnapshotId};
use blocks::{BlockReader, BlockWriter};
pub use blocks::{FORMAT, MAGIC};

/// Modules in one stream: a bound of what the reader has to remember.
const MODULES_MAX: usize = 1024;

/// Why a portable stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum PortableError {
    /// Something else than a portable stream.
    #[error("not a portable snapshot: it begins with `{found}`")]
    NotPortable {
        /// The first bytes, escaped.
        found: String,
    },
    /// Written by a newer version, or never.
    #[error("portable snapshot has format {found}, this build reads up to {newest}")]
    OtherFormat {
        /// Its format.
        found: u16,
        /// The newest format that is known here.
        newest: u16,
    },
    /// The stream ends before its end mark.
    #[error("portable snapshot is cut short: it ends after byte {offset}")]
    Truncated {
        /// How many bytes could be read, up to the last whole part.
        offset: u64,
    },
    /// The bytes are not those that were written.
    #[error("portable snapshot is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where the damaged block begins, in bytes.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// An entry is not what it says.
    #[error("entry {index} of the portable snapshot, before byte {offset}, is refused: {problem}")]
    Entry {
        /// Its number, from 0.
        index: u64,
        /// How many bytes of the stream had been read.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A snapshot in it is refused.
    #[error("the portable file holds a snapshot that is refused")]
    Snapshot(#[from] SnapshotError),
    /// Whoever takes over the entries failed.
    #[error("entry {index} of the portable snapshot cannot be taken over")]
    Sink {
        /// Its number, from 0.
        index: u64,
        /// What went wrong.
        #[source]
        cause: anyhow::Error,
    },
    /// Reading failed.
    #[error("the portable snapshot cannot be read")]
    Io(#[from] io::Error),
}

/// What an entry holds, in the order in which the kinds come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Module = 1,
    Chunk = 2,
    Snapshot = 3,
}

/// Writes a portable stream. Give it the modules, then the chunks, then the snapshots, and finish it: one that
/// is not finished is refused by the reader.
pub struct Writer<W: Write> {
    blocks: BlockWriter<W>,
    last: Kind,
    modules: HashSet<ModuleId>,
}

impl<W: Write> Writer<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(to: W) -> io::Result<Self> {
        let blocks = BlockWriter::new(to)?;
        Ok(Self { blocks, last: Kind::Module, modules: HashSet::new() })
    }

    /// Adds a module.
    ///
    /// # Errors
    /// When it is over [`MODULE_MAX`] bytes, comes after another kind of entry, or cannot be written.
    pub fn module(&mut self, bytes: &[u8]) -> anyhow::Result<ModuleId> {
        let id = ModuleId::of(bytes);
        ensure!(bytes.len() as u64 <= MODULE_MAX, "module {id} is over {MODULE_MAX} bytes");
        ensure!(self.modules.len() < MODULES_MAX, "over {MODULES_MAX} modules");
        self.entry(Kind::Module, id.as_bytes(), bytes)?;
        self.modules.insert(id);
        Ok(id)
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// When the bytes are not those of `id`, the chunk comes after a snapshot, or cannot be written.
    pub fn chunk(&mut self, id: ChunkId, bytes: &[u8]) -> anyhow::Result<()> {
        if let Err(problem) = check_chunk(id, bytes) {
            anyhow::bail!("chunk {id} is corrupt: {problem}");
        }
        self.entry(Kind::Chunk, id.as_bytes(), bytes)
    }

    /// Adds a snapshot, of which all chunks and the module have been added.
    ///
    /// # Errors
    /// When `manifest` is not that of `id`, its module is not in the stream, or it cannot be written.
    pub fn snapshot(&mut self, id: SnapshotId, manifest: &[u8]) -> anyhow::Result<()> {
        let module = decode(manifest, Some(id))?.state().identity.module;
        ensure!(self.modules.contains(&module), "the module {module} of the snapshot is missing");
        self.entry(Kind::Snapshot, id.as_bytes(), manifest)
    }

    /// Ends the stream and flushes it.
    ///
    /// # Errors
    /// When there is no snapshot in it, or it cannot be written.
    pub fn finish(self) -> anyhow::Result<W> {
        ensure!(self.last == Kind::Snapshot, "a portable stream needs a snapshot");
        Ok(self.blocks.finish()?)
    }

    fn entry(&mut self, kind: Kind, id: &[u8; 32], bytes: &[u8]) -> anyhow::Result<()> {
        ensure!(kind >= self.last, "modules come first, then chunks, then snapshots");
        self.last = kind;
        self.blocks.write(&[kind as u8])?;
        self.blocks.write(&(bytes.len() as u64).to_le_bytes())?;
        self.blocks.write(id)?;
        self.blocks.write(bytes)?;
        Ok(())
    }
}

/// Takes over what a portable stream holds. Each entry has been checked against its id when it comes.
pub trait Sink {
    /// A module. Modules come first.
    ///
    /// # Errors
    /// End the reading.
    fn module(&mut self, id: ModuleId, bytes: Vec<u8>) -> anyhow::Result<()>;

    /// A chunk; they come before the snapshots. Only the sink knows whether all have come:
    /// [`Walk`](super::Walk) names those that a snapshot needs.
    ///
    /// # Errors
    /// End the reading.
    fn chunk(&mut self, id: ChunkId, bytes: Vec<u8>) -> anyhow::Result<()>;

    /// A snapshot, whose module has come, and its manifest.
    ///
    /// # Errors
    /// End the reading.
    fn snapshot(&mut self, snapshot: Verified, manifest: Vec<u8>) -> anyhow::Result<()>;
}

/// Reads a portable stream to its end, and gives what it holds to `sink`. Keep what came only when this
/// returns without an error: a stream may turn out to be cut short at its very end.
///
/// # Errors
/// What is wrong with the stream and where, whatever its bytes; or what `sink` says.
pub fn read(from: impl Read, sink: &mut dyn Sink) -> Result<(), PortableError> {
    let mut blocks = BlockReader::new(from)?;
    let (mut last, mut modules) = (Kind::Module, HashSet::new());
    let mut index = 0;
    loop {
        let offset = blocks.offset();
        let refuse = |problem: String| PortableError::Entry { index, offset, problem };
        if blocks.at_end()? {
            return match last {
                Kind::Snapshot => Ok(()),
                _ => Err(refuse("the stream ends without a snapshot".to_string())),
            };
        }
        let (kind, id, bytes) = read_entry(&mut blocks, last, index)?;
        last = kind;
        let taken = match kind {
            Kind::Module => {
                let (id, found) = (ModuleId::from_bytes(id), ModuleId::of(&bytes));
                if id != found {
                    return Err(refuse(format!("module {id} is corrupt: its bytes hash to {found}")));
                }
                modules.insert(id);
                if modules.len() > MODULES_MAX {
                    return Err(refuse(format!("over {MODULES_MAX} modules")));
                }
                sink.module(id, bytes)
            }
            Kind::Chunk => {
                let id = ChunkId::from_bytes(id);
                check_chunk(id, &bytes)
                    .map_err(|problem| refuse(format!("chunk {id} is corrupt: {problem}")))?;
                sink.chunk(id, bytes)
            }
            Kind::Snapshot => {
                let snapshot = decode(&bytes, Some(SnapshotId::from_bytes(id)))?;
                let module = snapshot.state().identity.module;
                if !modules.contains(&module) {
                    return Err(refuse(format!("the module {module} of the snapshot is missing")));
                }
                sink.snapshot(snapshot, bytes)
            }
        };
        taken.map_err(|cause| PortableError::Sink { index, cause })?;
        index += 1;
    }
}

/// Kind, id and bytes of the next entry, not yet checked against each other.
fn read_entry<R: Read>(
    blocks: &mut BlockReader<R>,
    last: Kind,
    index: u64,
) -> Result<(Kind, [u8; 32], Vec<u8>), PortableError> {
    let offset = blocks.offset();
    let refuse = |problem: String| Err(PortableError::Entry { index, offset, problem });
    let (mut kind, mut len, mut id) = ([0], [0; 8], [0; 32]);
    blocks.read(&mut kind)?;
    blocks.read(&mut len)?;
    blocks.read(&mut id)?;
    let (kind, max) = match kind[0] {
        1 => (Kind::Module, MODULE_MAX),
        2 => (Kind::Chunk, tree::PAGE as u64),
        3 => (Kind::Snapshot, MANIFEST_MAX),
        other => return refuse(format!("no kind of entry has number {other}")),
    };
    if kind < last {
        return refuse("modules come first, then chunks, then snapshots".to_string());
    }
    let len = u64::from_le_bytes(len);
    if len > max {
        return refuse(format!("{len} bytes, over the limit of {max}"));
    }
    Ok((kind, id, blocks.read_vec(len)?))
}
