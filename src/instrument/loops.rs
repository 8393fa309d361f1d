//! Loops: one whose header is a suspension point, one that is a point before its first pass alone, one whose body stands there
//! several times, and one that stands there twice: to be passed as often as computed before, or with a check in each pass.
//!
//! ```text
//! block $done                 a short innermost loop, twice under one check
//!   loop $header
//!     block $second
//!       body                    a branch to the loop: br $second
//!       br $done
//!     end
//!     block $check
//!       body                    a branch to the loop: br $check
//!       br $done
//!     end
//!     fuel -= 2 * charge
//!     if (fuel < 0) { save; br $exit }
//!     br $header
//!   end
//! end
//! ```

use super::code::Slot;
use super::counted::{Bound, Distance, Passes};
use super::emit::{Emitter, Role};
use super::points::{Ctl, Op, OpKind};
use super::sink::Sink;
use wasm_encoder::BlockType;
use wasmparser::ValType;

/// For a condition that does not matter, and folds away.
const ANY_CONDITION: i32 = 7741;
/// How many passes there are, at least, where it pays to compute what they cost.
const PASSES_MIN: i64 = 5;
/// In loops with more writes of locals, none are looked for.
const WRITES_MAX: usize = 4096;

impl Emitter<'_, '_, '_> {
    pub(super) fn enter_loop(&mut self, ctl: Ctl, op: &Op) {
        self.come_to(ctl);
        let info = &self.scan.ctls[ctl as usize];
        if info.ahead == 0 {
            return self.begin_loop(ctl, op);
        }
        let ty = self.cx.types.block_type(&[], self.scan.types(info.results));
        let done = self.block(ty);
        self.begin_loop(ctl, op);
        self.pass_ahead(ctl, op, done);
    }

    /// All operands go to locals, and the label `Before` ends. Values that were restored right before meet those of the run there: makes each
    /// the result of an instruction, which does nothing and folds away. Else they are arguments of a block, and Cranelift passes them on, from
    /// block to block, all through the loop, though nothing there writes them (DESIGN.md, What Cranelift does).
    pub(super) fn come_to(&mut self, ctl: Ctl) {
        let info = &self.scan.ctls[ctl as usize];
        let operands = self.scan.types(info.operands());
        self.spill(self.spilled.len(), operands);
        self.end_block(); // the label `Before`
        if self.role != Role::Hot && self.cx.options.settled && !self.scan.is_first(info.region) {
            let slots = self.frames.slots(info.point).iter();
            let restored = slots.filter(|slot| self.frames.loads_there(info.outer, slot.local));
            settle(&mut Sink::new(&mut self.code), restored);
        }
    }

    /// Begins a loop that stands for the one whose first operator is `op`. Gives its level.
    pub(super) fn open_loop(&mut self, ty: BlockType, op: &Op) -> u32 {
        let at = self.code.len();
        self.sink().loop_(ty);
        self.origin(at, op.start);
        self.open += 1;
        self.open - 1
    }

    /// Behind the label `Before`, with all operands in locals.
    fn begin_loop(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let params = self.spilled.len() + info.beneath.len();
        for (i, &ty) in self.scan.types(info.params).iter().enumerate() {
            let temp = self.temp(params + i, ty);
            self.get_or_zero(temp, ty);
        }
        let ty = self.cx.types.block_type(self.scan.types(info.params), self.scan.types(info.results));
        let header = self.open_loop(ty, op);
        self.push_label(header, self.scan.types(info.beneath));
        self.spill(params, self.scan.types(info.params));
        self.settle_written(ctl);
        self.open_region(info.region, Some(ctl));
        self.reload(params, self.scan.types(info.params));
    }

    /// The same at the header, for values that the loop writes, if there are loops inside: all through those they would be passed on.
    fn settle_written(&mut self, ctl: Ctl) {
        let scan = self.scan;
        let info = &scan.ctls[ctl as usize];
        let written = &scan.writes[info.writes.0 as usize..info.writes.1 as usize];
        if !info.has_loops || written.len() > WRITES_MAX || !self.cx.options.settled {
            return;
        }
        let mut written = written.to_vec();
        written.sort_unstable();
        let slots = self.frames.slots(info.point).iter();
        let written = slots.filter(|slot| written.binary_search(&slot.local).is_ok());
        settle(&mut Sink::new(&mut self.code), written);
    }

    /// A loop that charges for all its passes at once, and is copied as it is.
    pub(super) fn enter_counted(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        self.come_to(ctl);
        self.charge_passes(ctl);
        self.save_if(info.point);
        self.reload(self.spilled.len() + info.beneath.len(), self.scan.types(info.params));
        self.copy(op.start, op.end);
        self.open += 1;
        self.push_label(self.open - 1, self.scan.types(info.beneath));
    }

    /// How far the end of a loop is that has neither parameters nor results, if that can be computed.
    pub(super) fn distance(&self, ctl: Ctl) -> Option<Distance> {
        let info = &self.scan.ctls[ctl as usize];
        match info.counted {
            Some(Passes::Computed(distance)) if info.params.is_empty() && info.results.is_empty() => {
                Some(distance)
            }
            _ => None,
        }
    }

    /// The same, where a copy of the loop without checks pays.
    pub(super) fn computed(&self, ctl: Ctl) -> Option<Distance> {
        self.distance(ctl).filter(|_| self.cx.options.passes_at_once)
    }

    /// Computes how far it is to the end of a loop, and leaves it on the stack as an i64.
    pub(super) fn push_distance(&mut self, Distance { local, by, to, down, wide, .. }: Distance) {
        let mut sink = self.sink();
        let from = Bound::Local { local, by };
        let (end, begin) = if down { (from, to) } else { (to, from) };
        push_bound(&mut sink, end, wide);
        push_bound(&mut sink, begin, wide);
        match wide {
            true => sink.i64_sub(),
            false => sink.i32_sub().i64_extend_i32_u(),
        };
    }

    /// A whole innermost loop, whose first operator is `op`. If there is fuel for all of its passes, it is charged for them at once, and
    /// does not check; else each pass charges and checks for itself, which comes to the same. Gives the index of its last one.
    pub(super) fn pass_at_once_or_one_by_one(&mut self, ctl: Ctl, op: &Op, distance: Distance) -> usize {
        let info = &self.scan.ctls[ctl as usize];
        self.come_to(ctl); // it has no parameters
        let done = self.block(BlockType::Empty);
        self.pass_at_once(ctl, op, distance, done);
        self.begin_loop(ctl, op);
        self.body(info.start + 1, info.end, op);
        self.end_block();
        self.pop_label();
        self.end_block();
        self.uncover(ctl);
        info.end
    }

    /// A copy of a loop without checks, for some passes at least, and if there is fuel for all of them. Behind it is the end of `done`.
    fn pass_at_once(&mut self, ctl: Ctl, op: &Op, distance: Distance, done: u32) {
        let info = &self.scan.ctls[ctl as usize];
        self.enough_passes(distance);
        self.sink().if_(BlockType::Empty);
        self.open += 1;
        let left = self.fuel_behind(distance, info.charge);
        self.open_if(true);
        let fuel = self.cx.hidden.loop_fuel;
        self.sink().local_get(left).global_set(fuel);
        self.loop_unchecked(ctl, op);
        let depth = self.depth(done);
        self.sink().br(depth);
        self.end_block();
        self.end_block();
    }

    /// A copy of a loop without checks.
    pub(super) fn loop_unchecked(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let header = self.open_loop(BlockType::Empty, op);
        self.push_label(header, self.scan.types(info.beneath));
        self.body(info.start + 1, info.end, op);
        self.pop_label();
        self.end_block();
    }

    /// The operators of a loop between its first and its last one.
    pub(super) fn body(&mut self, first: usize, last: usize, op: &Op) {
        let from = self.ops(first..last, op.end);
        if !self.scan.ops[last].dead_before {
            self.copy(from, self.scan.ops[last].start);
        }
    }

    /// One body of a loop that stands there several times, of which the innermost label is that of the next; behind the end of `done` is what
    /// follows the loop.
    pub(super) fn pass(&mut self, ctl: Ctl, op: &Op, done: u32) {
        let scan = self.scan;
        let info = &scan.ctls[ctl as usize];
        let (first, last) = (info.start + 1, info.end);
        self.set_repeated(true);
        if self.ends_with_its_condition(ctl) {
            let from = self.ops(first..last - 1, op.end);
            self.copy(from, scan.ops[last - 1].start);
            self.sink().i32_eqz();
            let depth = self.depth(done);
            self.branch_rarely(depth);
        } else {
            self.body(first, last, op);
            if !scan.ops[last].dead_before {
                let depth = self.depth(done);
                self.sink().br(depth);
            }
        }
        self.set_repeated(false);
    }

    /// Keeps how far it is to the end of a loop, and leaves on the stack whether those are enough passes.
    fn enough_passes(&mut self, distance: Distance) {
        self.push_distance(distance);
        let far = self.bulk_locals();
        // So many passes, and once more.
        self.sink().local_tee(far).i64_const((PASSES_MIN - 1) << distance.shift).i64_ge_s();
    }

    /// Computes what fuel is left behind all passes of a loop, each of which costs `charge`, and leaves on the stack whether there
    /// is any. Gives the local with it.
    fn fuel_behind(&mut self, distance: Distance, charge: u64) -> u32 {
        let Distance { shift, wide, .. } = distance;
        let (far, fuel) = (self.bulk_locals(), self.cx.hidden.loop_fuel);
        let left = far + 1;
        let mut sink = self.sink();
        sink.global_get(fuel).local_get(far).i64_const(i64::from(shift)).i64_shr_u();
        sink.i64_const(1).i64_add().i64_const(charge as i64);
        sink.i64_mul().i64_sub().local_tee(left);
        // Negative as well if the local comes by its end, or if that is too far to be computed with.
        if shift > 0 {
            sink.i64_const(0).local_get(far).i64_const((1 << shift) - 1).i64_and().i64_sub().i64_or();
        }
        if wide {
            sink.i64_const(0).local_get(far).i64_const(40).i64_shr_u().i64_sub().i64_or();
        }
        sink.i64_const(0).i64_ge_s();
        left
    }

    /// A whole innermost loop, whose first operator is `op`. Gives the index of its last one.
    pub(super) fn repeat(&mut self, ctl: Ctl, op: &Op) -> usize {
        let scan = self.scan;
        let info = &scan.ctls[ctl as usize];
        self.come_to(ctl); // it has no parameters
        let ty = self.cx.types.block_type(&[], self.scan.types(info.results));
        let done = self.block(ty);
        let header = self.open_loop(ty, op);
        let passes = info.passes.unwrap_or(1);
        for _ in 0..passes {
            let next = self.block(BlockType::Empty);
            self.push_label(next, self.scan.types(info.beneath));
            self.pass(ctl, op, done);
            self.pop_label();
            self.end_block();
        }
        self.charge_passes(ctl);
        self.save_if(info.point);
        let depth = self.depth(header);
        self.sink().br(depth);
        self.end_block();
        self.end_block();
        self.uncover(ctl);
        info.end
    }

    /// Whether the loop's last operator is a branch back on a condition: then the next copy follows if it holds.
    fn ends_with_its_condition(&self, ctl: Ctl) -> bool {
        let info = &self.scan.ctls[ctl as usize];
        let [.., before, end] = &self.scan.ops[info.start..=info.end] else { return false };
        matches!(before.kind, OpKind::BrIf(0, false))
            && before.end == end.start
            && !before.dead_before
            && info.results.is_empty()
    }

    /// `br_if`, as a branch in a block of its own: what it takes along is then moved there, out of the way of the
    /// code that goes on.
    pub(super) fn branch_rarely(&mut self, depth: u32) {
        self.hint(false);
        self.sink().if_(BlockType::Empty).br(depth + 1).end();
    }
}

/// Makes each of these locals the result of an instruction; references are left alone.
fn settle<'s>(sink: &mut Sink<'_>, slots: impl Iterator<Item = &'s Slot>) {
    for &Slot { local, ty, .. } in slots.filter(|slot| !matches!(slot.ty, ValType::Ref(_))) {
        sink.local_get(local).local_get(local);
        match ty {
            ValType::I32 => sink.i32_and(),
            ValType::I64 => sink.i64_and(),
            _ => sink.i32_const(ANY_CONDITION).select(),
        };
        sink.local_set(local);
    }
}

/// A value before the first pass.
pub(super) fn push_bound(sink: &mut Sink<'_>, bound: Bound, wide: bool) {
    match bound {
        Bound::Number(number) if wide => drop(sink.i64_const(number as i64)),
        Bound::Number(number) => drop(sink.i32_const(number as i32)),
        Bound::Local { local, by: 0 } => drop(sink.local_get(local)),
        Bound::Local { local, by } if wide => drop(sink.local_get(local).i64_const(by as i64).i64_add()),
        Bound::Local { local, by } => drop(sink.local_get(local).i32_const(by as i32).i32_add()),
    }
}
