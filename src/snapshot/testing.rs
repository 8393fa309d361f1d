//! What the tests of this room share: seeded chance, and states made by it.

use super::{Blob, Call, Exn, Frame, FrameKind, Identity, Memory, Section, State, Table, Value};
use crate::digest::{ChunkId, ModuleId};

/// Small seeded generator (SplitMix64): the same numbers on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A value, with exceptions nested up to `depth` deep.
pub(crate) fn value(random: &mut Random, depth: u32) -> Value {
    match random.below(9) {
        0 => Value::I32(random.next() as u32 >> random.below(32)),
        1 => Value::I64(random.next() >> random.below(64)),
        2 => Value::F32(random.next() as u32),
        3 => Value::F64(random.next()),
        4 => Value::V128(u128::from(random.next()) << random.below(65)),
        5 => Value::I32(0),
        _ => reference(random, depth),
    }
}

fn reference(random: &mut Random, depth: u32) -> Value {
    match random.below(5) {
        0 => Value::Null,
        1 => Value::Func(None),
        2 if depth > 0 => {
            let fields = many(random, 3, |random, _| value(random, depth - 1));
            Value::Exn(Some(Box::new(Exn { tag: random.below(9) as u32, fields })))
        }
        3 => Value::Exn(None),
        _ => Value::Func(Some(random.next() as u32 >> random.below(32))),
    }
}

/// Fewer than `end` things, made from their number.
fn many<T>(random: &mut Random, end: u64, mut make: impl FnMut(&mut Random, u64) -> T) -> Vec<T> {
    (0..random.below(end)).map(|n| make(random, n)).collect()
}

fn ascending(random: &mut Random) -> Vec<u32> {
    let mut next = 0;
    many(random, 5, |random, _| {
        next += 1 + random.below(200) as u32;
        next
    })
}

fn indexed(random: &mut Random) -> Vec<(u32, Value)> {
    ascending(random).into_iter().map(|index| (index, value(random, 3))).collect()
}

fn frame(random: &mut Random, innermost: bool) -> Frame {
    use FrameKind::{Call, Entry, Import, Loop};
    let kind = if innermost { [Entry, Loop, Import][random.below(3) as usize] } else { Call };
    let offset = if kind == Import { 0 } else { random.next() >> random.below(64) };
    let locals = match kind {
        Import => many(random, 4, |random, n| (n as u32, value(random, 3))),
        _ => indexed(random),
    };
    let stack = match kind {
        Call | Loop => many(random, 5, |random, _| value(random, 3)),
        _ => Vec::new(),
    };
    Frame { func: random.below(1000) as u32, offset, kind, locals, stack }
}

fn table(random: &mut Random, index: u32) -> Table {
    let mut runs = many(random, 6, |random, _| (1 + random.below(300), reference(random, 2)));
    runs.dedup_by(|a, b| a.1 == b.1);
    Table { index, runs }
}

fn root(random: &mut Random, len: u64) -> ChunkId {
    if len == 0 { ChunkId::ZERO } else { ChunkId::of(&random.next().to_le_bytes()) }
}

/// A state that keeps all rules of the format.
pub(crate) fn state(random: &mut Random) -> State {
    let depth = random.below(6);
    State {
        identity: Identity {
            module: ModuleId::of(&random.next().to_le_bytes()),
            cost_model: random.below(300) as u32,
            canonical_nans: random.below(2) == 0,
            deterministic_relaxed_simd: random.below(2) == 0,
        },
        fuel: random.next() >> random.below(64),
        call: Call {
            in_start: random.below(2) == 0,
            export: ["_start", "run", "", "größer"][random.below(4) as usize].to_string(),
            args: many(random, 4, |random, _| value(random, 2)),
        },
        frames: (0..depth).map(|n| frame(random, n + 1 == depth)).collect(),
        memories: many(random, 3, |random, _| {
            let len = random.below(3) * 65536;
            Memory { len, root: root(random, len) }
        }),
        globals: indexed(random),
        tables: ascending(random).into_iter().map(|index| table(random, index)).collect(),
        dropped_data: ascending(random),
        dropped_elems: ascending(random),
        sections: many(random, 4, |random, n| Section {
            name: format!("section-{n}"),
            version: random.below(3) as u32,
            bytes: many(random, 40, |random, _| random.next() as u8),
        }),
        blobs: many(random, 4, |random, n| {
            let len = random.below(3) * random.below(1 << 41) / 2;
            let len = len.min(super::limits::LEN_MAX);
            Blob { name: format!("blob-{n}"), len, root: root(random, len) }
        }),
    }
}
