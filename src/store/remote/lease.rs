//! Leases on a service, made of objects.
//!
//! | key | what | who writes it |
//! |---|---|---|
//! | `leases/<key>/<seq>` | all who hold the lease; the last entry counts | who takes it or gives it back |
//! | `beats/<process>` | a number that grows while the process has leases | that process |
//!
//! Who holds a lease is changed by one more entry, made by create-if-absent, so of several that change it at a time one
//! succeeds and the others look again. The entries before it are removed; the last one never is. So an entry that was
//! made too late, in the place of one that is gone already, is found out by another look: it is not the last.
//!
//! A holder that is gone is left out of the next entry. On its own machine the system knows whether it is; elsewhere it
//! is one whose number has not grown for [`Timing::lapse`] on the clock of whoever waits for it. The holder itself does
//! not rely on its lease for longer than [`Timing::valid`] after it *began* to write the number, which is less. Then it
//! makes an entry of its own, as anyone else does; if it is still among the holders, nobody else was in between.
//! So clocks need not agree, only run at nearly the same speed. What this cannot prevent is that a request that was
//! sent in time is carried out much later; the logs of jobs are safe from it, see `job/log.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::leases::lock;
use super::super::{Created, Hold, Holder, Key, Sharing, StoreError};
use super::Service;
use super::process::{Process, nonce};

const LEASES: &str = "leases/";
const BEATS: &str = "beats/";
/// Version of the entries.
const FORMAT: u32 = 1;
/// Longest entry in bytes: some thousand holders.
const ENTRY_MAX: u64 = 1 << 20;
const BEAT_MAX: u64 = 1 << 10;
/// How often a change is tried while others are faster.
const TRIES: u32 = 300;
/// A request of a process that has just ended may still be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// What passes when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// The number grows so often.
    pub beat: Duration,
    /// The holder relies on its leases for so long.
    pub valid: Duration,
    /// Others take them from it after so long.
    pub lapse: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let [beat, valid, lapse] = [4, 14, 20].map(Duration::from_secs);
        Self { beat, valid, lapse }
    }
}

/// A clock that goes on while the machine sleeps.
pub(super) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The system's.
pub(super) fn system_clock() -> Clock {
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    Arc::new(move || Duration::try_from(rustix::time::clock_gettime(id)).unwrap_or_default())
}

#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    /// By which the writer knows its own.
    nonce: String,
    holders: Vec<Holding>,
}

/// One who holds a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holding {
    /// Of this one taking of it.
    id: String,
    shared: bool,
    process: Process,
}

#[derive(Serialize, Deserialize)]
struct Beat {
    count: u64,
    /// Milliseconds since 1970, to be shown.
    time: u64,
}

/// The leases of this process on one service.
pub(super) struct Leases {
    service: Arc<dyn Service>,
    process: Process,
    timing: Timing,
    clock: Clock,
    mine: Mutex<Mine>,
    watched: Mutex<HashMap<String, Watched>>,
    /// Held while the number is written.
    pulse: Mutex<Pulse>,
}

#[derive(Default)]
struct Mine {
    held: HashMap<String, Key>,
    /// Others may have these.
    lost: HashSet<String>,
    /// Given back, and the service does not know it yet.
    unreleased: Vec<(Key, String)>,
    /// When the last number that is known to be there began to be written.
    sent: Option<Duration>,
}

#[derive(Default)]
struct Pulse {
    count: u64,
    /// Leases that are held or being taken.
    users: usize,
    has_thread: bool,
}

/// What was seen of another holder.
struct Watched {
    sign: Option<Vec<u8>>,
    since: Duration,
    has_changed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Alive,
    Unknown,
    Gone,
}

/// What is to be done with the holders: nothing, if it is so already.
type Change<'a> = &'a mut dyn FnMut(Vec<Holding>) -> Result<Option<Vec<Holding>>, StoreError>;

impl Leases {
    pub fn new(service: Arc<dyn Service>, process: Process, timing: Timing, clock: Clock) -> Self {
        let (mine, watched, pulse) = Default::default();
        Self { service, process, timing, clock, mine, watched, pulse }
    }

    /// Takes a lease; does not wait.
    ///
    /// # Errors
    /// [`StoreError::Held`], and what the service reports.
    pub fn take(self: &Arc<Self>, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        let begun = self.begin()?;
        let mut gone = vec![];
        let id = match self.enter(key, sharing, &mut gone) {
            Ok(id) => id,
            Err(error) => {
                self.end();
                return Err(error);
            }
        };
        lock(&self.mine).held.insert(id.clone(), key.clone());
        let lease = Lease { leases: self.clone(), id, key: key.clone() };
        if (self.clock)() >= begun + self.timing.valid {
            // It took so long that others may have thought us gone.
            self.take_anew(&lease.id, key)?;
        }
        lease.check()?;
        for process in gone {
            // Nobody looks at it any more; if it lives after all, it makes it again.
            let _ = self.service.delete(&beat_key(&process)?);
        }
        Ok(Box::new(lease))
    }

    /// Becomes one of the holders, and tells by which id.
    fn enter(&self, key: &Key, sharing: Sharing, gone: &mut Vec<String>) -> Result<String, StoreError> {
        let (id, shared) = (nonce()?, sharing == Sharing::Shared);
        let entered = self.change(key, &mut |holders| {
            if holders.iter().any(|holding| holding.id == id) {
                return Ok(None);
            }
            let mut others = self.without_gone(key, holders, shared, gone)?;
            others.push(Holding { id: id.clone(), shared, process: self.process.clone() });
            Ok(Some(others))
        });
        match entered {
            Ok(()) => Ok(id),
            Err(held @ StoreError::Held { .. }) => Err(held),
            Err(error) => {
                // It may be there all the same.
                lock(&self.mine).unreleased.push((key.clone(), id));
                Err(error)
            }
        }
    }

    /// Who still has the lease, unless it cannot be had beside them.
    fn without_gone(
        &self,
        key: &Key,
        holders: Vec<Holding>,
        shared: bool,
        gone: &mut Vec<String>,
    ) -> Result<Vec<Holding>, StoreError> {
        let (mut stay, mut in_the_way) = (vec![], None::<(Holder, Verdict)>);
        for holding in holders {
            let excludes = !shared || !holding.shared;
            let verdict = if excludes { self.judge(&holding)? } else { Verdict::Alive };
            if verdict == Verdict::Gone {
                gone.push(holding.process.nonce);
                continue;
            }
            if excludes && in_the_way.as_ref().is_none_or(|(_, known)| *known == Verdict::Unknown) {
                in_the_way = Some((holding.process.holder(), verdict));
            }
            stay.push(holding);
        }
        match in_the_way {
            None => Ok(stay),
            Some((holder, verdict)) => Err(StoreError::Held {
                what: key.to_string(),
                holder: Some(holder),
                alive: verdict == Verdict::Alive,
            }),
        }
    }

    /// Whether a holder still is.
    fn judge(&self, holding: &Holding) -> Result<Verdict, StoreError> {
        if holding.process.nonce == self.process.nonce {
            return Ok(Verdict::Alive);
        }
        let is_gone = holding.process.is_gone();
        let (sign, wait) = match is_gone {
            Some(false) => return Ok(Verdict::Alive),
            Some(true) if !holding.shared => return Ok(Verdict::Gone),
            Some(true) => (None, ON_ITS_WAY),
            None => (self.beat_of(&holding.process.nonce)?, self.timing.lapse),
        };
        let (now, mut watched) = ((self.clock)(), lock(&self.watched));
        let Some(seen) = watched.get_mut(&holding.id) else {
            watched.insert(holding.id.clone(), Watched { sign, since: now, has_changed: false });
            return Ok(Verdict::Unknown);
        };
        if seen.sign != sign {
            *seen = Watched { sign, since: now, has_changed: is_gone.is_none() };
        } else if now.saturating_sub(seen.since) >= wait {
            watched.remove(&holding.id);
            return Ok(Verdict::Gone);
        }
        Ok(watched.get(&holding.id).map_or(Verdict::Unknown, |seen| {
            if seen.has_changed { Verdict::Alive } else { Verdict::Unknown }
        }))
    }

    fn beat_of(&self, process: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.service.get_at_most(&beat_key(process)?, BEAT_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody seems to hold the lease exclusively: to be shown. Writes nothing.
    pub fn is_held(&self, key: &Key) -> Result<bool, StoreError> {
        let Some((_, holders)) = self.last(key)? else { return Ok(false) };
        for holding in holders.iter().filter(|holding| !holding.shared) {
            let is_held = match holding.process.is_gone() {
                Some(is_gone) => !is_gone,
                None => self.beat_of(&holding.process.nonce)?.is_some_and(|bytes| self.is_fresh(&bytes)),
            };
            if is_held {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As far as clocks agree.
    fn is_fresh(&self, beat: &[u8]) -> bool {
        let written = serde_json::from_slice(beat).map_or(0, |Beat { time, .. }| time);
        now_ms().saturating_sub(written) < 2 * self.timing.lapse.as_millis() as u64
    }

    /// The last entry of a lease: its number, and who holds it.
    fn last(&self, key: &Key) -> Result<Option<(u64, Vec<Holding>)>, StoreError> {
        for _ in 0..TRIES {
            let Some(seq) = self.entries(key)?.pop() else { return Ok(None) };
            // If it is gone, there is a later one.
            if let Some(entry) = self.read(key, seq)? {
                return Ok(Some((seq, entry.holders)));
            }
        }
        Err(contended(key))
    }

    /// The numbers of its entries, ascending.
    fn entries(&self, key: &Key) -> Result<Vec<u64>, StoreError> {
        let dir = format!("{LEASES}{key}/");
        let seq = |found: &Key| found.as_str().strip_prefix(&dir)?.parse().ok();
        let mut entries: Vec<u64> = self.service.list(&dir)?.iter().filter_map(seq).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    fn read(&self, key: &Key, seq: u64) -> Result<Option<Entry>, StoreError> {
        let at = entry_key(key, seq)?;
        let bytes = match self.service.get_at_most(&at, ENTRY_MAX) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let entry: Entry =
            serde_json::from_slice(&bytes).map_err(|error| StoreError::corrupt(&at, error.to_string()))?;
        if entry.format > FORMAT {
            let (found, known) = (entry.format.into(), FORMAT.into());
            return Err(StoreError::NewerVersion { what: at.to_string(), found, known });
        }
        Ok(Some(entry))
    }

    /// Changes who holds the lease, with one more entry.
    fn change(&self, key: &Key, change: Change) -> Result<(), StoreError> {
        for nth in 0..TRIES {
            let found = self.last(key)?;
            let (last, holders) = found.unwrap_or_default();
            let Some(holders) = change(holders)? else { return Ok(()) };
            if !self.create(key, last + 1, holders)? {
                thread::sleep(Duration::from_millis((1 << nth.min(6)) * u64::from(nth > 0)));
                continue;
            }
            let entries = self.entries(key)?;
            if entries.last() == Some(&(last + 1)) {
                // One as a rule. What goes with the removal of many, such as a look at leftovers, is for sweeps.
                let mut before = entries.iter().filter(|seq| **seq <= last);
                return before.try_for_each(|seq| self.service.delete(&entry_key(key, *seq)?));
            }
            // Others have made later ones: with what ours says, or without, if it came too late. Either way it is past.
            self.service.delete(&entry_key(key, last + 1)?)?;
        }
        Err(contended(key))
    }

    /// Makes an entry, and tells whether it is ours.
    fn create(&self, key: &Key, seq: u64, holders: Vec<Holding>) -> Result<bool, StoreError> {
        let entry = Entry { format: FORMAT, nonce: nonce()?, holders };
        let at = entry_key(key, seq)?;
        let bytes =
            serde_json::to_vec(&entry).map_err(|error| StoreError::corrupt(&at, error.to_string()))?;
        let len = bytes.len() as u64;
        if len > ENTRY_MAX {
            return Err(StoreError::TooLarge { what: at.to_string(), len, max: ENTRY_MAX });
        }
        match self.service.create(&at, &bytes)? {
            Created::Yes => Ok(true),
            // A reply may have been lost, and the call repeated.
            Created::Exists => Ok(self.read(key, seq)?.is_some_and(|found| found.nonce == entry.nonce)),
        }
    }

    /// A lease is to be taken: from now on the number grows. Tells when it last did.
    fn begin(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let mut pulse = lock(&self.pulse);
        if !pulse.has_thread {
            let (leases, beat) = (Arc::downgrade(self), self.timing.beat);
            let spawned =
                thread::Builder::new().name("leases".into()).spawn(move || keep_beating(&leases, beat));
            spawned.map_err(|error| StoreError::from_io("keep", "a lease", error))?;
            pulse.has_thread = true;
        }
        let recent = |sent: &Duration| (self.clock)() < *sent + self.timing.valid / 2;
        let sent = lock(&self.mine).sent.filter(recent);
        let sent = sent.map_or_else(|| self.beat(&mut pulse), Ok)?;
        pulse.users += 1;
        Ok(sent)
    }

    /// One less is held or being taken.
    fn end(&self) {
        let mut pulse = lock(&self.pulse);
        pulse.users -= 1;
        if pulse.users == 0 && lock(&self.mine).unreleased.is_empty() {
            lock(&self.mine).sent = None;
            // If it stays, it does no harm.
            let _ = beat_key(&self.process.nonce).and_then(|key| self.service.delete(&key));
        }
    }

    /// Makes the number grow, and tells when it began to. If that comes late, takes the leases anew.
    fn beat(&self, pulse: &mut Pulse) -> Result<Duration, StoreError> {
        let begun = (self.clock)();
        pulse.count += 1;
        let beat = serde_json::to_vec(&Beat { count: pulse.count, time: now_ms() }).unwrap_or_default();
        self.service.put(&beat_key(&self.process.nonce)?, &beat)?;
        if !self.is_valid() {
            let held: Vec<_> =
                lock(&self.mine).held.iter().map(|(id, key)| (id.clone(), key.clone())).collect();
            for (id, key) in held {
                self.take_anew(&id, &key)?;
            }
        }
        lock(&self.mine).sent = Some(begun);
        Ok(begun)
    }

    /// Makes an entry with the same holders, which shows that we are among them still.
    fn take_anew(&self, id: &str, key: &Key) -> Result<(), StoreError> {
        let (mut is_ours, mut tried) = (true, false);
        self.change(key, &mut |holders| {
            is_ours = holders.iter().any(|holding| holding.id == id);
            // Once is enough: if another one was faster and we are in its entry, who wanted to leave us out was not.
            let again = is_ours && !std::mem::replace(&mut tried, true);
            Ok(again.then_some(holders))
        })?;
        if !is_ours {
            lock(&self.mine).lost.insert(id.to_string());
        }
        Ok(())
    }

    /// Nobody can have taken a lease from us.
    fn is_valid(&self) -> bool {
        lock(&self.mine).sent.is_some_and(|sent| (self.clock)() < sent + self.timing.valid)
    }

    /// What is done from time to time while there are leases.
    pub fn tick(&self) -> Result<(), StoreError> {
        let unreleased = std::mem::take(&mut lock(&self.mine).unreleased);
        for (key, id) in unreleased {
            self.release(&key, &id);
        }
        let mut pulse = lock(&self.pulse);
        if pulse.users > 0 { self.beat(&mut pulse).map(drop) } else { Ok(()) }
    }

    fn release(&self, key: &Key, id: &str) {
        let released = self.change(key, &mut |mut holders| {
            let before = holders.len();
            holders.retain(|holding| holding.id != id);
            Ok((holders.len() < before).then_some(holders))
        });
        if released.is_err() {
            lock(&self.mine).unreleased.push((key.clone(), id.to_string()));
        }
    }
}

/// Until there are no leases any more, or nobody who could take one.
fn keep_beating(leases: &Weak<Leases>, beat: Duration) {
    loop {
        thread::sleep(beat);
        let Some(leases) = leases.upgrade() else { return };
        // It fails again when it matters: where the leases are relied on.
        let _ = leases.tick();
    }
}

struct Lease {
    leases: Arc<Leases>,
    id: String,
    key: Key,
}

impl Hold for Lease {
    fn check(&self) -> Result<(), StoreError> {
        if !self.leases.is_valid() {
            self.leases.beat(&mut lock(&self.leases.pulse))?;
        }
        // In this order: what is lost is known before the rest counts as valid again.
        let is_valid = self.leases.is_valid();
        if lock(&self.leases.mine).lost.contains(&self.id) {
            return Err(StoreError::Lapsed { what: self.key.to_string() });
        }
        if is_valid { Ok(()) } else { Err(too_slow(&self.key)) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut mine = lock(&self.leases.mine);
        mine.held.remove(&self.id);
        mine.lost.remove(&self.id);
        drop(mine);
        self.leases.release(&self.key, &self.id);
        self.leases.end();
    }
}

fn entry_key(key: &Key, seq: u64) -> Result<Key, StoreError> {
    Key::new(format!("{LEASES}{key}/{seq:016}"))
}

fn beat_key(process: &str) -> Result<Key, StoreError> {
    Key::new(format!("{BEATS}{process}"))
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

fn too_slow(key: &Key) -> StoreError {
    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "the store takes too long to answer");
    StoreError::from_io("keep", key, source)
}

fn contended(key: &Key) -> StoreError {
    let source = std::io::Error::new(std::io::ErrorKind::WouldBlock, "others change it all the time");
    StoreError::from_io("take", key, source)
}
