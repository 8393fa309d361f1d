//! One call on both sides, and what may differ: each rule is one of the differences that `src/wasi/mod.rs` lists, and
//! covers nothing else. All other results and all other bytes of memory must be the same.

use std::collections::{BTreeMap, HashMap};

use crate::plan::Step;
use crate::sides::{Answer, Call, SCRATCH, Side, call};

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const FBIG: u32 = 22;
const INTR: u32 = 27;
const INVAL: u32 = 28;
const IO: u32 = 29;
const LOOP: u32 = 32;
const NAMETOOLONG: u32 = 37;
const NOENT: u32 = 44;
const NOTSUP: u32 = 58;
const PERM: u32 = 63;

/// What the reference has no number for.
const FOLDED_INTO_IO: [u32; 6] = [33, 41, 69, 72, 74, 75]; // mfile nfile rofs stale txtbsy xdev

/// Nanoseconds since 1970: what lies between is the host's time of this test, what lies outside was set by the guest.
pub const NOW: std::ops::Range<u64> = 1_600_000_000_000_000_000..4_000_000_000_000_000_000;

/// The latest time that every host file system holds: what is set later, some cut off to it.
pub const LATEST: u64 = 15_032_385_535_000_000_000;

/// Whether the guest goes on after a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    GoesOn,
    Ended,
}

/// A directory entry: its name and type.
type Entry = (Vec<u8>, u8);

/// Both sides of one guest.
pub struct Pair<'a> {
    pub reference: &'a mut dyn Side,
    pub ours: &'a mut dyn Side,
    /// What a listing that was begun holds, by descriptor: ours fixes the names when it begins.
    listings: HashMap<u64, Vec<Entry>>,
    /// How often each function was called, and how often it succeeded.
    pub compared: BTreeMap<&'static str, (u64, u64)>,
    /// What the last call gave.
    pub last: u32,
    /// The reference has accessed files where ours does not: to read no bytes, and to see whether there are any.
    more_accesses: bool,
    /// "Reading changes no time of access" on ours, which is a private disk.
    pub keeps_access_times: bool,
}

impl<'a> Pair<'a> {
    pub fn new(reference: &'a mut dyn Side, ours: &'a mut dyn Side) -> Self {
        Self {
            reference,
            ours,
            listings: HashMap::new(),
            compared: BTreeMap::new(),
            last: 0,
            more_accesses: false,
            keeps_access_times: false,
        }
    }

    /// Makes a call on both sides; the error says how they differ.
    pub fn step(&mut self, step: &Step) -> Result<Next, String> {
        for (at, bytes) in &step.puts {
            self.reference.put(*at, bytes);
            self.ours.put(*at, bytes);
        }
        let before = self.ours.get(0, SCRATCH);
        let listing = self.begin_listing(&step.call);
        let theirs = self.answer_of_reference(step);
        let ours = self.ours.call(&step.call);
        let (theirs, ours) = match (theirs, ours) {
            // The reference stops a program that gives a bad pointer; ours tells it, and goes on.
            (Answer::Trap(_), Answer::Errno(_)) if step.bad_pointer => return Ok(Next::Ended),
            (Answer::Errno(_), Answer::Errno(FAULT)) if step.bad_pointer => return Ok(Next::Ended),
            (Answer::Exit(theirs), Answer::Exit(ours)) if theirs == ours => return Ok(Next::Ended),
            (Answer::Trap(_), Answer::Exit(126..)) => return Ok(Next::Ended),
            // It stops one as well that gives what is no value of a parameter's type; ours has done nothing then.
            (Answer::Trap(why), Answer::Errno(ours)) if ours != SUCCESS && is_no_value(&why) => (ours, ours),
            (Answer::Errno(theirs), Answer::Errno(ours)) => (theirs, ours),
            (theirs, ours) => return Err(format!("the reference says {theirs:?}, ours {ours:?}")),
        };
        let theirs = self.allow(&step.call, theirs, ours)?;
        if theirs != ours {
            return Err(format!("errno: the reference says {theirs}, ours {ours}"));
        }
        self.last = ours;
        let (calls, successes) = self.compared.entry(step.call.name).or_default();
        *calls += 1;
        *successes += u64::from(ours == SUCCESS);
        if ours == SUCCESS {
            self.allow_in_memory(&step.call, &before, listing)?;
            self.note(&step.call);
        }
        self.same_memory()?;
        Ok(Next::GoesOn)
    }

    fn same_memory(&mut self) -> Result<(), String> {
        let ours = &self.ours.memory()[..SCRATCH as usize];
        let theirs = &self.reference.memory()[..SCRATCH as usize];
        if ours == theirs {
            return Ok(());
        }
        let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap();
        let shown = at..(at + 64).min(SCRATCH as usize);
        Err(format!(
            "memory at {at:#x}: the reference has {:02x?}, ours {:02x?}",
            &theirs[shown.clone()],
            &ours[shown]
        ))
    }

    fn answer_of_reference(&mut self, step: &Step) -> Answer {
        if let ("fd_read" | "fd_pread" | "fd_write" | "fd_pwrite", false) = (step.call.name, step.bad_pointer)
            && let Some(answer) = self.one_buffer_after_the_other(&step.call)
        {
            return answer;
        }
        self.reference.call(&step.call)
    }

    /// "Buffers are all used, not only the first": what the reference gives for each, one after the other.
    fn one_buffer_after_the_other(&mut self, all: &Call) -> Option<Answer> {
        let (fd, iovs, count) = (all.args[0], all.args[1] as u32, all.args[2] as u32);
        let lens: Vec<u32> = (0..count).map(|n| self.reference.get_u32(iovs + n * 8 + 4)).collect();
        // Of standard input only the first is used, by ours as well.
        if lens.iter().filter(|len| **len > 0).count() < 2 || self.is_stdin(fd) {
            return None;
        }
        let (one, result) = (u64::from(SCRATCH), u64::from(SCRATCH + 16));
        let mut total = 0;
        for (n, len) in (0..).zip(lens).filter(|(_, len)| *len > 0) {
            let buffer = self.reference.get(iovs + n * 8, 8);
            self.reference.put(SCRATCH, &buffer);
            let mut args = vec![fd, one, 1];
            if all.args.len() == 5 {
                args.push(all.args[3].saturating_add(total));
            }
            args.push(result);
            match self.reference.call(&Call { name: all.name, args }) {
                Answer::Errno(SUCCESS) => {}
                _ if total > 0 => break,
                other => return Some(other),
            }
            let used = self.reference.get_u32(SCRATCH + 16);
            total += u64::from(used);
            if used < len {
                break;
            }
        }
        self.reference.put(*all.args.last().unwrap() as u32, &(total as u32).to_le_bytes());
        Some(Answer::Errno(SUCCESS))
    }

    fn is_stdin(&mut self, fd: u64) -> bool {
        // Only standard input may be read, and is neither file nor directory.
        self.ours.errno("fd_fdstat_get", &[fd, u64::from(SCRATCH)]) == SUCCESS
            && self.ours.get(SCRATCH, 1) == [0]
            && self.ours.get_u64(SCRATCH + 8) == 2
    }

    fn is_preopened(&mut self, fd: u64) -> bool {
        self.reference.errno("fd_prestat_get", &[fd, u64::from(SCRATCH)]) == SUCCESS
    }

    /// The reference's number, made ours where a rule allows it.
    fn allow(&mut self, call: &Call, theirs: u32, ours: u32) -> Result<u32, String> {
        match (call.name, theirs, ours) {
            // "Errors that the reference folds into `Io` keep their number."
            (_, IO, ours) if FOLDED_INTO_IO.contains(&ours) => Ok(ours),
            // "Reading nothing gives nothing; the reference says `Intr`."
            ("fd_pread" | "fd_read", INTR, SUCCESS) => {
                let out = *call.args.last().unwrap() as u32;
                if self.ours.get_u32(out) != 0 {
                    return Err("bytes were read where there are none".to_string());
                }
                self.reference.put(out, &[0; 4]);
                Ok(SUCCESS)
            }
            // Of two paths that are both wrong, the host's system looks at the old one first, a private disk at the new.
            ("path_link" | "path_rename", NOENT | LOOP, NAMETOOLONG)
                if self.keeps_access_times && call.args.last().is_some_and(|len| *len >= 255) =>
            {
                Ok(ours)
            }
            // Buffers that reach beyond the largest offset when they are taken together.
            ("fd_pwrite" | "fd_write", FBIG, INVAL) if call.args[2] > 1 => Ok(INVAL),
            // "`fd_allocate` works."
            ("fd_allocate", NOTSUP, SUCCESS) => {
                let (fd, end) = (call.args[0], call.args[1] + call.args[2]);
                assert_eq!(self.reference.errno("fd_filestat_get", &[fd, u64::from(SCRATCH)]), SUCCESS);
                if self.reference.get_u64(SCRATCH + 32) < end {
                    let grown = self.reference.errno("fd_filestat_set_size", &[fd, end]);
                    if grown != SUCCESS {
                        return Err(format!(
                            "ours allocates, but the reference cannot grow the file: {grown}"
                        ));
                    }
                }
                Ok(SUCCESS)
            }
            // "The times of a preopened directory can be set by its descriptor": the reference does it by path.
            ("fd_filestat_set_times", BADF, SUCCESS) if self.is_preopened(call.args[0]) => {
                self.reference.put(SCRATCH, b".");
                let path = u64::from(SCRATCH);
                let args = [&[call.args[0], 0, path, 1], &call.args[1..]].concat();
                Ok(self.reference.errno("path_filestat_set_times", &args))
            }
            ("fd_allocate", NOTSUP, BADF | FBIG | INVAL | PERM) => Ok(ours),
            _ => Ok(theirs),
        }
    }

    /// Checks what a call wrote where it may differ, and makes it the same.
    fn allow_in_memory(
        &mut self,
        call: &Call,
        before: &[u8],
        listing: Option<Vec<Entry>>,
    ) -> Result<(), String> {
        let out = call.args.last().map_or(0, |at| *at as u32);
        match call.name {
            "fd_filestat_get" | "path_filestat_get" => {
                self.padding(out + 17, 7)?;
                self.filestat(out)
            }
            "fd_fdstat_get" => {
                self.padding(out + 1, 1)?;
                self.padding(out + 4, 4)
            }
            "fd_prestat_get" => self.padding(out + 1, 3),
            "clock_time_get" => {
                let (theirs, ours) = (self.reference.get_u64(out), self.ours.get_u64(out));
                // Monotonic time begins when the guest does, on both sides.
                if ours.abs_diff(theirs) > 60_000_000_000 {
                    return Err(format!("the reference says it is {theirs}, ours {ours}"));
                }
                self.adopt(out, 8);
                Ok(())
            }
            "clock_res_get" => {
                let ours = self.ours.get_u64(out);
                if !(1..=10_000_000).contains(&ours) {
                    return Err(format!("a resolution of {ours} ns"));
                }
                self.adopt(out, 8);
                Ok(())
            }
            "random_get" => {
                let (at, len) = (call.args[0] as u32, call.args[1] as u32);
                if len >= 16 && self.ours.get(at, len) == before[at as usize..][..len as usize] {
                    return Err("no random bytes".to_string());
                }
                self.adopt(at, len);
                Ok(())
            }
            "fd_read" | "fd_pread" => {
                self.more_accesses |= self.ours.get_u32(out) == 0;
                Ok(())
            }
            "fd_readdir" => self.readdir(call, before, listing.unwrap_or_default()),
            "poll_oneoff" => self.events(call),
            _ => Ok(()),
        }
    }

    /// "Bytes between fields are zero; the reference leaves what was there."
    fn padding(&mut self, at: u32, len: u32) -> Result<(), String> {
        if self.ours.get(at, len).iter().any(|byte| *byte != 0) {
            return Err(format!("the bytes between fields at {at:#x} are not zero"));
        }
        self.adopt(at, len);
        Ok(())
    }

    /// Makes the reference's bytes ours.
    fn adopt(&mut self, at: u32, len: u32) {
        let bytes = self.ours.get(at, len);
        self.reference.put(at, &bytes);
    }

    /// "`dev` and `ino` are the host's; `ctim` is the time of the last change of status."
    fn filestat(&mut self, at: u32) -> Result<(), String> {
        for field in [at, at + 8, at + 56] {
            self.adopt(field, 8);
        }
        // "A directory's size is its file system's own."
        if self.ours.get(at + 16, 1) == [3] {
            self.adopt(at + 32, 8);
        }
        // It also reads a directory anew at every call.
        let accessed = self.keeps_access_times || self.more_accesses || self.ours.get(at + 16, 1) == [3];
        if accessed && NOW.contains(&self.reference.get_u64(at + 40)) {
            self.adopt(at + 40, 8);
        }
        // Both made their files at their own time.
        for field in [at + 40, at + 48] {
            let (theirs, ours) = (self.reference.get_u64(field), self.ours.get_u64(field));
            let now = NOW.contains(&theirs) && NOW.contains(&ours) && theirs.abs_diff(ours) < 60_000_000_000;
            if now || theirs >= LATEST && ours >= LATEST {
                self.adopt(field, 8);
            }
        }
        Ok(())
    }

    /// What a `fd_readdir` has to read from: a listing that was begun, or the directory as it is now.
    fn begin_listing(&mut self, call: &Call) -> Option<Vec<Entry>> {
        if call.name != "fd_readdir" {
            return None;
        }
        if call.args[3] != 0
            && let Some(begun) = self.listings.get(&call.args[0])
        {
            return Some(begun.clone());
        }
        listing(self.reference, call.args[0]).ok()
    }

    /// "Directories are read in the order of their names", and "reading from the start fixes the names".
    fn readdir(&mut self, call: &Call, before: &[u8], listing: Vec<Entry>) -> Result<(), String> {
        let (fd, at, len, cookie, out) =
            (call.args[0], call.args[1] as usize, call.args[2] as usize, call.args[3], call.args[4] as u32);
        let used = self.ours.get_u32(out) as usize;
        let mut expected = Vec::new();
        for (next, (name, kind)) in (1u64..).zip(&listing).skip(usize::try_from(cookie).unwrap_or(usize::MAX))
        {
            expected.extend(next.to_le_bytes());
            expected.extend([0; 8]);
            expected.extend((name.len() as u32).to_le_bytes());
            expected.extend([*kind, 0, 0, 0]);
            let inode = expected.len() - 16..expected.len() - 8;
            expected.extend(name);
            // The inode number is the host's.
            if let Some(found) = self.ours.get((at + inode.start) as u32, 8).get(..8) {
                expected[inode].copy_from_slice(found);
            }
        }
        let all = expected.len() < len;
        expected.truncate(len);
        let mut memory = before[at..at + len].to_vec();
        memory[..expected.len()].copy_from_slice(&expected);
        let found = self.ours.get(at as u32, len as u32);
        if used != expected.len() || found != memory {
            return Err(format!(
                "entries: expected {} bytes {memory:02x?}, ours {used} {found:02x?}",
                expected.len()
            ));
        }
        if all {
            self.listings.remove(&fd)
        } else {
            self.listings.insert(fd, listing)
        };
        self.reference.put(at as u32, &memory);
        self.adopt(out, 4);
        Ok(())
    }

    /// "All events that are there are told; the reference tells of a clock, and of a file that can be read, only if
    /// nothing else was there before it looked."
    fn events(&mut self, call: &Call) -> Result<(), String> {
        self.more_accesses = true;
        let (subscriptions, events, count, out) =
            (call.args[0] as u32, call.args[1] as u32, call.args[2] as u32, call.args[3] as u32);
        let list = |side: &mut dyn Side| -> Vec<Vec<u8>> {
            (0..side.get_u32(out)).map(|n| side.get(events + n * 32, 32)).collect()
        };
        let (theirs, ours) = (list(self.reference), list(self.ours));
        let differ = || Err(format!("events: the reference has {theirs:02x?}, ours {ours:02x?}"));
        let mut left = theirs.iter().peekable();
        for event in &ours {
            let mut same = event.clone();
            // A lone clock has one byte to read there.
            same[16] |= u8::from(count == 1 && event[10] == 0);
            if left.next_if(|theirs| **theirs == same).is_none() && event[10] == 2 {
                return differ();
            }
        }
        if left.next().is_some() || theirs.is_empty() {
            return differ();
        }
        let past = |s: Vec<u8>| s[8] != 0 || u64::from_le_bytes(s[24..32].try_into().unwrap()) <= 1;
        let ready = (0..count).filter(|n| past(self.ours.get(subscriptions + n * 48, 48))).count();
        if ours.len() != ready {
            return Err(format!("{ready} events are there, and ours are {ours:02x?}"));
        }
        self.adopt(events, count * 32);
        self.adopt(out, 4);
        Ok(())
    }

    /// Follows what happens to descriptors with a listing.
    fn note(&mut self, call: &Call) {
        match call.name {
            "fd_close" => drop(self.listings.remove(&call.args[0])),
            "fd_renumber" if call.args[0] != call.args[1] => match self.listings.remove(&call.args[0]) {
                Some(listing) => drop(self.listings.insert(call.args[1], listing)),
                None => drop(self.listings.remove(&call.args[1])),
            },
            _ => {}
        }
    }
}

/// The reference found a number that names no clock, flag, right or other thing of the parameter's type.
fn is_no_value(trap: &str) -> bool {
    ["Invalid enum value", "Invalid flag value", "Int conversion error"].iter().any(|why| trap.contains(why))
}

/// The names and types in a directory, the two dots first, then by name; or the error number.
pub fn listing(side: &mut dyn Side, fd: u64) -> Result<Vec<Entry>, u32> {
    const LEN: u32 = 0x10000;
    let (buffer, out) = (SCRATCH + 64, SCRATCH);
    match side.call(&call("fd_readdir", &[fd, u64::from(buffer), u64::from(LEN), 0, u64::from(out)])) {
        Answer::Errno(SUCCESS) => {}
        Answer::Errno(errno) => return Err(errno),
        other => panic!("{other:?}"),
    }
    let used = side.get_u32(out);
    assert!(used < LEN, "a directory too large for this test");
    let bytes = side.get(buffer, used);
    let (mut entries, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap()) as usize;
        entries.push((bytes[at + 24..][..len].to_vec(), bytes[at + 20]));
        at += 24 + len;
    }
    entries[2..].sort_unstable();
    Ok(entries)
}
