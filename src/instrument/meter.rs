//! The charges and the checks behind them, and the fuel of a rebuilt frame.

use wasm_encoder::BlockType;

use super::additions::run;
use super::chunks::Chunks;
use super::cost::BYTES_SHIFT;
use super::emit::Emitter;
use super::hidden::Hidden;
use super::points::{Ctl, CtlKind, Op, PointId, PointKind};

impl Emitter<'_, '_, '_> {
    /// Charges for a pass of a region's beginning, if that is a function or loop, and leaves on the stack
    /// whether the fuel is negative, or frames are being rebuilt.
    pub(super) fn charge_and_check(&mut self, ctl: Option<Ctl>) {
        let Hidden { entry_fuel, loop_fuel, .. } = *self.cx.hidden;
        match ctl.map(|c| &self.scan.ctls[c as usize]) {
            None if self.scan.entry_charge > 0 => self.charge(entry_fuel, self.scan.entry_charge),
            Some(info) if info.kind != CtlKind::Try && !info.sunk => self.charge(loop_fuel, info.charge),
            _ => self.push_not_running(),
        }
    }

    /// The check of a function or loop that has none at its entry or header. Nothing has happened since: what is saved is the
    /// state there.
    pub(super) fn check(&mut self, point: PointId) {
        let Hidden { entry_fuel, loop_fuel, .. } = *self.cx.hidden;
        match self.scan.points[point as usize].kind {
            PointKind::Loop(ctl) => self.charge(loop_fuel, self.scan.ctls[ctl as usize].charge),
            PointKind::Entry | PointKind::Call(_) => self.charge(entry_fuel, self.scan.entry_charge),
        }
        self.save_if(point);
    }

    /// The same behind the passes of a loop that charges there.
    pub(super) fn charge_passes(&mut self, ctl: Ctl) {
        let info = &self.scan.ctls[ctl as usize];
        self.charge(self.cx.hidden.loop_fuel, info.charge * u64::from(info.passes.unwrap_or(1)));
    }

    /// Charges to this fuel, and leaves on the stack whether it is negative.
    fn charge(&mut self, fuel: u32, charge: u64) {
        self.sink().global_get(fuel).i64_const(charge as i64).i64_sub().global_set(fuel);
        self.push_spent(fuel);
    }

    /// Leaves on the stack whether this fuel is negative.
    pub(super) fn push_spent(&mut self, fuel: u32) {
        self.sink().global_get(fuel).i64_const(0).i64_lt_s();
    }

    /// Leaves on the stack whether frames are being rebuilt, or saved.
    pub(super) fn push_not_running(&mut self) {
        let state = self.cx.hidden.state;
        self.sink().global_get(state);
    }

    /// An operation on memory, charged for its length behind it. The fuel must not get negative here, where nobody
    /// looks: what it lacks is borrowed, or owed, and the next check finds nothing left.
    pub(super) fn bulk(&mut self, wide: bool, op: &Op) {
        let (fuel, borrow, locals) = (self.cx.hidden.loop_fuel, self.cx.hidden.borrow, self.bulk_locals());
        let (len, left) = (locals, locals + 1);
        match wide {
            true => self.sink().local_tee(len),
            false => self.sink().i64_extend_i32_u().local_tee(len).i32_wrap_i64(),
        };
        self.copy(op.start, op.end);
        self.sink()
            .global_get(fuel)
            .local_get(len)
            .i64_const(BYTES_SHIFT)
            .i64_shr_u()
            .i64_sub()
            .local_tee(left);
        self.sink().i64_const(0).i64_lt_s();
        self.hint(false);
        let mut sink = self.sink();
        sink.if_(BlockType::Empty);
        // It is among those that are borrowed from.
        sink.local_get(left).global_get(fuel).i64_sub().call(borrow).local_set(left).end();
        sink.local_get(left).global_set(fuel);
    }

    /// The stack is rebuilt: there is what was granted, and in this fuel what is going to be charged to it again.
    pub(super) fn refuel(&mut self, fuel: u32, more: u64) {
        self.run();
        if more > 0 {
            self.sink().global_get(fuel).i64_const(more as i64).i64_add().global_set(fuel);
        }
    }

    /// The same, where the header is going to charge for a chunk.
    pub(super) fn refuel_chunk(&mut self, chunks: Chunks) {
        self.find_chunk(chunks);
        self.run();
        let fuel = self.cx.hidden.loop_fuel;
        self.sink().global_get(fuel);
        self.push_charge(chunks);
        self.sink().i64_add().global_set(fuel);
    }

    /// By code of its own: what lives through a call here would not be in registers elsewhere (`quicksort` 1.10x and 1.17x).
    fn run(&mut self) {
        let hidden = self.cx.hidden;
        run(&mut self.sink(), hidden);
    }
}
