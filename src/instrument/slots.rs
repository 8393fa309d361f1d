//! What the frame of each suspension point holds, and where.

use std::collections::{BTreeSet, HashSet};

use wasmparser::ValType;

use super::code::{Slot, in_sequence};
use super::dispatch::Lead;
use super::emit::Emitter;
use super::frame::{Kind, Layout, Place, TRAILER};
use super::points::{CtlKind, Point, PointId, PointKind, Reached};

/// So many times more values must be saved at all points together than there are, for one piece of code to
/// restore them.
const SHARED_MIN: usize = 2;

impl Emitter<'_, '_, '_> {
    /// Decides what the frames of all points hold, and where.
    pub(super) fn lay_out_frames(&mut self) {
        let locals: Vec<_> = self.scan.points.iter().map(|point| self.live_values(point)).collect();
        let shared = self.shared_slots(&locals);
        if let Some(all) = &shared {
            self.loads = Some(self.loads(&locals, all));
        }
        for (point, values) in self.scan.points.iter().zip(&locals) {
            let (slots, size, offsets) = match &shared {
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

    /// The points whose frames a region's dispatch restores, in order.
    pub(super) fn restored_in(&self, region: usize) -> Vec<PointId> {
        let point = |(lead, _)| match lead {
            Lead::Point(point) => Some(point),
            Lead::Into(_) => None,
        };
        self.leads(region).into_iter().filter_map(point).collect()
    }

    /// Places for all values of all points, if restoring them by few pieces of code saves code.
    fn shared_slots(&self, locals: &[Vec<(u32, ValType)>]) -> Option<Vec<Slot>> {
        let total: usize = locals.iter().map(Vec::len).sum();
        let mut all: Vec<(u32, ValType)> = locals.iter().flatten().copied().collect();
        all.sort_unstable_by_key(|(local, _)| *local);
        all.dedup_by_key(|(local, _)| *local);
        let plain = all.iter().all(|(_, ty)| !matches!(self.kind(*ty), Kind::Func | Kind::Exn));
        let shares = self.cx.options.shared_restore && plain && total > SHARED_MIN * all.len();
        shares.then(|| in_sequence(self.cx, &all).0)
    }

    /// What each region's dispatch loads, so that all values of all points are there: as far out as it can, but no
    /// value goes through a loop's header for a point inside that is not live there anyway. It would be
    /// carried along by every pass of the loop.
    fn loads(&self, locals: &[Vec<(u32, ValType)>], all: &[Slot]) -> Vec<Vec<Slot>> {
        let regions = &self.scan.regions;
        let of = |point: PointId| locals[point as usize].iter().map(|(local, _)| *local);
        // What is live at the beginning of a region: nothing is known to be at that of a `try_table`.
        let mut live: Vec<HashSet<u32>> = vec![HashSet::new(); regions.len()];
        let mut inner: Vec<Vec<usize>> = vec![vec![]; regions.len()];
        for (region, found) in regions.iter().enumerate() {
            for item in &found.items {
                let Reached::Inner(ctl) = *item else { continue };
                let info = &self.scan.ctls[ctl as usize];
                inner[region].push(info.region);
                if info.kind == CtlKind::Loop {
                    live[info.region] = of(info.point).collect();
                }
            }
        }
        let mut needed: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); regions.len()];
        let mut loads = vec![vec![]; regions.len()];
        // Inner regions come behind outer ones.
        for region in (0..regions.len()).rev() {
            let mut here: BTreeSet<u32> = self.restored_in(region).into_iter().flat_map(of).collect();
            for &within in &inner[region] {
                here.extend(needed[within].iter().filter(|local| live[within].contains(local)));
            }
            let slot =
                |local: &u32| all[all.binary_search_by_key(local, |slot| slot.local).expect("in the union")];
            loads[region] = here.iter().filter(|local| !live[region].contains(local)).map(slot).collect();
            needed[region] = here;
        }
        loads
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
