//! The threads that bring pages: this one answers who waits for them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use super::linux;
use super::near::Near;
use super::nodes::find;
use super::prefetch;
use super::region::Region;
use super::{ChunkSource, Damage, RUNS_MAX, Restoring, Run};
use crate::digest::ChunkId;
use crate::machine::dirty::Extent;
use crate::machine::dirty::linux::Uffd;
use crate::snapshot::{Known, PAGE, Tree, TreeError};
use crate::wasi::{Presence, Registration};

/// For how long the threads are waited for when the guest is gone.
const GRACE: Duration = Duration::from_secs(1);

/// Whether the engine can stop a thread that is refused access by the instruction at this address.
pub(super) type MayTrap = Box<dyn Fn(u64) -> bool + Send + Sync>;

/// Brings the pages of a guest's memories. Dropping it ends its threads; the memories may go then.
pub(in crate::machine) struct Pager {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    rest: Option<PipeReader>,
}

/// What functions of the host are given of it.
#[derive(Clone)]
pub(in crate::machine) struct Handle(Arc<Shared>);

impl Handle {
    /// A page that was needed is damaged: the guest must not go on.
    pub fn struck(&self) -> Option<anyhow::Error> {
        self.0.struck.load(Ordering::Acquire).then(|| self.0.desk().touched.clone()).flatten().map(Into::into)
    }

    /// Waits until all pages are there. What is damaged is found out with the page.
    pub fn wait_for_all(&self) {
        let _ = self.0.wait(&|desk| desk.complete);
    }

    /// Ends the waiting for pages that do not come. Is to be called now and then while the guest runs.
    pub fn look(&self) {
        let shared = &*self.0;
        let late = |waiting: &Waiting| {
            !shared.regions[waiting.page.0].is_there(waiting.page.1)
                && waiting.since.elapsed() > shared.patience
        };
        let late: Vec<PageOf> = shared.desk().waiting.iter().filter(|w| late(w)).map(|w| w.page).collect();
        for (memory, page) in late {
            let cause = shared.no_answer();
            let start = page * PAGE as u64;
            let known = lock(&shared.regions[memory].tree).page(page);
            let error = match known {
                Known::Page(at) | Known::Behind(at) => at.missing(cause),
                Known::Zero => TreeError::Taker { start, cause },
            };
            shared.damaged((memory, page), error);
        }
    }
}

/// What the threads share.
pub(super) struct Shared {
    pub regions: Vec<Region>,
    pub source: Arc<dyn ChunkSource>,
    /// For how long a page is waited for.
    patience: Duration,
    /// Held by who puts pages there. True: the memories are gone.
    gate: RwLock<bool>,
    pub stop: AtomicBool,
    desk: Mutex<Desk>,
    changed: Condvar,
    /// Pages that are being brought, by so many threads.
    pub busy: AtomicUsize,
    /// Faults so far.
    pub faults: AtomicUsize,
    /// Is woken by each.
    pub helper: OnceLock<Thread>,
    /// A damaged page was needed.
    struck: AtomicBool,
    stuck: Arc<dyn Fn(anyhow::Error) + Send + Sync>,
    may_trap: MayTrap,
    bell: PipeWriter,
}

/// A page of one of the memories.
type PageOf = (usize, u64);

#[derive(Default)]
struct Desk {
    /// Threads that have touched a page that was not there.
    waiting: Vec<Waiting>,
    /// What host functions ask for.
    asked: VecDeque<(usize, Range<u64>)>,
    damaged: BTreeMap<PageOf, Damage>,
    /// The first damage that was found.
    found: Option<Damage>,
    /// The first damaged page that was needed.
    touched: Option<Damage>,
    /// The first pages that were touched, in that order.
    order: Vec<PageOf>,
    /// The trees, when all nodes have been read.
    trees: Option<Vec<Tree>>,
    /// There will be none.
    no_trees: bool,
    /// All pages are there but those that are damaged.
    complete: bool,
    /// Goes as soon as nothing is missing.
    registered: Vec<Registration>,
}

struct Waiting {
    page: PageOf,
    thread: u32,
    since: Instant,
}

impl Pager {
    /// For memories that are ready. Nothing is brought yet.
    pub(super) fn new(regions: Vec<Region>, how: &Restoring, may_trap: MayTrap) -> io::Result<Self> {
        let (rest, bell) = io::pipe()?;
        let shared = Shared {
            regions,
            source: how.source.clone(),
            patience: how.patience,
            gate: RwLock::new(false),
            stop: AtomicBool::new(false),
            desk: Mutex::default(),
            changed: Condvar::new(),
            struck: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
            helper: OnceLock::new(),
            stuck: how.stuck.clone(),
            may_trap,
            bell,
        };
        Ok(Self { shared: Arc::new(shared), threads: vec![], rest: Some(rest) })
    }

    /// For functions of the host.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Where the memories are, with what watches them.
    pub fn watched(&self) -> Vec<(Arc<Uffd>, Extent)> {
        let watched = |region: &Region| {
            let len = region.pages * PAGE as u64;
            (region.uffd.clone(), Extent { addr: region.addr, len, made: 0 })
        };
        self.shared.regions.iter().map(watched).collect()
    }

    /// Begins to bring pages: first all that is touched, then these, then the others.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(&mut self, first: Vec<Run>) -> io::Result<()> {
        let Some(rest) = self.rest.take() else { return Ok(()) };
        for region in self.shared.regions.iter().filter(|region| !region.is_whole()) {
            let place = region.place(0..region.pages);
            let place = place.start as usize..place.end as usize;
            let registration = Registration::new(place, self.shared.clone());
            self.shared.desk().registered.push(registration);
        }
        let shared = self.shared.clone();
        let spawn = |name: &str| thread::Builder::new().name(name.to_string());
        self.threads.push(spawn("pager").spawn(move || shared.answer(rest))?);
        let shared = self.shared.clone();
        self.threads.push(spawn("prefetch").spawn(move || prefetch::run(&shared, first))?);
        Ok(())
    }

    /// Of these pages of a memory, leaves those that are there: the others are as they were.
    pub fn keep_present(&self, memory: usize, pages: &mut Vec<u64>) {
        let Some(region) = self.shared.regions.get(memory) else { return };
        // Nobody puts a page there meanwhile: one that was written to is known to be there.
        let _gate = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| region.is_there(*page));
    }

    /// The trees of the memories, after waiting for them; they are given once.
    ///
    /// # Errors
    /// A node is damaged.
    pub fn take_trees(&self) -> Result<Option<Vec<Tree>>> {
        self.shared.wait(&|desk| desk.no_trees || desk.trees.is_some())?;
        Ok(self.shared.desk().trees.take())
    }

    /// Waits until all pages are there.
    ///
    /// # Errors
    /// One is damaged.
    pub fn wait_for_all(&self) -> Result<()> {
        self.shared.wait(&|desk| desk.complete)
    }

    /// The first pages that were touched before they were there, in that order.
    pub fn order(&self) -> Vec<Run> {
        let run = |(memory, page): &PageOf| Run { memory: *memory, pages: *page..page + 1 };
        self.shared.desk().order.iter().map(run).collect()
    }

    /// Some page is damaged, be it needed or not.
    pub fn found(&self) -> Option<anyhow::Error> {
        self.shared.desk().found.clone().map(anyhow::Error::new)
    }

    /// Whether nothing is missing any more.
    pub fn is_whole(&self) -> bool {
        let desk = self.shared.desk();
        desk.complete && desk.found.is_none() && self.shared.regions.iter().all(Region::is_whole)
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // From here on nobody puts anything there.
        *self.shared.gate.write().unwrap_or_else(PoisonError::into_inner) = true;
        let registered = std::mem::take(&mut self.shared.desk().registered);
        drop(registered);
        self.shared.changed.notify_all();
        let _ = (&self.shared.bell).write(&[0]);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        let until = Instant::now() + GRACE;
        for thread in self.threads.drain(..) {
            // One that waits for a store that does not answer ends when it does.
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_micros(200));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    fn no_answer(&self) -> anyhow::Error {
        anyhow::anyhow!("the store has not answered for {} s", self.patience.as_secs())
    }

    /// Whether the guest is gone.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Answers faults and questions, until the guest is gone.
    fn answer(&self, rest: PipeReader) {
        let (mut rest, mut near) = (rest, Near::default());
        while !self.is_over() {
            let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&rest, PollFlags::IN)];
            fds.extend(
                self.regions
                    .iter()
                    .map(|region| PollFd::from_borrowed_fd(region.uffd.as_fd(), PollFlags::IN)),
            );
            let polled = poll(&mut fds, None);
            let rung = fds[0].revents().contains(PollFlags::IN);
            drop(fds);
            if polled.is_err() {
                continue;
            }
            if rung {
                let _ = rest.read(&mut [0; 64]);
            }
            for (memory, region) in self.regions.iter().enumerate() {
                while let Ok(Some(fault)) = linux::next_fault(&region.uffd) {
                    if let Some(page) = region.page_at(fault.addr) {
                        self.fault((memory, page), fault.thread, &mut near);
                    }
                }
            }
            loop {
                let Some((memory, pages)) = self.desk().asked.pop_front() else { break };
                // Those that somebody brings already come without us.
                let missing = |page: &u64| !self.regions[memory].is_there(*page);
                pages.filter(missing).for_each(|page| self.bring_with_neighbours((memory, page), &mut near));
            }
        }
    }

    /// A thread waits for a page.
    fn fault(&self, page: PageOf, thread: u32, near: &mut Near) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        if let Some(helper) = self.helper.get() {
            helper.unpark();
        }
        {
            let mut desk = self.desk();
            if let Some(damage) = desk.damaged.get(&page).cloned() {
                drop(desk);
                return self.strike(page, thread, damage);
            }
            desk.waiting.retain(|waiting| !self.regions[waiting.page.0].is_there(waiting.page.1));
            desk.waiting.push(Waiting { page, thread, since: Instant::now() });
            if desk.order.len() < RUNS_MAX {
                desk.order.push(page);
            }
        }
        self.bring_with_neighbours(page, near);
    }

    /// Brings a page, and those around it that are like it, unless somebody else does already.
    fn bring_with_neighbours(&self, (memory, page): PageOf, near: &mut Near) {
        let region = &self.regions[memory];
        if region.is_there(page) {
            return region.wake(page);
        }
        let known = match find(&region.tree, page, &*self.source) {
            Ok(known) => known,
            Err(error) => return self.damaged((memory, page), error),
        };
        self.busy.fetch_add(1, Ordering::SeqCst);
        if region.claim(page) {
            let around = near.of((memory, page));
            let mut pages = vec![];
            {
                let tree = lock(&region.tree);
                for other in around.start..around.end.min(region.pages) {
                    if other == page {
                        pages.push((page, known));
                        continue;
                    }
                    let found = tree.page(other);
                    let alike = matches!(
                        (known, found),
                        (Known::Page(_), Known::Page(_)) | (Known::Zero, Known::Zero)
                    );
                    if alike && region.claim(other) {
                        pages.push((other, found));
                    }
                }
            }
            self.bring(memory, &pages);
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    /// Brings pages of a memory, which are claimed.
    pub fn bring(&self, memory: usize, pages: &[(u64, Known)]) {
        if self.try_bring(memory, pages).is_ok() {
            return;
        }
        // One of them cannot be had: the others can.
        for page in pages.iter().filter(|(page, _)| !self.regions[memory].is_there(*page)) {
            if let Err(error) = self.try_bring(memory, std::slice::from_ref(page)) {
                self.damaged((memory, page.0), error);
            }
        }
    }

    fn try_bring(&self, memory: usize, pages: &[(u64, Known)]) -> Result<(), TreeError> {
        let (mut chunks, mut zeros) = (vec![], vec![]);
        for (page, known) in pages {
            match known {
                Known::Page(at) => chunks.push((*page, *at)),
                Known::Zero | Known::Behind(_) => zeros.push(*page),
            }
        }
        if !zeros.is_empty() {
            self.install(memory, &zeros, &vec![0; zeros.len() * PAGE])?;
        }
        let ids: Vec<ChunkId> = chunks.iter().map(|(_, at)| at.id()).collect();
        let take = |range: Range<usize>, bytes: &[u8]| {
            let these = chunks.get(range).context("chunks that were not asked for")?;
            ensure!(bytes.len() == these.len() * PAGE, "they are no pages");
            these.iter().zip(bytes.chunks(PAGE)).try_for_each(|((_, at), bytes)| at.check_page(bytes))?;
            let pages: Vec<u64> = these.iter().map(|(page, _)| *page).collect();
            Ok(self.install(memory, &pages, bytes)?)
        };
        if let Err(error) = self.source.read_many(&ids, 1, &take) {
            return Err(match (error.downcast::<TreeError>(), chunks.first()) {
                (Ok(error), _) => error,
                (Err(error), Some((_, at))) => at.missing(error),
                (Err(cause), None) => TreeError::Taker { start: 0, cause },
            });
        }
        // In this order: who waits has looked before, or is told.
        drop(self.desk());
        self.changed.notify_all();
        Ok(())
    }

    /// Puts pages there, with the bytes of one after the other; none if the guest is gone.
    fn install(&self, memory: usize, pages: &[u64], bytes: &[u8]) -> Result<(), TreeError> {
        let over = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if *over {
            return Ok(());
        }
        let start = pages.first().map_or(0, |page| page * PAGE as u64);
        let put = self.regions[memory].install(pages, bytes);
        put.map_err(|error| TreeError::Taker { start, cause: error.into() })
    }

    /// A run of pages is zeros, and comes by itself from now on.
    pub fn release(&self, memory: usize, pages: Range<u64>) -> io::Result<()> {
        let over = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if *over { Ok(()) } else { self.regions[memory].release(pages) }
    }

    /// A page cannot be had: whoever waits for it is stopped.
    pub fn damaged(&self, page: PageOf, error: TreeError) {
        let damage = Damage::new(page.0, error);
        let waiting = {
            let mut desk = self.desk();
            desk.found.get_or_insert_with(|| damage.clone());
            desk.damaged.insert(page, damage.clone());
            let (these, others) = std::mem::take(&mut desk.waiting).into_iter().partition(|w| w.page == page);
            desk.waiting = others;
            let these: Vec<Waiting> = these;
            these
        };
        self.changed.notify_all();
        for waiting in waiting {
            self.strike(page, waiting.thread, damage.clone());
        }
    }

    /// Something that no page is named by is damaged.
    pub fn note(&self, damage: Damage) {
        self.desk().found.get_or_insert(damage);
    }

    /// Stops the thread that waits for a page that cannot be had.
    fn strike(&self, (memory, page): PageOf, thread: u32, damage: Damage) {
        self.touch(&mut self.desk(), damage.clone());
        self.changed.notify_all();
        let region = &self.regions[memory];
        let compiled = instruction(thread).is_some_and(|at| (self.may_trap)(at));
        if compiled && region.forbid(page).is_ok() {
            return region.wake(page);
        }
        (self.stuck)(damage.into());
    }

    /// A damaged page is needed.
    fn touch(&self, desk: &mut Desk, damage: Damage) {
        desk.touched.get_or_insert(damage);
        self.struck.store(true, Ordering::Release);
    }

    /// All nodes have been read; without trees if some are damaged.
    pub fn set_trees(&self, trees: Option<Vec<Tree>>) {
        let mut desk = self.desk();
        (desk.no_trees, desk.trees) = (trees.is_none(), trees);
        drop(desk);
        self.changed.notify_all();
    }

    /// All pages have been brought.
    pub fn set_complete(&self) {
        let mut desk = self.desk();
        desk.complete = true;
        let whole = self.regions.iter().all(Region::is_whole);
        let registered = if whole { std::mem::take(&mut desk.registered) } else { vec![] };
        drop(desk);
        drop(registered);
        self.changed.notify_all();
    }

    /// Waits for something to come.
    fn wait(&self, there: &dyn Fn(&Desk) -> bool) -> Result<()> {
        let mut desk = self.desk();
        loop {
            if let Some(found) = &desk.found {
                return Err(found.clone().into());
            }
            if there(&desk) {
                return Ok(());
            }
            let waited = self.changed.wait_timeout(desk, self.patience);
            let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return Err(self.no_answer());
            }
            desk = now;
        }
    }
}

impl Presence for Shared {
    fn bring(&self, start: usize, len: usize) -> bool {
        let Some(memory) = self.regions.iter().position(|r| r.page_at(start as u64).is_some()) else {
            return true;
        };
        let region = &self.regions[memory];
        let end = (start as u64 - region.addr + len as u64).div_ceil(PAGE as u64);
        let pages = (start as u64 - region.addr) / PAGE as u64..end.min(region.pages);
        let missing = |page: &u64| !region.is_there(*page);
        let Some(first) = pages.clone().find(missing) else { return true };
        let mut desk = self.desk();
        desk.asked.push_back((memory, first..pages.end));
        let _ = (&self.bell).write(&[0]);
        let mut at = first;
        loop {
            // All before it are there.
            let Some(next) = (at..pages.end).find(missing) else { return true };
            at = next;
            if let Some(damage) = desk.damaged.range((memory, at)..(memory, pages.end)).next() {
                let damage = damage.1.clone();
                self.touch(&mut desk, damage);
                return false;
            }
            if self.is_over() {
                return false;
            }
            let waited = self.changed.wait_timeout(desk, self.patience);
            let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            desk = now;
            if timeout.timed_out() && missing(&at) {
                let error = TreeError::Taker { start: at * PAGE as u64, cause: self.no_answer() };
                self.touch(&mut desk, Damage::new(memory, error));
                return false;
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of the instruction at which a thread of this process waits for a page.
fn instruction(thread: u32) -> Option<u64> {
    let state = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?;
    let mut fields = state.split_whitespace();
    // No call of the system, then the stack and the instruction.
    (fields.next()? == "-1").then_some(())?;
    u64::from_str_radix(fields.nth(1)?.strip_prefix("0x")?, 16).ok()
}
