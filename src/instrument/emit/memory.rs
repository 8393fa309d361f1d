//! What the emitter keeps from one function to the next: memory, not contents.

use wasm_encoder::Encode;
use wasmparser::ValType;

use super::super::hidden::encoded;
use super::super::points::{Closer, Origin, Scan};
use super::super::slots::Frames;
use super::Label;

/// What emitting one function leaves for the next: memory.
#[derive(Default)]
pub struct Scratch {
    pub(super) code: Vec<u8>,
    pub(super) hints: Vec<(u32, bool)>,
    pub(super) origins: Vec<Origin>,
    pub(super) labels: Vec<Label>,
    pub(super) closers: Closers,
    pub(super) spilled: Vec<ValType>,
    pub(super) temps: Temps,
    pub(super) temp_types: Vec<ValType>,
    pub(super) frames: Frames,
    pub(super) locals: Vec<u8>,
}

impl Scratch {
    /// How many locals of ours the function has that was emitted last.
    pub fn temps(&self) -> usize {
        self.temp_types.len()
    }

    pub fn clear(&mut self) {
        self.code.clear();
        self.hints.clear();
        self.origins.clear();
        self.labels.clear();
        self.spilled.clear();
        self.temps.clear();
        self.temp_types.clear();
        self.frames.clear();
        self.locals.clear();
    }
}

/// Locals of ours by the height and the type of the operands that they hold.
#[derive(Default)]
pub struct Temps {
    /// By height: the last of its locals in `locals`, plus 1.
    last: Vec<u32>,
    /// Type, number, and the one before it of the same height, plus 1.
    locals: Vec<(ValType, u32, u32)>,
}

impl Temps {
    pub fn clear(&mut self) {
        self.last.clear();
        self.locals.clear();
    }

    pub fn find(&self, height: usize, ty: ValType) -> Option<u32> {
        let mut at = self.last.get(height).copied().unwrap_or(0);
        while let Some(&(found, local, before)) = self.locals.get((at as usize).wrapping_sub(1)) {
            if found == ty {
                return Some(local);
            }
            at = before;
        }
        None
    }

    pub fn add(&mut self, height: usize, ty: ValType, local: u32) {
        if self.last.len() <= height {
            self.last.resize(height + 1, 0);
        }
        self.locals.push((ty, local, self.last[height]));
        self.last[height] = self.locals.len() as u32;
    }
}

/// Levels of labels.
#[derive(Default)]
pub struct Closers {
    points: usize,
    levels: Vec<u32>,
}

impl Closers {
    pub fn reset(&mut self, scan: &Scan) {
        self.points = scan.points.len();
        self.levels.clear();
        self.levels.resize(2 * self.points + 3 * scan.ctls.len(), u32::MAX);
    }

    fn at(&self, closer: Closer) -> usize {
        match closer {
            Closer::Call(p) => self.points + p as usize,
            Closer::Point(p) => p as usize,
            Closer::Before(c) => 2 * self.points + 3 * c as usize,
            Closer::Else(c) => 2 * self.points + 3 * c as usize + 1,
            Closer::End(c) => 2 * self.points + 3 * c as usize + 2,
        }
    }

    pub fn insert(&mut self, closer: Closer, level: u32) {
        let at = self.at(closer);
        self.levels[at] = level;
    }

    pub fn is_open(&self, closer: Closer) -> bool {
        self.levels[self.at(closer)] != u32::MAX
    }

    pub fn level(&self, closer: Closer) -> u32 {
        self.levels[self.at(closer)]
    }
}

/// The declaration of a body's locals: runs of the same type.
pub fn declare_locals(mut types: impl Iterator<Item = ValType> + Clone, out: &mut Vec<u8>) {
    let changes = types.clone().zip(types.clone().skip(1)).filter(|(one, next)| one != next).count();
    let Some(mut last) = types.next() else { return 0u32.encode(out) };
    (changes + 1).encode(out);
    let mut count = 1u32;
    for ty in types {
        if ty != last {
            count.encode(out);
            encoded(last).encode(out);
            (last, count) = (ty, 0);
        }
        count += 1;
    }
    count.encode(out);
    encoded(last).encode(out);
}
