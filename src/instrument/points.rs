//! A function body as the emitter sees it: constructs, suspension points, regions.

use wasmparser::{RefType, ValType};

use super::counted::Passes;
use super::liveness::{Block, Liveness, remove};

/// Index of a control construct of the function, in program order.
pub type Ctl = u32;
/// Index of a suspension point of the function, in program order; 0 is the entry.
pub type PointId = u32;

/// An operator that the emitter handles; what lies between two of them is copied.
pub struct Op {
    pub kind: OpKind,
    /// Byte range in the module.
    pub start: u32,
    pub end: u32,
    /// What lies before it, back to the operator noted before, cannot be reached.
    pub dead_before: bool,
}

pub enum OpKind {
    Block(Ctl),
    Loop(Ctl),
    If(Ctl),
    Try(Ctl, Vec<wasmparser::Catch>),
    /// Of the `if` with this index.
    Else(Ctl),
    /// None: the function's own.
    End(Option<Ctl>),
    Br(u32),
    /// True: the branch takes operands with it.
    BrIf(u32, bool),
    BrTable(Vec<u32>, u32),
    BrOnNull(u32),
    BrOnNonNull(u32),
    /// Of function references. `fail`: `br_on_cast_fail`.
    BrOnCast {
        depth: u32,
        from: RefType,
        to: RefType,
        fail: bool,
    },
    /// A call that can suspend.
    Call(PointId),
    /// A tail call to an import: its wrapper is called.
    ReturnCall(u32),
    RefFunc(u32),
    /// `local.get` or `local.tee` of a local whose type has no default.
    GetNonNull,
    DataDrop(u32),
    ElemDrop(u32),
    /// An operation on as many bytes of memory as the topmost operand says, an i64 if `wide`.
    Bulk {
        wide: bool,
    },
    /// Nothing of the module: the function checks here, for the point of its entry or of a loop.
    Check(PointId),
    /// Control does not go on from here; the operator is copied.
    Stop,
}

/// Types of values in a row, among [`Scan::types`].
#[derive(Clone, Copy, Default)]
pub struct Types {
    start: usize,
    len: u32,
}

impl Types {
    pub fn len(self) -> usize {
        self.len as usize
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// These and those right behind them.
    pub fn with(self, behind: Types) -> Types {
        debug_assert_eq!(self.start + self.len(), behind.start);
        Types { start: self.start, len: self.len + behind.len }
    }
}

/// A control construct.
pub struct CtlInfo {
    pub kind: CtlKind,
    /// Operands of the surrounding construct that lie beneath its parameters, which are right behind them.
    pub beneath: Types,
    pub params: Types,
    pub results: Types,
    /// There is a suspension point inside.
    pub has_points: bool,
    pub has_else: bool,
    /// A loop that does not check at its header, but behind it.
    pub sunk: bool,
    /// A loop's charge per pass of its header, or of all passes before the first.
    pub charge: u64,
    /// For a loop that need not check in each pass: how often it is passed.
    pub counted: Option<Passes>,
    /// For a loop that charges for many passes before the first: of how many it does not charge for any.
    pub few: u64,
    /// For a loop that calls in some passes only: how many copies of its body stand ahead of it.
    pub ahead: u32,
    /// For a loop that charges behind its passes: for how many at once.
    pub passes: Option<u32>,
    /// Indexes of its first and its last operator among the function's.
    pub start: usize,
    pub end: usize,
    /// For a loop, its own point; for a `try_table`, the first point inside.
    pub point: PointId,
    /// One past the last point inside.
    pub points_end: PointId,
    /// For loops and `try_table`s.
    pub region: usize,
    /// For a `try_table`, the block that it begins with.
    pub block: Block,
    /// The region that it lies in.
    pub outer: usize,
    /// For a loop: another one lies in it.
    pub has_loops: bool,
    /// The part of [`Scan::writes`] that is written in it.
    pub writes: (u32, u32),
}

impl CtlInfo {
    /// The operands beneath it, and its parameters.
    pub fn operands(&self) -> Types {
        self.beneath.with(self.params)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CtlKind {
    Block,
    /// A loop that is a suspension point.
    Loop,
    /// One that is none.
    Free,
    If,
    Try,
}

impl CtlKind {
    /// A branch to it goes to its beginning.
    pub fn is_loop(self) -> bool {
        matches!(self, CtlKind::Loop | CtlKind::Free)
    }
}

/// Whom a call calls.
#[derive(Clone, Copy)]
pub enum Callee {
    Direct(u32),
    Indirect { ty: u32 },
    Ref { ty: u32 },
}

/// A suspension point.
pub struct Point {
    pub kind: PointKind,
    /// Byte offset of its operator in the module.
    pub offset: u32,
    /// The operand stack, bottom first, without what a call takes.
    pub stack: Types,
    /// How many of those are the innermost construct's own.
    pub own: usize,
    /// In an inlined call: how many of those are its caller's.
    pub callers: u32,
    /// Operands that the call takes; filled only if `own` is not 0, or in loops.
    pub args: Types,
    /// Where the code begins that only pushes the last operands of a call, and for how many of them (`pushed.rs`).
    pub pushed: (u32, u32),
    /// The block whose live locals are the point's.
    pub block: Block,
}

#[derive(Clone, Copy)]
pub enum PointKind {
    Entry,
    Loop(Ctl),
    Call(Callee),
}

/// Code that one dispatch can jump into: the function outside of loops and `try_table`s, or one of those.
#[derive(Default)]
pub struct Region {
    /// Labels that end in it, in order.
    pub closers: Vec<Closer>,
    /// What its dispatch can reach, in order.
    pub items: Vec<Reached>,
}

/// A label whose end lies in the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closer {
    /// Right before a call that is not made again in its own place, in a loop with copies of its body. In no list: it comes before [`Closer::Point`].
    Call(PointId),
    /// Right after a call, before its check.
    Point(PointId),
    /// Right before a loop or `try_table`.
    Before(Ctl),
    /// Before the code of `else`.
    Else(Ctl),
    /// The construct's own end.
    End(Ctl),
}

/// What a dispatch can reach.
#[derive(Clone, Copy)]
pub enum Reached {
    Call(PointId),
    /// A loop or `try_table`.
    Inner(Ctl),
}

/// The result.
#[derive(Default)]
pub struct Scan {
    pub ops: Vec<Op>,
    pub ctls: Vec<CtlInfo>,
    pub points: Vec<Point>,
    pub regions: Vec<Region>,
    /// Empty ones, for their memory.
    pub spare: Vec<Region>,
    /// Types of what is on the operand stack at constructs and points.
    types: Vec<ValType>,
    pub locals: Vec<ValType>,
    /// The locals that are written, in program order, as often as they are.
    pub writes: Vec<u32>,
    pub params: u32,
    /// 0: callers pay. Then it is no suspension point, and what comes to it without fuel is being rebuilt.
    pub entry_charge: u64,
    /// The loop that the function begins with, if its header is the function's first point: point 0 stands there as well.
    pub first_loop: Option<Ctl>,
    pub liveness: Liveness,
    /// Byte range of the operators in the module.
    pub code: (u32, u32),
}

impl Scan {
    pub fn types(&self, of: Types) -> &[ValType] {
        &self.types[of.start..of.start + of.len()]
    }

    /// Adds types behind those that are there.
    pub fn add_types(&mut self, types: impl IntoIterator<Item = ValType>) -> Types {
        let start = self.types.len();
        self.types.extend(types);
        Types { start, len: (self.types.len() - start) as u32 }
    }

    /// Adds the same types once more.
    pub fn repeat_types(&mut self, of: Types) -> Types {
        let start = self.types.len();
        self.types.extend_from_within(of.start..of.start + of.len());
        Types { start, ..of }
    }

    pub fn push_region(&mut self) {
        let region = self.spare.pop().unwrap_or_default();
        self.regions.push(region);
    }

    /// Whether the function makes a call that can suspend.
    pub fn calls(&self) -> bool {
        self.points.iter().any(|point| matches!(point.kind, PointKind::Call(_)))
    }

    /// Whether a region is that of the loop that the function begins with.
    pub fn is_first(&self, region: usize) -> bool {
        self.first_loop.is_some_and(|ctl| self.ctls[ctl as usize].region == region)
    }

    /// By point: the innermost loop with points around it.
    pub fn innermost_loops(&self) -> Vec<Option<Ctl>> {
        let loops = self.ctls.iter().enumerate().filter(|(_, info)| info.kind == CtlKind::Loop);
        let mut loops = loops.map(|(ctl, info)| (ctl as Ctl, info)).peekable();
        let mut open: Vec<(Ctl, PointId)> = vec![];
        let innermost = |point| {
            while open.pop_if(|(_, end)| *end <= point).is_some() {}
            while let Some((ctl, info)) = loops.next_if(|(_, info)| info.point == point) {
                open.push((ctl, info.points_end));
            }
            open.last().map(|(ctl, _)| *ctl)
        };
        (0..self.points.len() as PointId).map(innermost).collect()
    }

    /// The locals that no loop writes, a bit for each.
    pub fn still(&self) -> Vec<u64> {
        let mut still = vec![u64::MAX; self.locals.len() / 64];
        still.push((1 << (self.locals.len() % 64)) - 1);
        // What inner loops write is within what outer ones do, which come before them.
        let mut seen = 0;
        for (start, end) in self.ctls.iter().filter(|info| info.kind.is_loop()).map(|info| info.writes) {
            let new = start.max(seen)..end.max(seen);
            seen = new.end;
            self.writes[new.start as usize..new.end as usize]
                .iter()
                .for_each(|&local| remove(&mut still, local));
        }
        still
    }

    /// Keeps its memory alone.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.ctls.clear();
        self.points.clear();
        for mut region in self.regions.drain(..) {
            region.closers.clear();
            region.items.clear();
            self.spare.push(region);
        }
        self.types.clear();
        self.locals.clear();
        self.writes.clear();
        self.first_loop = None;
    }
}

/// A piece of an emitted body that stands for original code.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Offset in the body.
    pub at: u32,
    /// Offset in the original module.
    pub from: u32,
    /// Bytes in the body.
    pub len: u32,
}
