//! The functions, rewritten one at a time by all threads, and joined in their order.
//!
//! Threads take runs of functions, first ones first. Whoever is done with the run that is next appends it, and those behind it that
//! wait, to what is there: nobody waits for anybody, and little is there twice. What comes out depends on
//! neither the number of threads nor on which was first, nor does which of several refusals is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::OriginTable;
use super::emit::{self, Context, Role};
use super::frame::FrameTable;
use super::module::Body;
use super::points::Origin;
use super::refusal::Refusal;
use super::scan;
use super::sink::leb;

/// Bytes of code that a thread takes at once, at least.
const RUN: usize = 32 << 10;

/// Bytes of rewritten code for one of given code, about as many as there ever are.
const EXPECTED_RATIO: usize = 4;

/// Bytes of a function, at most: engines take no larger ones (`MAX_WASM_FUNCTION_SIZE` of wasmparser, and the limit of the web's engines).
const BODY_MAX: usize = 7_654_321;
/// Most locals of a function, parameters included, that an engine takes.
const LOCALS_MAX: usize = 50_000;

/// What functions in a row were rewritten to.
#[derive(Default)]
pub struct Rewritten {
    /// Their bodies, each with its length before it.
    pub code: Vec<u8>,
    /// What the section of branch hints says of them, and of how many of them.
    pub hints: Vec<u8>,
    pub hinted: u32,
    pub frames: FrameTable,
    pub origins: OriginTable,
}

/// One function, rewritten.
pub struct Function<'e> {
    pub index: u32,
    /// The declaration of its locals, and what follows it.
    pub locals: &'e [u8],
    pub code: &'e [u8],
    /// (offset in `code`, taken), ascending.
    pub hints: &'e [(u32, bool)],
    /// What stands in `code` for original code, ascending.
    pub origins: &'e [Origin],
    /// The layouts of its points, encoded.
    pub frames: &'e [u8],
}

impl Rewritten {
    /// Appends a function.
    pub fn push(&mut self, function: &Function<'_>) {
        let shift = function.locals.len() as u32;
        leb(&mut self.code, (function.locals.len() + function.code.len()) as u64);
        self.code.extend_from_slice(function.locals);
        self.code.extend_from_slice(function.code);
        if !function.hints.is_empty() {
            self.hinted += 1;
            let out = &mut self.hints;
            leb(out, u64::from(function.index));
            leb(out, function.hints.len() as u64);
            for &(at, taken) in function.hints {
                leb(out, u64::from(at + shift));
                out.extend_from_slice(&[1, u8::from(taken)]);
            }
        }
        self.frames.push(function.frames);
        self.origins.push(function.origins, shift);
    }

    /// Keeps the memory alone.
    fn clear(&mut self) {
        self.code.clear();
        self.hints.clear();
        self.hinted = 0;
        self.frames.clear();
        self.origins.clear();
    }

    /// Appends copies of functions, whose frames are those of the functions.
    fn append_copies(&mut self, copies: &Self) {
        self.code.extend_from_slice(&copies.code);
        self.hints.extend_from_slice(&copies.hints);
        self.hinted += copies.hinted;
        self.origins.append(&copies.origins);
    }

    /// Appends what comes behind.
    fn append(&mut self, other: &Self) {
        self.append_copies(other);
        self.frames.append(&other.frames);
    }
}

/// The functions of a run, and the copies that frames are rebuilt with.
#[derive(Default)]
struct Run {
    functions: Rewritten,
    copies: Rewritten,
}

/// Runs of functions that are done, and were joined as far as nothing is missing.
struct Joined {
    all: Run,
    next: usize,
    waiting: BTreeMap<usize, Run>,
    /// Empty ones, for their memory.
    spare: Vec<Run>,
    /// Of the first run that has one.
    refusal: Option<(usize, Refusal)>,
}

impl Joined {
    fn add(&mut self, run: usize, done: Result<Run, Refusal>) {
        match done {
            Ok(done) => drop(self.waiting.insert(run, done)),
            Err(refusal) => {
                if self.refusal.as_ref().is_none_or(|(first, _)| run < *first) {
                    self.refusal = Some((run, refusal));
                }
            }
        }
        while let Some(mut done) = self.waiting.remove(&self.next) {
            self.all.functions.append(&done.functions);
            self.all.copies.append_copies(&done.copies);
            done.functions.clear();
            done.copies.clear();
            self.spare.push(done);
            self.next += 1;
        }
    }
}

/// Rewrites all functions; `all` holds what comes before them.
pub fn rewrite(cx: &Context<'_, '_>, mut all: Rewritten) -> Result<Rewritten, Refusal> {
    // A vector of this size takes no memory before it is filled. It is made longer if need be.
    let code = cx.module.bodies.iter().map(|body| body.body.range().len()).sum::<usize>();
    let _ = all.code.try_reserve(code.saturating_mul(EXPECTED_RATIO));
    let runs: Vec<&[Body<'_>]> = runs(&cx.module.bodies);
    let all = Run { functions: all, copies: Rewritten::default() };
    let joined = Mutex::new(Joined { all, next: 0, waiting: BTreeMap::new(), spare: vec![], refusal: None });
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut scratch, mut spare) = (Scratch::default(), Run::default());
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            let Some(bodies) = runs.get(run) else { return };
            let done = rewrite_run(cx, bodies, &mut scratch, std::mem::take(&mut spare));
            if done.is_err() {
                next.store(runs.len(), Ordering::Relaxed); // those before it have been taken
            }
            let mut joined = joined.lock().unwrap_or_else(PoisonError::into_inner);
            joined.add(run, done);
            spare = joined.spare.pop().unwrap_or_default();
        }
    };
    let threads = rayon::current_num_threads().min(runs.len());
    rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| work())));
    let joined = joined.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, refusal)) = joined.refusal {
        return Err(refusal);
    }
    let Run { mut functions, copies } = joined.all;
    functions.append_copies(&copies);
    Ok(functions)
}

/// The memory that a thread uses for one function after another.
#[derive(Default)]
struct Scratch {
    scan: scan::Scratch,
    emit: emit::Scratch,
}

fn rewrite_run(
    cx: &Context<'_, '_>,
    bodies: &[Body<'_>],
    scratch: &mut Scratch,
    mut done: Run,
) -> Result<Run, Refusal> {
    for body in bodies {
        let scan = scan::scan(cx, body, &mut scratch.scan)?;
        let start = done.functions.code.len();
        if cx.graph.shrunk[body.func as usize].is_some() {
            emit::emit(cx, body, Role::Hot, scan, &mut scratch.emit, &mut done.functions);
            emit::emit(cx, body, Role::Rebuilding, scan, &mut scratch.emit, &mut done.copies);
        } else {
            emit::emit(cx, body, Role::Whole, scan, &mut scratch.emit, &mut done.functions);
        }
        let offset = body.body.range().start;
        let locals = scan.locals.len() + scratch.emit.temps();
        if locals > LOCALS_MAX {
            let what = "number of locals, with those that hold operands,";
            return Err(Refusal::too_large(body.func, offset, what, locals as u64, LOCALS_MAX as u64));
        }
        let size = done.functions.code.len() - start;
        if size > BODY_MAX {
            let what = "its code with what saves and restores it, in bytes,";
            return Err(Refusal::too_large(body.func, offset, what, size as u64, BODY_MAX as u64));
        }
    }
    Ok(done)
}

/// The functions in runs of about equal size.
fn runs<'b, 'a>(bodies: &'b [Body<'a>]) -> Vec<&'b [Body<'a>]> {
    let (mut runs, mut start, mut bytes) = (vec![], 0, 0);
    for (at, body) in bodies.iter().enumerate() {
        bytes += body.body.range().len();
        if bytes >= RUN || at + 1 == bodies.len() {
            runs.push(&bodies[start..=at]);
            (start, bytes) = (at + 1, 0);
        }
    }
    runs
}
