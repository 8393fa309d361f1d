//! What the frame of each suspension point holds, and where.

use wasmparser::ValType;

use super::code::{Slot, in_sequence};
use super::emit::Emitter;
use super::frame::{Kind, Layout, Place, TRAILER};
use super::points::{Point, PointKind};

/// So many times more values must be saved at all points together than there are, for one piece of code to
/// restore them.
const SHARED_MIN: usize = 2;

impl Emitter<'_, '_, '_> {
    /// Decides what the frames of all points hold, and where.
    pub(super) fn lay_out_frames(&mut self) {
        let locals: Vec<_> = self.scan.points.iter().map(|point| self.live_values(point)).collect();
        self.shared = self.shared_slots(&locals);
        for (point, values) in self.scan.points.iter().zip(&locals) {
            let (slots, size, offsets) = match &self.shared {
                None => {
                    let (slots, size) = in_sequence(self.cx, values);
                    (slots, size, vec![])
                }
                Some(all) => {
                    let find = |(local, _): &(u32, ValType)| {
                        all[all.binary_search_by_key(local, |slot| slot.local).expect("in the union")]
                    };
                    let slots: Vec<Slot> = values.iter().map(find).collect();
                    let size = slots.iter().map(|s| s.at + self.kind(s.ty).size()).max().unwrap_or(0);
                    let offsets = slots.iter().map(|slot| slot.at).collect();
                    (slots, size, offsets)
                }
            };
            let operands = point.stack.len();
            let kinds: Vec<Kind> = values.iter().map(|(_, ty)| self.kind(*ty)).collect();
            self.layouts.push(Layout {
                place: match point.kind {
                    PointKind::Entry => Place::Entry,
                    PointKind::Loop(_) => Place::Loop,
                    PointKind::Call(_) => Place::Call,
                },
                offset: point.offset,
                stack: kinds[..operands].to_vec(),
                locals: values.iter().map(|(local, _)| *local).zip(kinds).skip(operands).collect(),
                offsets,
                size,
            });
            self.slots.push(slots);
        }
        self.frame_size = self.layouts.iter().map(|layout| layout.size).max().unwrap_or(0);
        self.layouts.iter_mut().for_each(|layout| layout.size = self.frame_size + TRAILER);
    }

    /// Places for all values of all points, if restoring them by one piece of code saves code.
    fn shared_slots(&self, locals: &[Vec<(u32, ValType)>]) -> Option<Vec<Slot>> {
        let total: usize = locals.iter().map(Vec::len).sum();
        let mut all: Vec<(u32, ValType)> = locals.iter().flatten().copied().collect();
        all.sort_unstable_by_key(|(local, _)| *local);
        all.dedup_by_key(|(local, _)| *local);
        let plain = all.iter().all(|(_, ty)| !matches!(self.kind(*ty), Kind::Func | Kind::Exn));
        (self.cx.options.shared_restore && plain && total > SHARED_MIN * all.len())
            .then(|| in_sequence(self.cx, &all).0)
    }

    /// What is live at a point, as locals that hold it: the operand stack of all constructs around it, then
    /// the live locals.
    fn live_values(&mut self, point: &Point) -> Vec<(u32, ValType)> {
        let operands = point.stack.iter().enumerate();
        let mut values: Vec<_> = operands.map(|(height, &ty)| (self.temp(height, ty), ty)).collect();
        let entry = matches!(point.kind, PointKind::Entry);
        let live = self.scan.liveness.live_at(point.block);
        let live = live.filter(|&local| !entry || local < self.scan.params);
        values.extend(live.map(|local| (local, self.scan.locals[local as usize])));
        values
    }
}
