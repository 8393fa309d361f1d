//! Loops whose passes can be computed, from cost model 6 on: charged for and checked once for many passes.
//!
//! ```text
//! block $done
//!   block $all
//!     more = far >> shift                             the passes to the end but one, if `far` is a multiple of the step
//!     if (more < few) br $all                         from cost model 8 on: they are not charged for
//!     if (more <= most) {                             ;; hint: taken
//!       fuel -= (more + 1) * charge
//!       if (fuel < 0) { save; br $exit }
//!       br $all
//!     }
//!     more = min(far >> shift, most)                  a chunk
//!     fuel -= (more + 1) * charge
//!     if (fuel < 0) { save; br $exit }
//!     to = ...                                        the counter's value behind the chunk's last pass
//!     loop $chunk
//!       loop { body, but compares with `to` }
//!       ...                                           as above, from `more` to `to`
//!       br $chunk
//!     end
//!   end ;; $all
//!   loop { body }
//! end
//! ```
//!
//! Where what the loop compares with cannot be replaced, a counter of our own is looked at behind each pass, in place of the loop
//! `$chunk`:
//!
//! ```text
//!   left = more
//!   loop $pass
//!     block $next
//!       body                                        a branch to the loop: br $next
//!       br $done
//!     end
//!     left -= 1
//!     if (left < 0) {                                 ;; hint: not taken
//!       ...                                           as above
//!       left = more
//!     }
//!     br $pass
//!   end
//! ```
//!
//! How many passes are charged for follows from the locals at the header, and so does it when a frame is rebuilt there. In cost
//! model 5 it followed from the fuel that was left as well (`loops.rs`): a loop in which the guest trapped had been charged for to
//! its end, or not, and the fuel of a run that ends so depended on its slices.

use wasm_encoder::BlockType;
use wasmparser::ValType;

use super::cost;
use super::counted::{Bound, Distance, Written};
use super::emit::Emitter;
use super::loops::push_bound;
use super::points::{Ctl, Op};

/// How a loop is charged for.
#[derive(Clone, Copy)]
pub struct Chunks {
    distance: Distance,
    /// For a pass.
    charge: u64,
    /// Passes at once, but one.
    most: u64,
    /// So many are not charged for, if there are no more.
    few: u64,
}

/// Labels of a loop in chunks: behind it, and before it as it is given, for all passes that are left.
#[derive(Clone, Copy)]
struct Ways {
    done: u32,
    all: u32,
}

impl Emitter<'_, '_, '_> {
    /// How a loop is charged for, if it is for many passes at once.
    pub(super) fn chunks(&self, ctl: Ctl) -> Option<Chunks> {
        let info = &self.scan.ctls[ctl as usize];
        if self.cx.options.cost_model < cost::CHUNKS || info.passes.is_some() {
            return None;
        }
        let distance = self.distance(ctl)?;
        Some(Chunks { distance, charge: info.charge, most: cost::chunk(info.charge) - 1, few: info.few })
    }

    /// A whole innermost loop, whose first operator is `op`. Gives the index of its last one.
    pub(super) fn pass_in_chunks(&mut self, ctl: Ctl, op: &Op, chunks: Chunks) -> usize {
        let info = &self.scan.ctls[ctl as usize];
        self.come_to(ctl); // it has no parameters
        let done = self.block(BlockType::Empty);
        let ways = Ways { done, all: self.block(BlockType::Empty) };
        self.next_chunk(ctl, chunks, ways);
        match chunks.distance.written {
            Some(written) => self.pass_to_ends(ctl, op, chunks, written, ways),
            None => self.pass_some(ctl, op, chunks, ways),
        }
        self.end_block();
        // In no loop of ours, through which Cranelift would pass on what it reads.
        self.loop_unchecked(ctl, op);
        self.end_block();
        self.uncover(ctl);
        info.end
    }

    /// Computes in the first of two locals how far the end of the loop is, and in the second one the passes of a chunk, but one.
    pub(super) fn find_chunk(&mut self, Chunks { distance, most, .. }: Chunks) {
        self.push_distance(distance);
        let far = self.bulk_locals();
        let more = far + 1;
        let (shift, most) = (i64::from(distance.shift), most as i64);
        let mut sink = self.sink();
        sink.local_tee(far).i64_const(shift).i64_shr_u().local_tee(more).i64_const(most);
        sink.local_get(more).i64_const(most).i64_lt_u().select().local_set(more);
    }

    /// The charge for these passes.
    pub(super) fn push_charge(&mut self, Chunks { charge, .. }: Chunks) {
        let more = self.bulk_locals() + 1;
        self.sink().local_get(more).i64_const(charge as i64).i64_mul().i64_const(charge as i64).i64_add();
    }

    /// Goes on to all passes if they are few, or charged for; else charges for a chunk.
    fn next_chunk(&mut self, ctl: Ctl, chunks: Chunks, ways: Ways) {
        let Chunks { distance, most, few, .. } = chunks;
        let (more, at_once) = (self.bulk_locals() + 1, self.cx.options.passes_at_once);
        self.push_distance(distance);
        // What is not a multiple of the step becomes a large number.
        self.sink().i64_const(i64::from(distance.shift)).i64_rotr().local_set(more);
        if few > 0 {
            let all = self.depth(ways.all);
            self.sink().local_get(more).i64_const(few as i64).i64_lt_u().br_if(all);
        }
        if at_once {
            self.sink().local_get(more).i64_const(most as i64).i64_le_u();
            self.open_if(true);
            self.charge_chunk(ctl, chunks);
            let all = self.depth(ways.all);
            self.sink().br(all);
            self.end_block();
        }
        self.find_chunk(chunks);
        self.charge_chunk(ctl, chunks);
    }

    /// Charges, and checks.
    fn charge_chunk(&mut self, ctl: Ctl, chunks: Chunks) {
        let fuel = self.cx.hidden.loop_fuel;
        self.sink().global_get(fuel);
        self.push_charge(chunks);
        self.sink().i64_sub().global_set(fuel);
        self.push_spent(fuel);
        self.save_if(self.scan.ctls[ctl as usize].point);
    }

    /// One chunk after another, each as the loop is given, but to another end, in place of what is `written` in the loop.
    fn pass_to_ends(&mut self, ctl: Ctl, op: &Op, chunks: Chunks, written: Written, ways: Ways) {
        let to = self.new_local(if chunks.distance.wide { ValType::I64 } else { ValType::I32 });
        self.find_end(chunks, to);
        let chunk = self.open_loop(BlockType::Empty, op);
        let (from, end) = (op.end + written.from, op.end + written.to);
        self.replaced = Some((Written { from, to: end, ..written }, to));
        self.loop_unchecked(ctl, op);
        debug_assert!(self.replaced.is_none());
        if !self.cx.options.passes_at_once {
            // The chunk may be the last one.
            let (far, shift) = (self.bulk_locals(), i64::from(chunks.distance.shift));
            self.sink().local_get(far).local_get(far + 1).i64_const(shift).i64_shl().i64_eq();
            let done = self.depth(ways.done);
            self.branch_rarely(done);
        }
        self.next_chunk(ctl, chunks, ways);
        self.find_end(chunks, to);
        let chunk = self.depth(chunk);
        self.sink().br(chunk);
        self.end_block();
    }

    /// Computes the end of a chunk: outside of the loop that it ends, or Cranelift would compute it from what it is made of at each pass.
    fn find_end(&mut self, Chunks { distance, .. }: Chunks, to: u32) {
        let Distance { local, by, shift, down, wide, .. } = distance;
        let more = self.bulk_locals() + 1;
        let mut sink = self.sink();
        push_bound(&mut sink, Bound::Local { local, by }, wide);
        sink.local_get(more).i64_const(i64::from(shift)).i64_shl();
        match (wide, down) {
            (true, false) => sink.i64_add(),
            (true, true) => sink.i64_sub(),
            (false, false) => sink.i32_wrap_i64().i32_add(),
            (false, true) => sink.i32_wrap_i64().i32_sub(),
        };
        sink.local_set(to);
    }

    /// One chunk after another, with a look at a counter behind each pass.
    fn pass_some(&mut self, ctl: Ctl, op: &Op, chunks: Chunks, ways: Ways) {
        let info = &self.scan.ctls[ctl as usize];
        let (more, left) = (self.bulk_locals() + 1, self.new_local(ValType::I64));
        self.sink().local_get(more).local_set(left);
        let pass = self.open_loop(BlockType::Empty, op);
        let next = self.block(BlockType::Empty);
        self.push_label(next, self.scan.types(info.beneath));
        self.body(info.start + 1, info.end, op);
        self.pop_label();
        if !self.scan.ops[info.end].dead_before {
            let depth = self.depth(ways.done);
            self.sink().br(depth);
        }
        self.end_block();
        self.sink().local_get(left).i64_const(1).i64_sub().local_tee(left).i64_const(0).i64_lt_s();
        self.open_if(false);
        self.next_chunk(ctl, chunks, ways);
        self.sink().local_get(more).local_set(left);
        self.end_block();
        let pass = self.depth(pass);
        self.sink().br(pass);
        self.end_block();
    }
}
