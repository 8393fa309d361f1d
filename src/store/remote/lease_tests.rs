//! Leases of several processes on one service: simulated, with a clock of their own.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::{Created, Hold, Key, Memory, Sharing, Store, StoreError, Upload, conformance};
use super::lease::{Leases, Timing};
use super::process::Process;
use super::{Remote, Service};

type Interruption = Box<dyn FnMut(&'static str)>;

thread_local! {
    /// What happens before each operation of a service.
    static BEFORE: RefCell<Option<Interruption>> = const { RefCell::new(None) };
}

/// Does this before each operation of this thread from now on, which `then` makes.
fn interrupted<T>(by: impl FnMut(&'static str) + 'static, then: impl FnOnce() -> T) -> T {
    let former = BEFORE.replace(Some(Box::new(by)));
    let result = then();
    BEFORE.replace(former);
    result
}

fn before(operation: &'static str) {
    // Taken out, so that what it does is not interrupted as well.
    let Some(mut by) = BEFORE.take() else { return };
    by(operation);
    BEFORE.replace(Some(by));
}

/// A service in memory, between whose operations other things happen.
#[derive(Clone, Default)]
struct InMemory {
    objects: Memory,
    /// The next objects that are made so, and told as an error or as having been there.
    failing: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    /// Replaces what is there, whatever the condition.
    heedless: bool,
}

fn counts_down(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Service for InMemory {
    fn describe(&self) -> String {
        "memory".into()
    }
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        before("put");
        self.objects.put(key, bytes)
    }
    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        self.objects.upload()
    }
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        before("create");
        if self.heedless {
            return self.objects.put(key, bytes).map(|()| Created::Yes);
        }
        let created = self.objects.create(key, bytes)?;
        if counts_down(&self.failing) {
            return Err(StoreError::from_io("write", key, std::io::ErrorKind::TimedOut.into()));
        }
        if counts_down(&self.lost) { Ok(Created::Exists) } else { Ok(created) }
    }
    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        before("get");
        self.objects.get(key)
    }
    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.objects.get_range(key, range)
    }
    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        before("get");
        let bytes = self.objects.get(key)?;
        let start = bytes.len() - bytes.len().min(usize::try_from(max).unwrap_or(usize::MAX));
        Ok((bytes.len() as u64, bytes[start..].to_vec()))
    }
    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        self.objects.size(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        before("list");
        self.objects.list(prefix)
    }
    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        self.objects.names(dir)
    }
    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        before("delete");
        self.objects.delete(key)
    }
}

const TIMING: Timing =
    Timing { beat: Duration::from_secs(4), valid: Duration::from_secs(14), lapse: Duration::from_secs(20) };

/// Machines on one service.
#[derive(Clone, Default)]
struct World {
    service: InMemory,
    seconds: Arc<AtomicU64>,
}

impl World {
    fn process(&self, name: &str) -> Arc<Leases> {
        let seconds = self.seconds.clone();
        let clock = Arc::new(move || Duration::from_secs(seconds.load(Ordering::SeqCst)));
        Arc::new(Leases::new(Arc::new(self.service.clone()), Process::elsewhere(name), TIMING, clock))
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn key() -> Key {
    Key::new("jobs/x").unwrap()
}

fn take(process: &Arc<Leases>, sharing: Sharing) -> Option<Box<dyn Hold>> {
    match process.take(&key(), sharing) {
        Ok(lease) => Some(lease),
        Err(StoreError::Held { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

use Sharing::{Exclusive, Shared};

#[test]
fn a_store_on_a_service_conforms() {
    conformance::all(&Remote::open(Arc::new(InMemory::default())).unwrap());
}

#[test]
fn a_store_is_made_once_and_not_among_other_things() {
    let service = InMemory::default();
    let existing = Remote::existing(Arc::new(service.clone())).err();
    assert!(matches!(existing, Some(StoreError::NotFound { .. })), "{existing:?}");
    let store = Remote::open(Arc::new(service.clone())).unwrap();
    store.put(&key(), b"x").unwrap();
    let again = Remote::open(Arc::new(service.clone())).unwrap();
    assert_eq!(again.get(&key()).unwrap(), b"x");
    assert_eq!(service.objects.list("").unwrap().len(), 2, "the format and this");
    service.objects.put(&Key::new("format").unwrap(), b"wasm-ckpt store\nformat 2\n").unwrap();
    let newer = Remote::open(Arc::new(service.clone())).err();
    assert!(matches!(newer, Some(StoreError::NewerVersion { found: 2, .. })), "{newer:?}");
    service.objects.delete(&Key::new("format").unwrap()).unwrap();
    let other = Remote::open(Arc::new(service)).err();
    assert!(matches!(other, Some(StoreError::NotAStore { .. })), "{other:?}");
}

#[test]
fn several_make_a_store_at_a_time() {
    for _ in 0..20 {
        let service = InMemory::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Remote::open(Arc::new(service.clone())).unwrap();
                    store.put(&key(), b"x").unwrap();
                });
            }
        });
    }
}

#[test]
fn a_service_that_ignores_conditions_is_no_store() {
    let refused = Remote::open(Arc::new(InMemory { heedless: true, ..InMemory::default() })).err();
    assert!(matches!(refused, Some(StoreError::Unsafe { .. })), "{refused:?}");
}

#[test]
fn processes_exclude_each_other_and_leave_little() {
    let world = World::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| world.process(name));
    let held = take(&a, Exclusive).unwrap();
    assert!(take(&b, Exclusive).is_none() && take(&b, Shared).is_none() && take(&a, Shared).is_none());
    assert!(b.is_held(&key()).unwrap());
    drop(held);
    assert!(!b.is_held(&key()).unwrap());
    let (one, two) = (take(&b, Shared).unwrap(), take(&c, Shared).unwrap());
    assert!(take(&a, Exclusive).is_none());
    one.check().unwrap();
    drop((one, two));
    drop(take(&a, Exclusive).unwrap());
    let left = world.service.objects.list("").unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn who_stands_still_loses_its_lease_and_knows() {
    let world = World::default();
    let (a, b) = (world.process("a"), world.process("b"));
    let held = take(&a, Exclusive).unwrap();
    world.pass(1000);
    // Nobody knows how long it has been so.
    assert!(take(&b, Exclusive).is_none());
    world.pass(19);
    assert!(take(&b, Exclusive).is_none());
    world.pass(1);
    let theirs = take(&b, Exclusive).unwrap();
    assert!(matches!(held.check(), Err(StoreError::Lapsed { .. })));
    assert!(matches!(held.check(), Err(StoreError::Lapsed { .. })), "it stays so");
    drop(held);
    theirs.check().unwrap();
    assert!(take(&a, Exclusive).is_none());
}

#[test]
fn who_stood_still_and_was_not_missed_goes_on() {
    let world = World::default();
    let (a, b) = (world.process("a"), world.process("b"));
    let held = take(&a, Exclusive).unwrap();
    assert!(take(&b, Exclusive).is_none());
    world.pass(19);
    held.check().unwrap();
    world.pass(2);
    assert!(take(&b, Exclusive).is_none(), "who waits begins to wait anew");
    world.pass(1000);
    held.check().unwrap();
    assert!(take(&b, Exclusive).is_none());
}

#[test]
fn who_gives_signs_of_life_keeps_its_lease_and_is_known_to_live() {
    let world = World::default();
    let (a, b) = (world.process("a"), world.process("b"));
    let _held = take(&a, Exclusive).unwrap();
    let is_alive = || match b.take(&key(), Exclusive).err() {
        Some(StoreError::Held { alive, holder, .. }) => {
            assert_eq!(holder.unwrap().host, "host-a");
            alive
        }
        other => panic!("{other:?}"),
    };
    assert!(!is_alive());
    for _ in 0..20 {
        world.pass(4);
        a.tick().unwrap();
        assert!(is_alive());
    }
    assert!(b.is_held(&key()).unwrap());
}

#[test]
fn an_entry_that_comes_too_late_gives_nothing() {
    let world = World::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| world.process(name));
    drop(take(&c, Exclusive));
    let (mut done, theirs) = (false, Arc::new(std::sync::Mutex::new(None)));
    let kept = theirs.clone();
    let ours = interrupted(
        move |operation| {
            if operation == "create" && !std::mem::replace(&mut done, true) {
                // The entry that was the last one is gone, and the next as well.
                for _ in 0..3 {
                    drop(take(&b, Exclusive).unwrap());
                }
                *kept.lock().unwrap() = Some(take(&b, Exclusive).unwrap());
            }
        },
        || take(&a, Exclusive),
    );
    assert!(ours.is_none(), "two have it");
    theirs.lock().unwrap().take().unwrap().check().unwrap();
    drop(take(&a, Exclusive).unwrap());
}

#[test]
fn who_is_slow_to_take_it_does_not_rely_on_it() {
    let world = World::default();
    let (a, b) = (world.process("a"), world.process("b"));
    drop(take(&b, Exclusive));
    let (of_a, elsewhere, theirs) = (a.clone(), world.clone(), Arc::new(std::sync::Mutex::new(None)));
    let kept = theirs.clone();
    let ours = interrupted(
        move |operation| {
            // The entry is made, and was seen to be the last one.
            if operation == "delete" && kept.lock().unwrap().is_none() {
                assert!(take(&b, Exclusive).is_none());
                elsewhere.pass(20);
                *kept.lock().unwrap() = take(&b, Exclusive);
                // The signs of life go on.
                of_a.tick().unwrap();
            }
        },
        || a.take(&key(), Exclusive).err(),
    );
    assert!(matches!(ours, Some(StoreError::Lapsed { .. })), "{ours:?}");
    theirs.lock().unwrap().take().unwrap().check().unwrap();
}

#[test]
fn a_lost_reply_loses_no_lease_and_leaves_none() {
    let world = World::default();
    let (a, b) = (world.process("a"), world.process("b"));
    world.service.lost.store(1, Ordering::SeqCst);
    drop(take(&a, Exclusive).expect("its own entry"));
    drop(take(&b, Exclusive).unwrap());
    // Made, and told as an error: nobody has the lease, and after a while that is so.
    world.service.failing.store(1, Ordering::SeqCst);
    assert!(matches!(a.take(&key(), Exclusive), Err(StoreError::Io { .. })));
    assert!(take(&b, Exclusive).is_none());
    a.tick().unwrap();
    let held = take(&b, Exclusive).unwrap();
    // One that is not given back is, later.
    world.service.failing.store(1, Ordering::SeqCst);
    drop(held);
    b.tick().unwrap();
    drop(take(&a, Exclusive).unwrap());
}

#[test]
fn damaged_entries_are_told() {
    let world = World::default();
    let entry = Key::new("leases/jobs/x/0000000000000001").unwrap();
    world.service.objects.put(&entry, b"{").unwrap();
    let refused = world.process("a").take(&key(), Exclusive).err();
    assert!(matches!(refused, Some(StoreError::Corrupt { .. })), "{refused:?}");
    world.service.objects.put(&entry, br#"{"format":2,"nonce":"","holders":[]}"#).unwrap();
    let refused = world.process("a").take(&key(), Exclusive).err();
    assert!(matches!(refused, Some(StoreError::NewerVersion { found: 2, .. })), "{refused:?}");
}

/// Processes do things at random, are interrupted by others between any two operations of the service, and stand still.
#[test]
fn no_two_rely_on_what_excludes() {
    let (mut held, mut lapsed) = (0, 0);
    for seed in 0..1000 {
        let (more_held, more_lapsed) = Chaos::new(seed).run();
        held += more_held;
        lapsed += more_lapsed;
    }
    println!("{held} leases taken, {lapsed} lapsed");
    assert!(held > 1000 && lapsed > 100, "{held} leases taken, {lapsed} lapsed");
}

struct Chaos {
    world: World,
    random: Cell<u64>,
    actors: Vec<Actor>,
    depth: Cell<u32>,
    taken: Cell<u32>,
    lapsed: Cell<u32>,
}

struct Actor {
    leases: Arc<Leases>,
    held: RefCell<Option<(Sharing, Box<dyn Hold>)>>,
    busy: Cell<bool>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let world = World::default();
        let actor = |name: &str| Actor {
            leases: world.process(name),
            held: RefCell::default(),
            busy: Cell::new(false),
        };
        let actors = ["a", "b", "c", "d"].map(actor).into();
        let random = Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (depth, taken, lapsed) = Default::default();
        Self { world, random, actors, depth, taken, lapsed }
    }

    fn below(&self, limit: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x >> 20) % limit
    }

    fn run(self) -> (u32, u32) {
        let chaos = std::rc::Rc::new(self);
        for _ in 0..80 {
            let inner = chaos.clone();
            interrupted(move |_| inner.interrupt(), || chaos.act());
            chaos.check();
        }
        // What is still held is given back by processes that nobody interrupts.
        chaos.actors.iter().for_each(|actor| drop(actor.held.take()));
        (chaos.taken.get(), chaos.lapsed.get())
    }

    fn interrupt(self: &std::rc::Rc<Self>) {
        if self.below(4) > 0 || self.depth.get() > 3 {
            return;
        }
        if self.below(3) == 0 {
            self.world.pass(self.below(9));
        }
        self.depth.set(self.depth.get() + 1);
        let inner = self.clone();
        interrupted(move |_| inner.interrupt(), || self.act());
        self.depth.set(self.depth.get() - 1);
    }

    /// Something of a process that does nothing now.
    fn act(&self) {
        let actor = &self.actors[self.below(self.actors.len() as u64) as usize];
        if actor.busy.replace(true) {
            return;
        }
        match self.below(10) {
            0..4 if actor.held.borrow().is_none() => {
                let sharing = if self.below(3) == 0 { Shared } else { Exclusive };
                let taken = actor.leases.take(&key(), sharing);
                if let Ok(lease) = taken {
                    self.taken.set(self.taken.get() + 1);
                    actor.held.replace(Some((sharing, lease)));
                }
            }
            4 => drop(actor.held.take()),
            5 | 6 => actor.leases.tick().unwrap(),
            7 => self.world.pass(self.below(30)),
            _ => {}
        }
        actor.busy.set(false);
    }

    /// Of those that may rely on their leases now, none excludes another.
    fn check(&self) {
        let mut relied = vec![];
        for actor in &self.actors {
            let mut held = actor.held.borrow_mut();
            let Some((sharing, lease)) = &*held else { continue };
            match lease.check() {
                Ok(()) => relied.push(*sharing),
                Err(StoreError::Lapsed { .. }) => {
                    self.lapsed.set(self.lapsed.get() + 1);
                    *held = None;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(relied.len() < 2 || !relied.contains(&Exclusive), "these at a time: {relied:?}");
    }
}
