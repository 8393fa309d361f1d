//! The charge at a function's entry and at a loop's header, the check behind it, and the fuel of a rebuilt frame.
//!
//! An innermost loop without calls that can suspend keeps the fuel in a local: nobody else changes it there. It
//! is read once before the loop; each pass subtracts from the local and writes the result through to the global.
//! So a pass does not wait for the memory that the last one wrote, and the global is right at every
//! instruction: exits, exceptions, tail calls and traps need nothing.

use wasmparser::ValType;

use super::emit::Emitter;
use super::points::{Ctl, CtlKind};

impl Emitter<'_, '_, '_> {
    /// Whether the loop has no point but its own.
    fn keeps_fuel(&self, ctl: Ctl) -> bool {
        let info = &self.scan.ctls[ctl as usize];
        info.kind == CtlKind::Loop && info.points_end == info.point + 1
    }

    /// Right before a loop, behind the label at which it is resumed.
    pub(super) fn read_fuel(&mut self, ctl: Ctl) {
        if self.keeps_fuel(ctl) {
            let (fuel, local) = (self.cx.hidden.fuel, self.fuel_local());
            self.sink().global_get(fuel).local_set(local);
        }
    }

    /// Charges for a pass of a region's beginning, if that is a function or loop, and leaves on the stack
    /// whether the fuel is negative.
    pub(super) fn charge_and_check(&mut self, ctl: Option<Ctl>) {
        let fuel = self.cx.hidden.fuel;
        let info = ctl.map(|c| &self.scan.ctls[c as usize]);
        let charge = info.map_or(self.scan.entry_charge, |i| i.charge) as i64;
        let charges = info.is_none_or(|i| i.kind != CtlKind::Try);
        if ctl.is_some_and(|c| self.keeps_fuel(c)) {
            let local = self.fuel_local();
            self.sink().local_get(local).i64_const(charge).i64_sub().local_tee(local).global_set(fuel);
            self.sink().local_get(local);
        } else {
            if charges {
                self.sink().global_get(fuel).i64_const(charge).i64_sub().global_set(fuel);
            }
            self.sink().global_get(fuel);
        }
        self.sink().i64_const(0).i64_lt_s();
    }

    /// The stack is rebuilt: the fuel is what was granted, and this.
    pub(super) fn refuel(&mut self, more: u64) {
        let (fuel, grant, rewinding) = (self.cx.hidden.fuel, self.cx.hidden.grant, self.cx.hidden.rewinding);
        self.sink().i32_const(0).global_set(rewinding).global_get(grant);
        if more > 0 {
            self.sink().i64_const(more as i64).i64_add();
        }
        self.sink().global_set(fuel);
    }

    fn fuel_local(&mut self) -> u32 {
        let (base, types) = (self.scan.locals.len() as u32, &mut self.temp_types);
        *self.fuel_local.get_or_insert_with(|| {
            types.push(ValType::I64);
            base + types.len() as u32 - 1
        })
    }
}
