//! Where output goes, and how a job that goes on comes to terms with what is there already.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::delivery::Delivered;
use super::log::{Printed, SinkFile};
use crate::wasi::Output;

/// Where a stream of the guest goes.
pub enum Sink {
    /// A file, pipe or terminal of the host.
    File(File),
    /// What an embedder makes of it.
    Other(Box<dyn Output>),
    /// Nowhere. It is kept all the same.
    Null,
}

impl Sink {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => Output::write(file, bytes),
            Self::Other(output) => output.write(bytes),
            Self::Null => Ok(()),
        }
    }

    /// There may be no room for what is written, until somebody reads.
    pub(super) fn may_wait(&self) -> bool {
        let Self::File(file) = self else { return false };
        let kind = file.metadata().map(|meta| meta.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) || self.is_terminal()
    }

    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::File(file) => Output::is_terminal(file),
            Self::Other(output) => output.is_terminal(),
            Self::Null => false,
        }
    }
}

/// When what the guest prints is written to the sinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// At once. A reader that outlives the process may see again what was printed since the last snapshot.
    #[default]
    AtOnce,
    /// When the snapshot that covers it is durable, and then once.
    ExactlyOnce,
}

/// What a sink is given first when a job goes on in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// All that was printed.
    Start,
    /// Only what is printed from now on.
    Now,
}

/// How output is delivered, here and now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub mode: Mode,
    /// What comes first in a sink that is not the same as before. Unless told it is all that was printed.
    /// With [`From::Start`] that holds for a pipe or terminal that is the same as before as well.
    pub from: Option<From>,
}

/// What a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    dev: u64,
    ino: u64,
    /// A regular file.
    pub is_file: bool,
    /// A pipe or FIFO.
    pub is_pipe: bool,
}

impl Place {
    /// The place of a sink, if it is one that keeps what it is given in order.
    fn of(sink: &Sink) -> io::Result<Option<Self>> {
        let Sink::File(file) = sink else { return Ok(None) };
        let meta = file.metadata()?;
        let kind = meta.file_type();
        let (is_file, is_pipe) = (kind.is_file(), kind.is_fifo());
        // A device such as /dev/null has no order to keep; a terminal is one.
        let ordered = is_file || is_pipe || kind.is_socket() || Output::is_terminal(file);
        Ok(ordered.then(|| Self { dev: meta.dev(), ino: meta.ino(), is_file, is_pipe }))
    }
}

/// What has to be done with a regular file before anything is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Go on at this offset of the file.
    pub at: u64,
    /// What is behind it is cut off.
    pub cut: bool,
}

/// How the guest's streams go on. Made before anything is changed, carried out when the claim is durable.
pub(super) struct Plan {
    /// For the claim.
    pub sinks: [Option<SinkFile>; 2],
    /// Where in its file each stream goes on.
    pub positions: [Option<Position>; 2],
    /// How many bytes of each stream the sinks have, of those that are covered.
    pub there: [u64; 2],
    /// So many bytes more, of each stream, may have arrived already.
    pub doubtful: [u64; 2],
    /// Where the streams go.
    pub places: [Option<Place>; 2],
    /// Both streams go to the same place.
    pub joint: bool,
}

/// What is known of the run before.
#[derive(Clone, Copy)]
pub(super) struct Former<'a> {
    /// Where its output went.
    pub sinks: [Option<SinkFile>; 2],
    /// It has left in good order: all that it printed is covered.
    pub clean: bool,
    /// What is covered.
    pub printed: &'a Printed,
    /// What has been delivered, if that was counted and counts now.
    pub delivered: Option<Delivered>,
    /// The streams that it had written nothing to.
    pub silent: [bool; 2],
}

impl<'a> Former<'a> {
    /// What the log and the snapshot say.
    pub fn new(sinks: [Option<SinkFile>; 2], clean: bool, printed: &'a Printed) -> Self {
        Self { sinks, clean, printed, delivered: None, silent: [false; 2] }
    }
}

impl Plan {
    /// Looks at the sinks and decides.
    pub fn new(sinks: &[Sink; 2], former: &Former<'_>, delivery: Delivery) -> Result<Self> {
        let places = [Place::of(&sinks[0])?, Place::of(&sinks[1])?];
        let joint = places[0].is_some() && places[0] == places[1];
        let was_joint = |a: &Option<SinkFile>, b: &Option<SinkFile>| matches!((a, b), (Some(a), Some(b)) if (a.dev, a.ino) == (b.dev, b.ino));
        let (covered, delivered) = (former.printed.streams.map(|s| s.written), former.delivered);
        let start = if delivery.from == Some(From::Now) { covered } else { [0; 2] };
        let (sinks_are, positions, doubtful) = ([None; 2], [None; 2], [0; 2]);
        let mut plan = Self { sinks: sinks_are, positions, there: start, doubtful, places, joint };
        // What will be missing in a sink that is given what was printed.
        let missing = [0, 1].map(|n| {
            let stream = &former.printed.streams[n];
            stream.written - stream.kept.max(start[n]).min(stream.written)
        });
        let sum = |of: [u64; 2], index: usize| if joint { of.iter().sum() } else { of[index] };
        for index in 0..2 {
            let (Sink::File(file), Some(place)) = (&sinks[index], places[index]) else { continue };
            // What was delivered there, if that is known.
            let known = delivered.filter(|d| d.places[index] == Some(place));
            let known = known.filter(|d| joint == (d.places[0].is_some() && d.places[0] == d.places[1]));
            let there = known.map_or(covered, |d| [0, 1].map(|n| d.done[n].min(covered[n])));
            if !place.is_file {
                if let Some(known) = known.filter(|_| delivery.from != Some(From::Start)) {
                    (plan.there[index], plan.doubtful[index]) = (there[index], known.doubtful[index]);
                }
                continue;
            }
            let alike = joint == was_joint(&former.sinks[0], &former.sinks[1]);
            let was = former.sinks[index].filter(|_| alike);
            let first = sum(start, index) + sum(missing, index);
            // What lies behind is of others then.
            let is_silent = |n: usize| {
                former.silent[n] || known.is_some_and(|d| d.done[n] == there[n] && d.doubtful[n] == 0)
            };
            let clean = former.clean || if joint { is_silent(0) && is_silent(1) } else { is_silent(index) };
            let (sink, position) = plan_file(file, was, sum(there, index), clean, first)?;
            (plan.sinks[index], plan.positions[index]) = (Some(sink), position.1);
            if position.0 {
                plan.there[index] = there[index];
            }
        }
        Ok(plan)
    }

    /// Something of what is covered has to be printed first.
    pub fn is_behind(&self, printed: &Printed) -> bool {
        (0..2).any(|n| self.there[n] < printed.streams[n].written)
    }
}

/// What to do with a regular file that the stream, or both, go to: `there` bytes are in it if it is the same as
/// before, `start` bytes are left out, or missing, if it is not. Gives what it is, whether it is the same, and how to go on.
fn plan_file(
    file: &File,
    was: Option<SinkFile>,
    there: u64,
    clean: bool,
    start: u64,
) -> Result<(SinkFile, (bool, Option<Position>))> {
    let meta = file.metadata().context("an output file cannot be examined")?;
    let (dev, ino, len) = (meta.dev(), meta.ino(), meta.len());
    let since_1970 = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = since_1970.map_or(0, |time| time.as_nanos() as u64);
    let sink = |base, first| SinkFile { dev, ino, born, base, first };
    let same = was.filter(|was| sink(was.base, was.first) == *was && len >= was.base && there >= was.first);
    Ok(match same {
        Some(SinkFile { base, first, .. }) => {
            let end = base.saturating_add(there - first);
            match len {
                // It has lost bytes: all again.
                _ if len < end => (sink(base, start), (false, Some(Position { at: base, cut: true }))),
                _ if clean => {
                    let base = len - (there - first);
                    (sink(base, first), (true, Some(Position { at: len, cut: false })))
                }
                _ => (sink(base, first), (true, Some(Position { at: end, cut: true }))),
            }
        }
        None => {
            let appends = rustix::fs::fcntl_getfl(file)?.contains(rustix::fs::OFlags::APPEND);
            let base = if appends { len } else { rustix::fs::tell(file)? };
            (sink(base, start), (false, None))
        }
    })
}
