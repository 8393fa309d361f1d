//! The charges and the checks behind them, and the fuel of a rebuilt frame.

use super::chunks::Chunks;
use super::emit::Emitter;
use wasm_encoder::BlockType;

use super::cost::BYTES_SHIFT;
use super::points::{Ctl, CtlKind, Op, PointId, PointKind};

impl Emitter<'_, '_, '_> {
    /// Charges for a pass of a region's beginning, if that is a function or loop, and leaves on the stack
    /// whether the fuel is negative.
    pub(super) fn charge_and_check(&mut self, ctl: Option<Ctl>) {
        let info = ctl.map(|c| &self.scan.ctls[c as usize]);
        let charges = info.is_none_or(|i| i.kind != CtlKind::Try && !i.sunk);
        let charge = info.map_or(self.scan.entry_charge, |i| i.charge);
        self.charge(if charges { charge } else { 0 });
    }

    /// The check of a function or loop that has none at its entry or header. Nothing has happened since: what is saved is the
    /// state there.
    pub(super) fn check(&mut self, point: PointId) {
        self.charge(match self.scan.points[point as usize].kind {
            PointKind::Loop(ctl) => self.scan.ctls[ctl as usize].charge,
            PointKind::Entry | PointKind::Call(_) => self.scan.entry_charge,
        });
        self.save_if(point);
    }

    /// The same behind the passes of a loop that charges there.
    pub(super) fn charge_passes(&mut self, ctl: Ctl) {
        let info = &self.scan.ctls[ctl as usize];
        self.charge(info.charge * u64::from(info.passes.unwrap_or(1)));
    }

    fn charge(&mut self, charge: u64) {
        let fuel = self.cx.hidden.fuel;
        if charge > 0 {
            self.sink().global_get(fuel).i64_const(charge as i64).i64_sub().global_set(fuel);
        }
        self.push_spent();
    }

    /// Leaves on the stack whether the fuel is negative.
    pub(super) fn push_spent(&mut self) {
        let fuel = self.cx.hidden.fuel;
        self.sink().global_get(fuel).i64_const(0).i64_lt_s();
    }

    /// An operation on memory, charged for its length behind it. The fuel must not get negative here, where nobody
    /// looks: what it lacks is owed, and the next check finds nothing left.
    pub(super) fn bulk(&mut self, wide: bool, op: &Op) {
        let (fuel, owed, locals) = (self.cx.hidden.fuel, self.cx.hidden.owed, self.bulk_locals());
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
        sink.global_get(owed).local_get(left).i64_sub().global_set(owed);
        sink.i64_const(0).local_set(left).end();
        sink.local_get(left).global_set(fuel);
    }

    /// The stack is rebuilt: the fuel is what was granted, and what the loop's header is going to charge again.
    pub(super) fn refuel(&mut self, more: u64) {
        self.push_grant();
        if more > 0 {
            self.sink().i64_const(more as i64).i64_add();
        }
        let fuel = self.cx.hidden.fuel;
        self.sink().global_set(fuel);
    }

    /// The same, where the header is going to charge for a chunk.
    pub(super) fn refuel_chunk(&mut self, chunks: Chunks) {
        self.find_chunk(chunks);
        self.push_grant();
        self.push_charge(chunks);
        let fuel = self.cx.hidden.fuel;
        self.sink().i64_add().global_set(fuel);
    }

    fn push_grant(&mut self) {
        let (grant, rewinding) = (self.cx.hidden.grant, self.cx.hidden.rewinding);
        self.sink().i32_const(0).global_set(rewinding).global_get(grant);
    }
}
