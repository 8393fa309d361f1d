//! What stands at the beginning of a region: its labels, its check, and the way to the point to resume at.

use wasm_encoder::BlockType;

use super::code::{load_values, pop_trailer, zeros};
use super::emit::{Emitter, Role};
use super::points::{Closer, Ctl, CtlInfo, CtlKind, PointId, PointKind, Reached, Scan};

/// Where a dispatch leads to.
#[derive(Clone, Copy)]
pub(super) enum Lead {
    /// The point, restored there.
    Point(PointId),
    /// Into a loop or `try_table`, whose own dispatch goes on.
    Into(Ctl),
}

/// Where a region's dispatch leads to, in order, each with the number of points that it leads to so.
pub(super) fn leads(scan: &Scan, region: usize) -> impl Iterator<Item = (Lead, u32)> + '_ {
    let of = |item: &Reached| match *item {
        Reached::Call(point) => [Some((Lead::Point(point), 1)), None],
        Reached::Inner(ctl) => {
            let info = &scan.ctls[ctl as usize];
            let own = info.kind == CtlKind::Loop;
            let inside = info.points_end - info.point - u32::from(own);
            [own.then_some((Lead::Point(info.point), 1)), (inside > 0).then_some((Lead::Into(ctl), inside))]
        }
    };
    // The point that is reached right behind the region's check.
    let own = match scan.first_loop {
        None if region == 0 => Some(0),
        Some(ctl) if scan.is_first(region) => Some(scan.ctls[ctl as usize].point),
        _ => None,
    };
    let items = match scan.first_loop {
        Some(_) if region == 0 => &[][..],
        _ => &scan.regions[region].items,
    };
    own.map(|point| (Lead::Point(point), 1)).into_iter().chain(items.iter().flat_map(of).flatten())
}

impl Emitter<'_, '_, '_> {
    /// Opens the labels of a region, innermost first to end, then checks and dispatches.
    pub(super) fn open_region(&mut self, region: usize, ctl: Option<Ctl>) {
        let closers = &self.scan.regions[region].closers;
        let ahead = ctl.is_some_and(|ctl| self.scan.ctls[ctl as usize].ahead > 0);
        for &closer in closers.iter().rev() {
            let ty = match closer {
                Closer::End(c) => {
                    self.cx.types.block_type(&[], self.scan.types(self.scan.ctls[c as usize].results))
                }
                _ => BlockType::Empty,
            };
            let level = self.block(ty);
            self.closers.insert(closer, level);
            if let Closer::Point(id) = closer
                && ahead
                && let PointKind::Call(callee) = self.scan.points[id as usize].kind
                && !self.again_in_place(callee)
            {
                // Copies of the body go there.
                let level = self.block(BlockType::Empty);
                self.closers.insert(Closer::Call(id), level);
            }
        }
        if region == 0 && self.scan.first_loop.is_some() {
            return; // the loop checks
        }
        let info = ctl.map(|c| &self.scan.ctls[c as usize]);
        match (self.role, info.map(|i| i.kind)) {
            // It has its own checks; and nothing is rebuilt.
            (Role::Hot, None | Some(CtlKind::Try)) => return,
            (Role::Hot, _) if info.is_some_and(|i| i.sunk) => return,
            // And there is nothing in it to be rebuilt.
            _ if info.is_some_and(|i| i.sunk) && self.scan.regions[region].items.is_empty() => return,
            // It is called for that alone.
            (Role::Rebuilding, None) => {
                let go = self.block(BlockType::Empty);
                self.find_point(region, go);
                return self.end_block();
            }
            _ => {}
        }
        self.charge_and_check(ctl);
        // An `if`, and not a branch over the cold code: Cranelift is to reach the rest of the loop before the
        // way out of it, or it hoists nothing out of the loop (DESIGN.md, Measured).
        self.open_if(false);
        let go = self.open - 1;
        // Behind a header that does not check, nothing but a frame that is being rebuilt comes here.
        let kind = |i: &CtlInfo| if i.sunk { CtlKind::Try } else { i.kind };
        self.cold(region, info.map(|i| (kind(i), i.point)), go);
        self.end_block();
    }

    /// The fuel is negative at the beginning of a region: save, or find the way to the point to resume at.
    fn cold(&mut self, region: usize, inner: Option<(CtlKind, PointId)>, go: u32) {
        let hidden = self.cx.hidden;
        let items = &self.scan.regions[region].items;
        match inner {
            Some((CtlKind::Loop, point)) if !self.scan.is_first(region) => {
                if items.is_empty() || self.role == Role::Hot {
                    return self.save(point);
                }
                self.sink().global_get(hidden.state).i32_eqz();
                self.save_if(point);
                self.begin_cold();
            }
            None | Some((CtlKind::Loop, _)) => {
                if inner.is_some() || self.scan.entry_charge > 0 {
                    self.sink().global_get(hidden.state).i32_eqz();
                    self.save_if(0);
                }
                self.begin_cold();
                self.find_point(region, go);
                return self.end_cold();
            }
            Some(_) => self.begin_cold(),
        }
        self.dispatch(region, false, go);
        self.end_cold();
    }

    /// The function is being rebuilt: takes its frame off, and goes to the point that it stands at.
    fn find_point(&mut self, region: usize, go: u32) {
        let (scratch, hidden) = (self.scratch(), self.cx.hidden);
        if self.scan.calls() {
            self.sink().call(hidden.pop_frame).local_set(scratch + 1);
        } else {
            pop_trailer(&mut self.code, self.cx, scratch);
            self.sink().global_set(hidden.point).global_get(hidden.point).local_set(scratch + 1);
        }
        self.dispatch(region, true, go);
    }

    /// Begins what is done if the condition on the stack holds, and is hinted whether it mostly does.
    pub(super) fn open_if(&mut self, likely: bool) {
        self.hint(likely);
        self.sink().if_(BlockType::Empty);
        self.open += 1;
    }

    /// Puts what follows up to [`Emitter::end_cold`] out of line. Only a hint at a condition says so to the compiler;
    /// this one always holds, and folds away.
    pub(super) fn begin_cold(&mut self) {
        self.sink().i32_const(1);
        self.open_if(false);
    }

    /// Control does not get here.
    pub(super) fn end_cold(&mut self) {
        self.end_block();
        self.sink().unreachable();
    }

    /// Saves the frame and returns, if the condition on the stack holds, which is rare.
    pub(super) fn save_if(&mut self, point: PointId) {
        self.open_if(false);
        self.save(point);
        self.end_block();
    }

    /// Jumps to the point that `hidden.point` names, after restoring its frame.
    fn dispatch(&mut self, region: usize, at_entry: bool, go: u32) {
        if self.frames.shared {
            let scratch = self.scratch();
            load_values(&mut self.code, self.cx, scratch, self.frames.loads(region), 0);
        }
        let leads: Vec<_> = leads(self.scan, region).collect();
        let first = match leads[0].0 {
            Lead::Point(point) => point,
            Lead::Into(ctl) => self.scan.ctls[ctl as usize].point,
        };
        if !at_entry {
            let (point, any) = (self.cx.hidden.point, self.scratch() + 1);
            self.sink().global_get(point).local_set(any);
        }
        self.lead(&leads, first, go);
    }

    /// Goes on at the one of these points that the second scratch local names; `first` is the first of them.
    ///
    /// A tree of rare `if`s, and no `br_table`: what Cranelift moves on the way out of a `br_table` stands in the middle
    /// of the hot code, however rare the target is (DESIGN.md, What Cranelift does).
    fn lead(&mut self, leads: &[(Lead, u32)], first: PointId, go: u32) {
        if let &[(lead, _)] = leads {
            match lead {
                Lead::Point(point) => self.resume(point, go),
                Lead::Into(ctl) => {
                    let depth = self.closer(Closer::Before(ctl));
                    self.sink().br(depth);
                }
            }
            return;
        }
        let (left, right) = leads.split_at(leads.len() / 2);
        let bound = first + left.iter().map(|(_, points)| points).sum::<u32>();
        let point = self.scratch() + 1;
        self.sink().local_get(point).i32_const(bound as i32).i32_lt_u();
        self.open_if(false);
        self.lead(left, first, go);
        self.end_block();
        self.begin_cold();
        self.lead(right, bound, go);
        self.end_cold();
    }

    /// Restores the point's frame and goes on there.
    fn resume(&mut self, id: PointId, go: u32) {
        let (scratch, params) = (self.scratch(), self.scan.params);
        load_values(&mut self.code, self.cx, scratch, &self.frames.restored_at(id), params);
        match self.scan.points[id as usize].kind {
            PointKind::Entry => {
                // A check behind the entry is going to charge, which was done before.
                let shrunk = self.cx.graph.shrunk[self.func as usize].as_ref();
                let charges = shrunk.is_some_and(|s| s.checks.iter().any(|check| check.header.is_none()));
                let charge = if charges { self.scan.entry_charge } else { 0 };
                if self.role == Role::Rebuilding {
                    return self.begin_again(charge);
                }
                self.zero_locals();
                self.go_on(charge, go);
            }
            PointKind::Loop(ctl) if self.scan.first_loop == Some(ctl) => self.go_on(0, go),
            PointKind::Loop(ctl) => {
                // The header is going to charge for what was charged before.
                match (self.chunks(ctl), &self.scan.ctls[ctl as usize]) {
                    (Some(chunks), _) => self.refuel_chunk(chunks),
                    (None, info) => {
                        let more = if info.passes.is_none() { info.charge } else { 0 };
                        self.refuel(self.cx.hidden.loop_fuel, more);
                    }
                }
                let depth = self.closer(Closer::Before(ctl));
                self.sink().br(depth);
            }
            PointKind::Call(callee) => self.resume_call(id, callee),
        }
    }

    /// Goes on right behind the region's check, with so much more fuel for what is going to be charged again.
    fn go_on(&mut self, more: u64, go: u32) {
        self.refuel(self.cx.hidden.entry_fuel, more);
        let depth = self.depth(go);
        self.sink().br(depth);
    }

    /// The frame stands at the function's entry, and this is the copy that rebuilds: the one that runs takes its place.
    fn begin_again(&mut self, charge: u64) {
        self.refuel(self.cx.hidden.entry_fuel, charge);
        for param in 0..self.scan.params {
            self.sink().local_get(param);
        }
        let func = self.func;
        self.sink().return_call(func);
    }

    /// Restoring all values at once has overwritten locals that are zero at the entry.
    fn zero_locals(&mut self) {
        if !self.frames.shared {
            return;
        }
        let (scan, mut stale) = (self.scan, vec![]);
        let loads = self.frames.loads(0);
        scan.liveness.each_at(scan.points[0].block, |local| {
            let at = loads.binary_search_by_key(&local, |slot| slot.local);
            stale.extend(at.ok().filter(|_| local >= scan.params).map(|at| loads[at]));
        });
        for slot in stale {
            zeros(&mut self.code, self.cx, &[slot.ty]);
            self.sink().local_set(slot.local);
        }
    }

    /// The beginning of a function that can suspend.
    pub(super) fn enter_function(&mut self) {
        let exit = self.block(BlockType::Empty);
        debug_assert_eq!(exit, 1, "the shared exit is the outermost block");
        for _ in 0..self.frames.nodes() {
            self.block(BlockType::Empty);
        }
        if self.role != Role::Hot && self.scan.ctls.iter().any(|ctl| ctl.kind.is_loop()) {
            // Where each use of the guest's zero is reached from here, Cranelift makes it anew at each; else it keeps some
            // in registers through loops (DESIGN.md, What Cranelift does). The global's value is of no meaning here.
            let point = self.cx.hidden.point;
            self.sink().i32_const(0).global_set(point);
        }
        self.open_region(0, None);
    }
}
