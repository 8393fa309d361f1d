//! What the frame of each suspension point holds, and where.

use std::borrow::Cow;

use super::code::{Slot, kind};
use super::dispatch::{Lead, leads};
use super::emit::{Context, Emitter};
use super::frame::{Place, TRAILER};
use super::inline::InlineTable;
use super::liveness::{Block, insert};
use super::points::{CtlKind, Point, PointId, PointKind, Scan};
use super::saves::Saves;
use super::sink::leb;

/// So many times more values must be saved at all points together than there are, for one piece of code to
/// restore them.
const SHARED_MIN: usize = 2;

/// The frames of one function's points.
#[derive(Default)]
pub(super) struct Frames {
    /// Bytes of the values of the largest frame: all have that size, so that the exit that they share knows it.
    pub(super) size: u32,
    /// The regions' dispatches restore values for all points that they lead to; else each point restores its own.
    pub(super) shared: bool,
    /// The values of all points, one point after another: operands, then locals, ascending. And where each point's end.
    slots: Vec<Slot>,
    ends: Vec<usize>,
    /// What each region's dispatch restores, ascending, if they do; the last region first.
    loads: Vec<Slot>,
    loads_ends: Vec<usize>,
    /// The layouts, as a frame table has them.
    encoded: Vec<u8>,
    places: Places,
    needed: Needed,
    /// Where they are saved, if `shared`.
    saves: Saves,
}

/// What regions need that their dispatches restore, or those around them; memory that is used again.
#[derive(Default)]
struct Needed {
    regions: Vec<NeededRegion>,
    /// By region: the locals that it needs, a bit for each.
    sets: Vec<u64>,
    /// The locals that are live at a region's header.
    live: Vec<u64>,
}

#[derive(Clone, Copy)]
struct NeededRegion {
    outer: usize,
    begins: Begins,
}

/// What is live at a region's beginning, and need not be restored there.
#[derive(Clone, Copy)]
enum Begins {
    /// Nothing that is known.
    Anyhow,
    /// The values of the point at a loop's header.
    At(PointId),
    /// The live locals of a block.
    With(Block),
}

/// The values of all points together, each with a place of its own.
#[derive(Default)]
struct Places {
    /// By local; only of those that are of some point.
    slots: Vec<Option<Slot>>,
    /// Some lie in side tables.
    aside: bool,
}

impl Frames {
    pub(super) fn clear(&mut self) {
        self.size = 0;
        self.shared = false;
        self.slots.clear();
        self.ends.clear();
        self.loads.clear();
        self.loads_ends.clear();
        self.encoded.clear();
        self.saves.clear();
    }

    /// The function can suspend.
    pub(super) fn exist(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The values of a point's frame.
    pub(super) fn slots(&self, id: PointId) -> &[Slot] {
        &self.slots[range(&self.ends, id as usize)]
    }

    /// The values that a region's dispatch restores.
    pub(super) fn loads(&self, region: usize) -> &[Slot] {
        &self.loads[range(&self.loads_ends, self.loads_ends.len() - 1 - region)]
    }

    /// Whether a region's dispatch restores this value, for what lies in the region.
    pub(super) fn loads_there(&self, region: usize, local: u32) -> bool {
        match self.shared {
            true => self.loads(region).binary_search_by_key(&local, |slot| slot.local).is_ok(),
            false => region == 0,
        }
    }

    /// The values that the point itself restores: all, or those in side tables alone, which come off them in the order in which they were put there.
    pub(super) fn restored_at(&self, id: PointId) -> Cow<'_, [Slot]> {
        match (self.shared, self.places.aside) {
            (false, _) => Cow::Borrowed(self.slots(id)),
            (true, false) => Cow::Borrowed(&[]),
            (true, true) => self.slots(id).iter().filter(|slot| slot.kind.is_aside()).copied().collect(),
        }
    }

    /// What a point saves itself, and the node of [`Saves`] that it goes on to.
    pub(super) fn saves(&self, id: PointId) -> (u32, &[Slot]) {
        if self.shared { self.saves.point(id) } else { (0, self.slots(id)) }
    }

    /// How many nodes there are besides the exit.
    pub(super) fn nodes(&self) -> u32 {
        if self.shared { self.saves.nodes() - 1 } else { 0 }
    }

    /// What a node saves, and the one that it goes on to.
    pub(super) fn node(&self, node: u32) -> (u32, &[Slot]) {
        if self.shared { self.saves.node(node) } else { (0, &[]) }
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Adds what is live at a point to the slots, with places one after another. The operands are there.
    fn add_locals(&mut self, cx: &Context<'_, '_>, scan: &Scan, point: &Point) {
        // What is no parameter is zero at the entry.
        let locals = match point.kind {
            PointKind::Entry => &scan.locals[..scan.params as usize],
            _ => &scan.locals,
        };
        scan.liveness.each_at(point.block, |local| {
            if let Some(&ty) = locals.get(local as usize) {
                self.slots.push(Slot { local, ty, kind: kind(cx, ty), at: 0 });
            }
        });
        self.ends.push(self.slots.len());
    }

    /// Gives all values places in their frames.
    fn place(&mut self, cx: &Context<'_, '_>, locals: usize) {
        self.shared = cx.options.shared_restore && self.places.find(&self.slots, locals);
        let mut start = 0;
        for &end in &self.ends {
            let mut next = 0;
            for slot in &mut self.slots[start..end] {
                slot.at = match (self.shared, self.places.slots.get(slot.local as usize)) {
                    (true, Some(Some(placed))) => placed.at,
                    _ => next,
                };
                next = slot.at + slot.kind.size();
                self.size = self.size.max(next);
            }
            start = end;
        }
    }

    /// Encodes the layouts, as `Vec<Layout>` in postcard's form.
    fn encode(&mut self, table: &InlineTable, scan: &Scan) {
        let out = &mut self.encoded;
        leb(out, scan.points.len() as u64);
        for (id, point) in scan.points.iter().enumerate() {
            let slots = &self.slots[range(&self.ends, id)];
            let (stack, locals) = slots.split_at(point.stack.len());
            out.push(match point.kind {
                PointKind::Entry => Place::Entry,
                PointKind::Loop(_) => Place::Loop,
                PointKind::Call(_) => Place::Call,
            } as u8);
            let (offset, inlined) = table.original(point.offset);
            leb(out, u64::from(offset));
            leb(out, stack.len() as u64);
            out.extend(stack.iter().map(|slot| slot.kind as u8));
            leb(out, locals.len() as u64);
            for slot in locals {
                match slot.local {
                    0..0x80 => out.extend_from_slice(&[slot.local as u8, slot.kind as u8]),
                    _ => {
                        leb(out, u64::from(slot.local));
                        out.push(slot.kind as u8);
                    }
                }
            }
            let offsets = if self.shared { slots } else { &[] };
            leb(out, offsets.len() as u64);
            offsets.iter().for_each(|slot| leb(out, u64::from(slot.at)));
            leb(out, u64::from(self.size + TRAILER));
            out.push(u8::from(inlined.is_some()));
            if let Some(call) = inlined {
                let parts = [call.offset, call.callee, point.callers, call.first_local];
                parts.into_iter().for_each(|part| leb(out, u64::from(part)));
            }
        }
    }

    fn find_saves(&mut self, cx: &Context<'_, '_>, scan: &Scan, locals: usize) {
        let mut saves = std::mem::take(&mut self.saves);
        let still = || if cx.options.saves_of_loops { scan.still() } else { vec![] };
        saves.find(&scan.innermost_loops(), still, |id| self.slots(id as PointId), locals);
        self.saves = saves;
    }

    /// What each region's dispatch loads, so that all values of all points are there: as far out as it can, but no
    /// value goes through a loop's header for a point inside that is not live there anyway. It would be
    /// carried along by every pass of the loop.
    fn find_loads(&mut self, scan: &Scan, locals: usize) {
        let words = locals.div_ceil(64);
        let Needed { regions, sets, live } = &mut self.needed;
        regions.clear();
        regions.resize(scan.regions.len(), NeededRegion { outer: 0, begins: Begins::Anyhow });
        for info in &scan.ctls {
            let begins = match info.kind {
                // It restores what is live at its own header as well.
                CtlKind::Loop if scan.is_first(info.region) => Begins::Anyhow,
                CtlKind::Loop => Begins::At(info.point),
                CtlKind::Try => Begins::With(info.block),
                _ => continue,
            };
            regions[info.region] = NeededRegion { outer: info.outer, begins };
        }
        sets.clear();
        sets.resize(scan.regions.len() * words, 0);
        // Inner regions come behind outer ones.
        for region in (0..scan.regions.len()).rev() {
            let (outer, here) = sets.split_at_mut(region * words);
            let here = &mut here[..words];
            let slots = |point: PointId| &self.slots[range(&self.ends, point as usize)];
            restored_in(scan, region).for_each(|point| insert_values(here, slots(point)));
            live.clear();
            live.resize(words, 0);
            let NeededRegion { outer: around, begins } = regions[region];
            match begins {
                Begins::Anyhow => {}
                Begins::At(header) => insert_values(live, slots(header)),
                Begins::With(block) => scan.liveness.each_at(block, |local| insert(live, local)),
            }
            let loads = here.iter().zip(&*live).enumerate();
            for (word, (here, live)) in loads {
                let mut load = here & !live;
                while load != 0 {
                    let local = word * 64 + load.trailing_zeros() as usize;
                    self.loads.extend(self.places.slots[local]);
                    load &= load - 1;
                }
            }
            self.loads_ends.push(self.loads.len());
            if region > 0 {
                let around = &mut outer[around * words..][..words];
                around
                    .iter_mut()
                    .zip(here.iter().zip(&*live))
                    .for_each(|(around, (here, live))| *around |= here & live);
            }
        }
    }
}

/// Adds the locals of these values to a set, but for those that lie in side tables: each point restores its own.
fn insert_values(set: &mut [u64], slots: &[Slot]) {
    let slots = slots.iter().filter(|slot| !slot.kind.is_aside());
    slots.for_each(|slot| insert(set, slot.local));
}

fn range(ends: &[usize], at: usize) -> std::ops::Range<usize> {
    at.checked_sub(1).map_or(0, |before| ends[before])..ends[at]
}

impl Places {
    /// Places for all values of all points, if restoring them by few pieces of code saves code.
    fn find(&mut self, values: &[Slot], locals: usize) -> bool {
        self.slots.clear();
        self.slots.resize(locals, None);
        for value in values {
            self.slots[value.local as usize] = Some(*value);
        }
        let (mut count, mut next) = (0, 0);
        self.aside = false;
        for slot in self.slots.iter_mut().flatten() {
            if slot.kind.is_aside() {
                self.aside = true;
                continue;
            }
            slot.at = next;
            next += slot.kind.size();
            count += 1;
        }
        let aside = if self.aside { values.iter().filter(|slot| slot.kind.is_aside()).count() } else { 0 };
        values.len() - aside > SHARED_MIN * count
    }
}

/// The points whose frames a region's dispatch restores, in order.
pub(super) fn restored_in(scan: &Scan, region: usize) -> impl Iterator<Item = PointId> + '_ {
    leads(scan, region).filter_map(|(lead, _)| match lead {
        Lead::Point(point) => Some(point),
        Lead::Into(_) => None,
    })
}

impl Emitter<'_, '_, '_> {
    /// Decides what the frames of all points hold, and where.
    pub(super) fn lay_out_frames(&mut self) {
        let (cx, scan) = (self.cx, self.scan);
        for point in &scan.points {
            for (height, &ty) in scan.types(point.stack).iter().enumerate() {
                let local = self.temp(height, ty);
                self.frames.slots.push(Slot { local, ty, kind: kind(cx, ty), at: 0 });
            }
            self.frames.add_locals(cx, scan, point);
        }
        let locals = scan.locals.len() + self.temp_types.len();
        self.frames.place(cx, locals);
        self.frames.encode(cx.inlined, scan);
        if self.frames.shared {
            self.frames.find_loads(scan, locals);
            self.frames.find_saves(cx, scan, locals);
        }
    }
}
