//! Which functions can suspend, and what the others cost.
//!
//! A function can suspend if it has a loop, calls an import, calls through a reference, is recursive, or
//! calls a function that can suspend. The rest is a finite tree of straight code: it is copied as it is,
//! and its callers are charged for it; where that tree is large, its root suspends as well. From cost model 5 on a call through a
//! reference of a type is one of those if all functions of that type are that a reference can reach.

use std::collections::HashMap;

use wasmparser::FuncType;

use super::cost::{COUNTS, SHRINKS, THREADS, UNCHECKED_MAX};
use super::counted::Counted;
use super::cycles::{Calls, on_cycles};
use super::module::{Body, Module};
use super::outline::{Effects, Outline};
use super::paid::paid_by_callers;
use super::points::Callee;
use super::shrink::{Shrunk, shrink};

/// What is known of each function, by index, imported ones included.
pub struct CallGraph {
    pub can_suspend: Vec<bool>,
    /// Operators of one call at most, callees included; meaningful for functions that cannot suspend.
    pub cost: Vec<u64>,
    /// The function makes a tail call to a function that can suspend: another one's frame may stand in
    /// its place.
    pub tail_calls: Vec<bool>,
    /// Functions that some tail call or reference can reach, by index.
    pub by_reference: Vec<bool>,
    /// One function of each cycle of calls, by index.
    pub on_cycle: Vec<bool>,
    /// By index of a type: what a call through a reference of that type costs, if it cannot suspend; that of the dearest function.
    pub free_types: Vec<Option<u64>>,
    /// Functions that can suspend and do not check at their entry, by index.
    pub shrunk: Vec<Option<Shrunk>>,
    /// Operators that callers are charged for where a function does not charge at its entry, by index; else 0.
    pub paid: Vec<u64>,
    /// By index of a type: the most that a function has of those, which a reference of that type can reach.
    pub paid_types: Vec<u64>,
    /// Loops that need not check in each pass, ascending, by function index.
    pub counted: Vec<Vec<Counted>>,
    /// Element and data segments that some instruction drops, ascending.
    pub dropped_data: Vec<u32>,
    pub dropped_elems: Vec<u32>,
    /// Tables that some instruction can change.
    pub changed_tables: Vec<bool>,
    /// Some function catches or throws.
    pub has_exceptions: bool,
}

impl CallGraph {
    /// From what is known of each function. Functions named by `ref.func` in code are added to `module.referenced`.
    pub fn build(module: &mut Module<'_>, read: Vec<(Outline, Effects)>, cost_model: u32) -> Self {
        let imported = module.imported_funcs as usize;
        let count = module.funcs.len();
        let mut graph = CallGraph {
            can_suspend: vec![false; count],
            cost: vec![0; count],
            tail_calls: vec![false; count],
            by_reference: vec![false; count],
            on_cycle: vec![],
            free_types: vec![None; module.types.len()],
            shrunk: vec![],
            paid: vec![0; count],
            paid_types: vec![0; module.types.len()],
            counted: vec![vec![]; imported],
            dropped_data: vec![],
            dropped_elems: vec![],
            changed_tables: vec![false; module.tables.len()],
            has_exceptions: !module.tags.is_empty(),
        };
        graph.can_suspend[..imported].fill(true);
        let mut outlines = Vec::with_capacity(read.len());
        for (mut outline, effects) in read {
            module.referenced.extend(&outline.references);
            graph.dropped_data.extend(effects.dropped_data);
            graph.dropped_elems.extend(effects.dropped_elems);
            graph.has_exceptions |= effects.catches;
            for table in effects.changed_tables {
                graph.changed_tables[table as usize] = true;
            }
            graph.counted.push(std::mem::take(&mut outline.counted));
            outlines.push(outline);
        }
        for list in [&mut graph.dropped_data, &mut graph.dropped_elems, &mut module.referenced] {
            list.sort_unstable();
            list.dedup();
        }
        graph.settle(imported, &outlines);
        if cost_model >= COUNTS && module.knows_references() {
            graph.find_free_types(module);
            graph.settle(imported, &outlines);
        }
        graph.note_tail_calls(imported, &outlines, &module.referenced);
        graph.note_cycles(imported, &outlines, &module.referenced);
        graph.shrink(module, cost_model);
        if cost_model >= THREADS {
            graph.find_paid(imported, &outlines, module);
        }
        graph
    }

    /// Types of which no function calls through a reference, or can suspend for another reason.
    fn find_free_types(&mut self, module: &Module<'_>) {
        let mut costs: HashMap<&FuncType, Option<u64>> = HashMap::new();
        for &func in &module.referenced {
            let cost = (!self.can_suspend[func as usize]).then(|| self.cost[func as usize]);
            let dearest = costs.entry(module.func_type(func)).or_insert(Some(0));
            *dearest = dearest.zip(cost).map(|(a, b)| a.max(b));
        }
        for (free, ty) in self.free_types.iter_mut().zip(&module.types) {
            *free = ty.as_ref().and_then(|ty| costs.get(ty).copied().unwrap_or(Some(0)));
        }
    }

    /// What a call through a reference of this type costs, if it cannot suspend.
    pub fn free_type(&self, ty: u32) -> Option<u64> {
        self.free_types.get(ty as usize).copied().flatten()
    }

    /// Depth first over the direct calls, without recursion of our own: a call to a function that is
    /// still open is a cycle.
    fn settle(&mut self, imported: usize, outlines: &[Outline]) {
        self.can_suspend[imported..].fill(false);
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; outlines.len()];
        for root in 0..outlines.len() {
            if marks[root] != Mark::New {
                continue;
            }
            marks[root] = Mark::Open;
            let mut stack = vec![(root, 0usize)];
            while let Some((at, next)) = stack.pop() {
                let outline = &outlines[at];
                let callee = outline.calls.iter().chain(&outline.tail_calls).nth(next).copied();
                let Some(callee) = callee else {
                    marks[at] = Mark::Done;
                    self.finish(imported, at, outline);
                    continue;
                };
                stack.push((at, next + 1));
                let Some(to) = (callee as usize).checked_sub(imported) else { continue };
                match marks[to] {
                    Mark::Done => {}
                    Mark::Open => self.can_suspend[callee as usize] = true, // a cycle: its entry checks
                    Mark::New => {
                        marks[to] = Mark::Open;
                        stack.push((to, 0));
                    }
                }
            }
        }
        // A function that was finished while a callee was still open may have missed that one's answer.
        let mut changed = true;
        while changed {
            changed = false;
            for (at, outline) in outlines.iter().enumerate() {
                let suspends = |f: &u32| self.can_suspend[*f as usize];
                if !self.can_suspend[imported + at]
                    && outline.calls.iter().chain(&outline.tail_calls).any(suspends)
                {
                    self.can_suspend[imported + at] = true;
                    changed = true;
                }
            }
        }
    }

    fn finish(&mut self, imported: usize, at: usize, outline: &Outline) {
        let mut cost = outline.operators;
        let mut suspends = outline.suspends;
        for &ty in &outline.indirect_calls {
            match self.free_type(ty) {
                Some(more) => cost = cost.saturating_add(more),
                None => suspends = true,
            }
        }
        for &callee in outline.calls.iter().chain(&outline.tail_calls) {
            suspends |= self.can_suspend[callee as usize];
            cost = cost.saturating_add(self.cost[callee as usize]);
        }
        self.cost[imported + at] = cost;
        // So that calls of calls of calls stay bounded.
        self.can_suspend[imported + at] |= suspends || cost > UNCHECKED_MAX;
    }

    fn note_tail_calls(&mut self, imported: usize, outlines: &[Outline], referenced: &[u32]) {
        for &func in referenced {
            self.by_reference[func as usize] = true;
        }
        for (at, outline) in outlines.iter().enumerate() {
            let mut tail_calls = outline.indirect_tail_call;
            for &callee in &outline.tail_calls {
                if self.can_suspend[callee as usize] {
                    tail_calls = true;
                    self.by_reference[callee as usize] = true;
                }
            }
            self.tail_calls[imported + at] = tail_calls;
        }
    }

    fn note_cycles(&mut self, imported: usize, outlines: &[Outline], referenced: &[u32]) {
        let calls = |func: u32| {
            let outline = &outlines[func as usize - imported];
            let may_call_back = outline.indirect_calls.iter().any(|&ty| self.free_type(ty).is_none());
            let indirect = may_call_back || outline.reference_call || outline.indirect_tail_call;
            Calls { direct: [&outline.calls, &outline.tail_calls], indirect }
        };
        let count = (imported + outlines.len()) as u32;
        self.on_cycle = on_cycles(imported as u32, count, referenced, calls);
    }

    fn shrink(&mut self, module: &Module<'_>, cost_model: u32) {
        use rayon::prelude::*;
        self.shrunk.resize_with(module.imported_funcs as usize, || None);
        if cost_model < SHRINKS {
            return self.shrunk.resize_with(module.funcs.len(), || None);
        }
        let suspends = |func: u32| self.can_suspend.get(func as usize) == Some(&true);
        let of = |body: &Body<'_>| {
            let params = module.func_type(body.func).params().len() as u32;
            let recursive = self.on_cycle[body.func as usize];
            let counted = &self.counted[body.func as usize];
            let point = |callee| match callee {
                Callee::Direct(func) => suspends(func),
                Callee::Indirect { ty } => self.free_type(ty).is_none(),
                Callee::Ref { .. } => true,
            };
            suspends(body.func).then(|| shrink(&body.body, params, recursive, counted, point)).flatten()
        };
        let found: Vec<_> = module.bodies.par_iter().map(of).collect();
        self.shrunk.extend(found);
    }

    /// Those of which callers pay for entries, so that all that is done between two charges is charged for.
    fn find_paid(&mut self, imported: usize, outlines: &[Outline], module: &Module<'_>) {
        let outline = |func: u32| (func as usize).checked_sub(imported).map(|at| &outlines[at]);
        let both = |func: u32| outline(func).map_or([&[][..]; 2], |o| [&o.calls[..], &o.tail_calls[..]]);
        let fixed = |func: u32| match &self.shrunk[func as usize] {
            _ if !self.can_suspend[func as usize] => self.cost[func as usize],
            shrunk => shrunk.as_ref().map_or(0, |shrunk| shrunk.unchecked),
        };
        let own = |func: u32| {
            let of = outline(func).filter(|_| self.can_suspend[func as usize])?;
            let references = of.reference_call || of.indirect_tail_call;
            // With subtypes a reference of one type reaches functions of others.
            let unknown = module.subtypes && self.by_reference[func as usize];
            let shrunk = self.shrunk[func as usize].is_some();
            let charges = self.on_cycle[func as usize] || shrunk || references || unknown;
            let indirect = of.indirect_calls.iter().map(|&ty| self.free_type(ty)).sum::<Option<u64>>()?;
            let direct = both(func).concat().into_iter().map(fixed).fold(indirect, u64::saturating_add);
            (!charges).then_some(direct.saturating_add(of.operators - of.in_loops))
        };
        let own: Vec<Option<u64>> = (0..module.funcs.len() as u32).map(own).collect();
        let paid = paid_by_callers(&own, both);
        let mut types: HashMap<&FuncType, u64> = HashMap::new();
        for &func in &module.referenced {
            let dearest = types.entry(module.func_type(func)).or_default();
            *dearest = paid[func as usize].max(*dearest);
        }
        for (paid, ty) in self.paid_types.iter_mut().zip(&module.types) {
            *paid = ty.as_ref().and_then(|ty| types.get(ty).copied()).unwrap_or(0);
        }
        self.paid = paid;
    }
}
