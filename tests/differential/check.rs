//! One module: plain, straight and paused runs must agree.

use anyhow::{Context, Result, bail, ensure};
use wasm_ckpt::instrument::{COST_MODEL, OLDEST_COST_MODEL, Options, Refusal};
use wasm_ckpt::machine::{self, Settings};
use wasm_ckpt::snapshot::State;
use wasmtime::{Config, Engine, Module};

use crate::ours::{self, Subject};
use crate::plain;
use crate::plan::{self, Frame, Outcome};
use crate::rng::Rng;

/// So many snapshots of a chain are made again straight.
const STRAIGHT_MARKS: usize = 2;
/// Fuel that a call of a random module may take.
const FUEL: u64 = 200_000;

/// A load and what it is folded into are not further apart, in bytes.
const FOLDED_MAX: u64 = 40;

/// The compilers: plain wasmtime, and ours, native and the interpreter, with all ways to rewrite.
pub struct Engines {
    plain: Engine,
    native: Vec<Vec<machine::Engine>>,
    pulley: Vec<Vec<machine::Engine>>,
}

/// All ways to rewrite with one cost model: with all optimisations, then with each of them off.
fn ways(cost_model: u32) -> Vec<Options> {
    let all = Options { cost_model, ..Options::default() };
    vec![
        all,
        Options { shared_restore: false, ..all },
        Options { saves_of_loops: false, ..all },
        Options { calls_in_place: false, ..all },
        Options { tested_results: false, ..all },
        Options { settled: false, ..all },
        Options { passes_at_once: false, ..all },
    ]
}

/// By cost model and way.
fn engines(target: Option<&str>) -> Result<Vec<Vec<machine::Engine>>> {
    let target = target.map(str::to_string);
    // The interpreter is to give the same bits.
    let engine = |rewrite| {
        let target = target.clone();
        machine::Engine::new(Settings { target, canonical_nans: true, rewrite, ..Settings::default() })
    };
    (OLDEST_COST_MODEL..=COST_MODEL).map(|model| ways(model).into_iter().map(engine).collect()).collect()
}

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stats {
    pub refused: u64,
    /// Nothing can be called.
    pub empty: u64,
    pub calls: u64,
    pub traps: u64,
    pub unfinished: u64,
    pub pauses: u64,
    pub on_pulley: u64,
    pub same_snapshots: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        let Stats { refused, empty, calls, traps, unfinished, pauses, on_pulley, same_snapshots } = other;
        self.refused += refused;
        self.empty += empty;
        self.calls += calls;
        self.traps += traps;
        self.unfinished += unfinished;
        self.pauses += pauses;
        self.on_pulley += on_pulley;
        self.same_snapshots += same_snapshots;
    }
}

impl Engines {
    pub fn new() -> Result<Self> {
        let mut config = Config::new();
        config.wasm_features(wasmtime::WasmFeatures::WASM3, true);
        config.wasm_threads(true);
        config.cranelift_nan_canonicalization(true);
        config.relaxed_simd_deterministic(true);
        config.parallel_compilation(false);
        // The same as ours: the optimizer moves traps to the branches that lead to them.
        config.cranelift_opt_level(wasmtime::OptLevel::Speed);
        // Not fuel, which comes between a branch and a trap.
        config.epoch_interruption(true);
        let plain = Engine::new(&config)?;
        let clock = plain.weak();
        std::thread::spawn(move || {
            while let Some(engine) = clock.upgrade() {
                std::thread::sleep(plain::TICK);
                engine.increment_epoch();
            }
        });
        Ok(Engines { plain, native: engines(None)?, pulley: engines(Some("pulley64"))? })
    }

    /// The module for the interpreter, which has no atomic instructions.
    fn on_pulley(engine: &machine::Engine, wasm: &[u8]) -> Result<Option<machine::Module>> {
        match engine.compile(wasm) {
            Ok(module) => Ok(Some(module)),
            Err(error) if format!("{error:#}").contains("threads support is not enabled") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs the module in all ways, with any cost model, mostly the newest.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, wasm: &[u8], seed: u64) -> Result<Stats> {
        let mut rng = Rng::new(seed);
        let model = if rng.one_in(2) {
            COST_MODEL
        } else {
            OLDEST_COST_MODEL + rng.below(COST_MODEL as usize) as u32
        };
        self.check_model(wasm, rng, model, FUEL)
    }

    /// Runs the module in all ways with one cost model. `fuel`: what a call may take.
    ///
    /// # Errors
    /// What differs.
    pub fn check_model(&self, wasm: &[u8], mut rng: Rng, model: u32, fuel: u64) -> Result<Stats> {
        let mut stats = Stats::default();
        let fuel_at_traps = model != AT_ONCE_OR_NOT;
        let model = (model - OLDEST_COST_MODEL) as usize;
        // Each with all or without one of what does not change the state.
        let (off, other_off) = (rng.one_in(3), rng.one_in(2));
        let (mut which, offs) = (rng.clone(), self.native[model].len() - 1);
        let mut way = |off| if off { 1 + which.below(offs) } else { 0 };
        let (native, pulley) = (&self.native[model][way(off)], &self.pulley[model][way(other_off)]);
        let native = match native.compile(wasm) {
            Ok(native) => native,
            Err(error) => match error.downcast_ref::<Refusal>() {
                Some(Refusal::Unsupported { .. }) => {
                    stats.refused = 1;
                    return Ok(stats);
                }
                _ => return Err(error),
            },
        };
        let original = Module::new(&self.plain, wasm)?;
        let mut calls = plan::calls(&original, &mut rng);
        if calls.is_empty() {
            stats.empty = 1;
            return Ok(stats);
        }
        let plain = plain::run(&self.plain, &original, wasm, &calls).context("plain")?;
        // Calls after one that plainly does not end start from a state that we cannot know.
        calls.truncate(plain.outcomes.len());
        let pulley = if rng.one_in(4) { Self::on_pulley(pulley, wasm)? } else { None };
        let functions = plan::functions(&original)?;
        stats.on_pulley = u64::from(pulley.is_some());
        let subject = Subject { native, pulley, functions, calls, fuel };
        let straight = match subject.straight() {
            Ok(straight) => straight,
            Err(error) => {
                refused_by_both(&plain, &error)?;
                return Ok(stats);
            }
        };
        same_as_plain(wasm, &plain, &straight).context("straight against plain")?;
        let mut chain = subject.chain(&mut rng).context("paused")?;
        same_as_straight(&straight, &chain, fuel_at_traps).context("paused against straight")?;
        if !fuel_at_traps && let Some(trapped) = straight.outcomes.iter().position(Outcome::is_trap) {
            chain.marks.retain(|mark| mark.call <= trapped);
        }
        for _ in 0..STRAIGHT_MARKS.min(chain.marks.len()) {
            let mark = rng.pick(&chain.marks);
            let (id, state) = subject.straight_to(&mark).with_context(|| format!("{mark:?}"))?;
            let at = (mark.call, mark.until);
            ensure!(
                id == mark.id,
                "call and fuel {at:?}, straight and paused: {}",
                differing(&state, &mark.state)
            );
            stats.same_snapshots += 1;
        }
        for outcome in &straight.outcomes {
            stats.calls += 1;
            stats.traps += u64::from(outcome.is_trap());
            stats.unfinished += u64::from(matches!(outcome, Outcome::Unfinished | Outcome::Overflowed));
        }
        stats.pauses = chain.pauses;
        Ok(stats)
    }
}

/// A segment that does not fit traps before anything of the module runs.
fn refused_by_both(plain: &plain::Run, error: &anyhow::Error) -> Result<()> {
    let Outcome::Trapped { code, .. } = &plain.outcomes[0] else {
        bail!("ours fails: {error:?}; plain: {:?}", plain.outcomes);
    };
    let ours = error.downcast_ref::<wasmtime::Trap>();
    ensure!(plain.end.is_none() && ours == code.as_ref(), "ours fails: {error:?}, plain: {code:?}");
    Ok(())
}

fn same_as_plain(wasm: &[u8], plain: &plain::Run, ours: &ours::Run) -> Result<()> {
    for (number, (theirs, ours)) in plain.outcomes.iter().zip(&ours.outcomes).enumerate() {
        match (theirs, ours) {
            (Outcome::Unfinished | Outcome::Overflowed, _) => return Ok(()),
            (_, Outcome::Unfinished | Outcome::Overflowed) => return Ok(()),
            (a, b) => {
                let same = a == b || same_trap(a, b, true) || loop_in_place_of_unreachable(wasm, a, b);
                ensure!(same, "call {number}: plain {a:?}, ours {b:?}");
            }
        }
    }
    let (Some(theirs), Some((_, ours))) = (&plain.end, &ours.end) else { return Ok(()) };
    for (index, memory) in ours.memories.iter().enumerate() {
        if let Some(found) = theirs.memories.get(&(index as u32)) {
            ensure!(*found == (memory.len, memory.root), "memory {index}: {found:?}, ours {memory:?}");
        }
    }
    for (index, value) in &ours.globals {
        if let Some(found) = theirs.globals.get(index) {
            ensure!(found.is(value), "global {index}: plain {found:?}, ours {value:?}");
        }
    }
    for table in &ours.tables {
        let Some(found) = theirs.tables.get(&table.index) else { continue };
        let values = table.runs.iter().flat_map(|(n, value)| std::iter::repeat_n(value, *n as usize));
        let same = values.clone().count() == found.len() && found.iter().zip(values).all(|(a, b)| a.is(b));
        ensure!(same, "table {}: plain {found:?}, ours {table:?}", table.index);
    }
    Ok(())
}

/// A loop was charged for to its end by this cost model, or pass by pass, depending on the fuel that there was: so does the fuel
/// after a trap in it, and at every point of later calls.
const AT_ONCE_OR_NOT: u32 = 5;

fn same_as_straight(straight: &ours::Run, chain: &ours::Run, fuel_at_traps: bool) -> Result<()> {
    for (number, (a, b)) in straight.outcomes.iter().zip(&chain.outcomes).enumerate() {
        match (a, b) {
            // Where the native stack ends depends on how it was built.
            (Outcome::Overflowed, _) | (_, Outcome::Overflowed) => return Ok(()),
            (a, b) => {
                ensure!(a == b || same_trap(a, b, false), "call {number}: straight {a:?}, paused {b:?}")
            }
        }
    }
    let trapped = straight.outcomes.iter().any(Outcome::is_trap);
    if trapped && !fuel_at_traps {
        let but_fuel = |run: &ours::Run| run.end.as_ref().map(|(_, end)| State { fuel: 0, ..end.clone() });
        ensure!(but_fuel(straight) == but_fuel(chain), "the end differs");
        return Ok(());
    }
    ensure!(straight.fuel == chain.fuel, "fuel: straight {:?}, paused {:?}", straight.fuel, chain.fuel);
    match (&straight.end, &chain.end) {
        (Some((a, _)), Some((b, _))) if a == b => Ok(()),
        (None, None) => Ok(()),
        (a, b) => bail!("the end: straight {a:?}, paused {b:?}"),
    }
}

/// How two states differ: the first frame, or else the lines.
fn differing(a: &State, b: &State) -> String {
    for (number, (a, b)) in a.frames.iter().zip(&b.frames).enumerate() {
        if a != b {
            return format!("frame {number} of {}: {a:?} | {b:?}", a.func);
        }
    }
    let (a, b) = (format!("{a:#?}"), format!("{b:#?}"));
    let lines = a.lines().zip(b.lines()).enumerate().filter(|(_, (a, b))| a != b);
    lines.take(20).map(|(n, (a, b))| format!("\nline {n}: {} | {}", a.trim(), b.trim())).collect()
}

/// Whether both come to the same `unreachable`, and plain code names the loop around it: where nothing that lies between
/// them is left in the code, both have the same address, and the engine takes either.
fn loop_in_place_of_unreachable(wasm: &[u8], plain: &Outcome, ours: &Outcome) -> bool {
    const LOOP: u8 = 0x03;
    const UNREACHABLE: u8 = 0x00;
    let mut plain = plain.clone();
    let (Outcome::Trapped { code, frames: a }, Outcome::Trapped { frames: b, .. }) = (&mut plain, ours)
    else {
        return false;
    };
    let (Some((_, Some(named))), Some((_, Some(found)))) = (a.first_mut(), b.first()) else { return false };
    let is = |at: u64, operator: u8| wasm.get(at as usize) == Some(&operator);
    let loosely = *named < *found && is(*named, LOOP) && is(*found, UNREACHABLE);
    *named = *found;
    loosely && *code == Some(wasmtime::Trap::UnreachableCodeReached) && same_trap(&plain, ours, true)
}

/// Whether both are the same trap, at the same place. The engine may fold a load into what uses its value,
/// and then names that as the place; sometimes it names no instruction at all. Calls that wait in frames
/// that were rebuilt may be named loosely, unless `callers` are to be the same.
fn same_trap(a: &Outcome, b: &Outcome, callers: bool) -> bool {
    let (Outcome::Trapped { code: code_a, frames: a }, Outcome::Trapped { code: code_b, frames: b }) = (a, b)
    else {
        return false;
    };
    let loads = *code_a == Some(wasmtime::Trap::MemoryOutOfBounds);
    let same_frame = |(number, (a, b)): (usize, (&Frame, &Frame))| {
        let same_place = match (a.1, b.1) {
            (Some(a), Some(b)) if number == 0 => a == b || loads && a.abs_diff(b) <= FOLDED_MAX,
            (Some(a), Some(b)) => a == b || !callers,
            _ => true,
        };
        a.0 == b.0 && same_place
    };
    code_a == code_b && a.len() == b.len() && a.iter().zip(b).enumerate().all(same_frame)
}
