//! One function, rewritten. See DESIGN.md for the scheme and a worked example.
//!
//! Invariant on which everything rests: at every label that a dispatch can jump to, the operand stack is
//! empty; what was on it is in locals of our own, one per (height, type).

use std::collections::HashMap;

use wasm_encoder::{BlockType, InstructionSink, MemArg};
use wasmparser::ValType;

use super::callgraph::CallGraph;
use super::frame::{Kind, Layout, Place, TRAILER};
use super::hidden::{Hidden, encoded, nullable};
use super::module::Module;
use super::scan::{Callee, Closer, Ctl, CtlKind, Op, OpKind, Point, PointId, PointKind, Reached, Scan};
use super::types::TypeTable;

/// Everything that all functions share.
pub struct Context<'m, 'a> {
    pub wasm: &'a [u8],
    pub module: &'m Module<'a>,
    pub graph: &'m CallGraph,
    pub hidden: &'m Hidden,
    pub types: &'m TypeTable,
}

/// A function as emitted.
pub struct Emitted {
    /// The body: locals and code, without its length.
    pub body: Vec<u8>,
    /// (offset in `body`, taken), ascending.
    pub hints: Vec<(u32, bool)>,
    /// (offset in `body`, offset in the original module), ascending: from there on both go on in step.
    pub origins: Vec<(u32, u32)>,
    pub layouts: Vec<Layout>,
}

struct Label {
    /// The level of the emitted block that a branch to it leaves or repeats.
    level: u32,
    /// Height of the spilled operands before the construct.
    spilled: usize,
}

pub(super) struct Emitter<'c, 'm, 'a> {
    pub(super) cx: &'c Context<'m, 'a>,
    scan: &'c Scan,
    func: u32,
    pub(super) code: Vec<u8>,
    hints: Vec<(u32, bool)>,
    origins: Vec<(u32, u32)>,
    /// Emitted blocks that are open, the function's own included.
    open: u32,
    labels: Vec<Label>,
    /// Levels of the labels that the regions have opened.
    closers: HashMap<CloserKey, u32>,
    /// Types of the operands of surrounding constructs, all of them in locals.
    spilled: Vec<ValType>,
    temps: HashMap<(u32, ValType), u32>,
    temp_types: Vec<ValType>,
    scratch: Option<u32>,
    layouts: Vec<Layout>,
}

#[derive(PartialEq, Eq, Hash)]
enum CloserKey {
    Point(PointId),
    Before(Ctl),
    Else(Ctl),
    End(Ctl),
}

impl From<Closer> for CloserKey {
    fn from(closer: Closer) -> Self {
        match closer {
            Closer::Point(p) => CloserKey::Point(p),
            Closer::Before(c) => CloserKey::Before(c),
            Closer::Else(c) => CloserKey::Else(c),
            Closer::End(c) => CloserKey::End(c),
        }
    }
}

/// Rewrites a function that can suspend; another one is only adapted to the new indexes.
pub fn emit(cx: &Context<'_, '_>, func: u32, scan: &Scan) -> Emitted {
    let suspends = cx.graph.can_suspend[func as usize];
    let mut emitter = Emitter {
        cx,
        scan,
        func,
        code: Vec::with_capacity((scan.code.1 - scan.code.0) as usize * 2),
        hints: vec![],
        origins: vec![],
        open: 1,
        labels: vec![Label { level: 0, spilled: 0 }],
        closers: HashMap::new(),
        spilled: vec![],
        temps: HashMap::new(),
        temp_types: vec![],
        scratch: None,
        layouts: vec![],
    };
    if suspends {
        emitter.layouts = scan
            .points
            .iter()
            .map(|_| Layout { place: Place::Entry, offset: 0, stack: vec![], locals: vec![] })
            .collect();
        emitter.enter_function();
    }
    let mut from = scan.code.0;
    for op in &scan.ops {
        if !op.dead_before {
            emitter.copy(from, op.start);
        }
        from = op.end;
        emitter.op(op);
    }
    emitter.finish()
}

impl Emitter<'_, '_, '_> {
    pub(super) fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    /// Copies bytes of the original body.
    fn copy(&mut self, start: u32, end: u32) {
        if start < end {
            self.origin(start);
            self.code.extend_from_slice(&self.cx.wasm[start as usize..end as usize]);
        }
    }

    fn origin(&mut self, offset: u32) {
        self.origins.push((self.code.len() as u32, offset));
    }

    /// The relative depth of a level from here.
    fn depth(&self, level: u32) -> u32 {
        self.open - 1 - level
    }

    /// The relative depth of an original label from here.
    fn label(&self, depth: u32) -> u32 {
        let at = self.labels.len() - 1 - depth as usize;
        self.depth(self.labels[at].level)
    }

    fn closer(&self, closer: Closer) -> u32 {
        self.depth(self.closers[&closer.into()])
    }

    fn block(&mut self, ty: BlockType) -> u32 {
        self.sink().block(ty);
        self.open += 1;
        self.open - 1
    }

    fn end_block(&mut self) {
        self.sink().end();
        self.open -= 1;
    }

    /// The next branch is hinted.
    fn hint(&mut self, taken: bool) {
        self.hints.push((self.code.len() as u32, taken));
    }

    fn temp(&mut self, height: usize, ty: ValType) -> u32 {
        let ty = nullable(ty);
        let base = self.scan.locals.len() as u32;
        let types = &mut self.temp_types;
        *self.temps.entry((height as u32, ty)).or_insert_with(|| {
            types.push(ty);
            base + types.len() as u32 - 1
        })
    }

    fn scratch(&mut self) -> u32 {
        let (base, types) = (self.scan.locals.len() as u32, &mut self.temp_types);
        *self.scratch.get_or_insert_with(|| {
            types.push(ValType::I32);
            base + types.len() as u32 - 1
        })
    }

    /// Moves operands from the stack to locals; the first stands at `height`.
    fn spill(&mut self, height: usize, types: &[ValType]) {
        for (i, &ty) in types.iter().enumerate().rev() {
            let temp = self.temp(height + i, ty);
            self.sink().local_set(temp);
        }
    }

    /// Brings operands back from their locals.
    fn reload(&mut self, height: usize, types: &[ValType]) {
        for (i, &ty) in types.iter().enumerate() {
            let temp = self.temp(height + i, ty);
            self.get_local(temp, ty);
        }
    }

    fn get_local(&mut self, local: u32, ty: ValType) {
        self.sink().local_get(local);
        if !ty.is_defaultable() {
            self.sink().ref_as_non_null();
        }
    }

    fn op(&mut self, op: &Op) {
        match &op.kind {
            OpKind::Block(ctl) => self.enter_block(*ctl, op),
            OpKind::If(ctl) => self.enter_if(*ctl, op),
            OpKind::Loop(ctl) => self.enter_loop(*ctl, op),
            OpKind::Try(ctl, catches) => self.enter_try(*ctl, catches, op),
            OpKind::Else(ctl) => self.enter_else(*ctl, op),
            OpKind::End(Some(ctl)) => self.leave(*ctl, op),
            OpKind::End(None) => self.copy(op.start, op.end),
            OpKind::Br(depth) => {
                let depth = self.label(*depth);
                self.sink().br(depth);
            }
            OpKind::BrIf(depth) => {
                let depth = self.label(*depth);
                self.sink().br_if(depth);
            }
            OpKind::BrOnNull(depth) => {
                let depth = self.label(*depth);
                self.sink().br_on_null(depth);
            }
            OpKind::BrOnNonNull(depth) => {
                let depth = self.label(*depth);
                self.sink().br_on_non_null(depth);
            }
            OpKind::BrTable(targets, default) => {
                let targets: Vec<_> = targets.iter().map(|&d| self.label(d)).collect();
                let default = self.label(*default);
                self.sink().br_table(targets, default);
            }
            OpKind::Call(point) => self.call(*point, op),
            OpKind::ReturnCall(func) => {
                self.origin(op.start);
                let func = self.cx.hidden.func(self.cx.module, *func);
                self.sink().return_call(func);
            }
            OpKind::RefFunc(func) => {
                let func = self.cx.hidden.func(self.cx.module, *func);
                self.sink().ref_func(func);
            }
            OpKind::GetNonNull(_) => {
                self.copy(op.start, op.end);
                self.sink().ref_as_non_null();
            }
            OpKind::DataDrop(index) => self.drop_segment(op, &self.cx.graph.dropped_data, 0, *index),
            OpKind::ElemDrop(index) => {
                self.drop_segment(op, &self.cx.graph.dropped_elems, self.cx.graph.dropped_data.len(), *index);
            }
            OpKind::Stop => self.copy(op.start, op.end),
        }
    }

    fn drop_segment(&mut self, op: &Op, list: &[u32], first: usize, index: u32) {
        self.copy(op.start, op.end);
        let at = first + list.binary_search(&index).expect("the call graph saw it");
        let flag = self.cx.hidden.dropped + at as u32;
        self.sink().i32_const(1).global_set(flag);
    }

    // ---- constructs -------------------------------------------------------------------------------

    fn push_label(&mut self, level: u32, beneath: &[ValType]) {
        self.labels.push(Label { level, spilled: self.spilled.len() });
        self.spilled.extend_from_slice(beneath);
    }

    fn enter_block(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.has_points {
            self.copy(op.start, op.end);
            self.open += 1;
            return self.push_label(self.open - 1, &[]);
        }
        // The block itself began where its region begins.
        let level = self.closers[&CloserKey::End(ctl)];
        let operands = [&info.beneath[..], &info.params[..]].concat();
        let height = self.spilled.len();
        if !info.beneath.is_empty() {
            self.spill(height, &operands);
            self.reload(height + info.beneath.len(), &info.params);
        }
        self.push_label(level, &info.beneath);
    }

    fn enter_if(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.has_points {
            self.copy(op.start, op.end);
            self.open += 1;
            return self.push_label(self.open - 1, &[]);
        }
        let operands = [&info.beneath[..], &info.params[..]].concat();
        let height = self.spilled.len();
        if !operands.is_empty() {
            let condition = self.temp(height + operands.len(), ValType::I32);
            self.sink().local_set(condition);
            self.spill(height, &operands);
            self.sink().local_get(condition);
        }
        let otherwise =
            if info.has_else || !info.params.is_empty() { Closer::Else(ctl) } else { Closer::End(ctl) };
        let depth = self.closer(otherwise);
        self.sink().i32_eqz().br_if(depth);
        self.reload(height + info.beneath.len(), &info.params);
        let level = self.closers[&CloserKey::End(ctl)];
        self.push_label(level, &info.beneath);
    }

    fn enter_else(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.has_points {
            return self.copy(op.start, op.end);
        }
        self.close_first_arm(ctl, op);
    }

    /// The first arm's results go to the `if`'s end; the other arm begins.
    fn close_first_arm(&mut self, ctl: Ctl, op: &Op) {
        if !op.dead_before {
            let depth = self.closer(Closer::End(ctl));
            self.sink().br(depth);
        }
        self.end_block();
        let info = &self.scan.ctls[ctl as usize];
        self.reload(self.spilled.len(), &info.params);
    }

    fn leave(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let bare_if = info.kind == CtlKind::If && !info.has_else;
        if info.has_points && bare_if && !info.params.is_empty() {
            self.close_first_arm(ctl, op);
        }
        self.end_block();
        let label = self.labels.pop().expect("constructs are paired");
        self.spilled.truncate(label.spilled);
        if info.has_points && !info.beneath.is_empty() {
            let height = self.spilled.len();
            self.spill(height + info.beneath.len(), &info.results);
            self.reload(height, &info.beneath);
            self.reload(height + info.beneath.len(), &info.results);
        }
    }

    fn enter_loop(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let height = self.spilled.len();
        let operands = [&info.beneath[..], &info.params[..]].concat();
        self.spill(height, &operands);
        self.end_block(); // the label `Before`
        let params = height + info.beneath.len();
        for (i, &ty) in info.params.iter().enumerate() {
            let temp = self.temp(params + i, ty);
            self.sink().local_get(temp);
        }
        // A loop whose parameters are not nullable must be entered with zeros when it is rebuilt.
        let types: Vec<_> = info.params.iter().map(|&ty| nullable(ty)).collect();
        let ty = self.cx.types.block_type(&types, &info.results);
        self.origin(op.start);
        self.sink().loop_(ty);
        self.open += 1;
        self.push_label(self.open - 1, &info.beneath);
        self.spill(params, &types);
        self.open_region(info.region, Some(ctl));
        self.reload(params, &info.params);
    }

    fn enter_try(&mut self, ctl: Ctl, catches: &[wasmparser::Catch], op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let height = self.spilled.len();
        let mut params: &[ValType] = &info.params;
        if info.has_points {
            let operands = [&info.beneath[..], &info.params[..]].concat();
            self.spill(height, &operands);
            self.end_block(); // the label `Before`
            params = &[];
        }
        let catches: Vec<_> = catches.iter().map(|c| self.catch(*c)).collect();
        let ty = self.cx.types.block_type(params, &info.results);
        self.origin(op.start);
        self.sink().try_table(ty, catches);
        self.open += 1;
        if !info.has_points {
            return self.push_label(self.open - 1, &[]);
        }
        self.push_label(self.open - 1, &info.beneath);
        self.open_region(info.region, Some(ctl));
        self.reload(height + info.beneath.len(), &info.params);
    }

    fn catch(&self, catch: wasmparser::Catch) -> wasm_encoder::Catch {
        use wasm_encoder::Catch as Out;
        use wasmparser::Catch as In;
        match catch {
            In::One { tag, label } => Out::One { tag, label: self.label(label) },
            In::OneRef { tag, label } => Out::OneRef { tag, label: self.label(label) },
            In::All { label } => Out::All { label: self.label(label) },
            In::AllRef { label } => Out::AllRef { label: self.label(label) },
        }
    }

    // ---- regions and their dispatch ---------------------------------------------------------------

    /// Opens the labels of a region, innermost first to end, then checks and dispatches.
    fn open_region(&mut self, region: usize, ctl: Option<Ctl>) {
        let closers = &self.scan.regions[region].closers;
        for &closer in closers.iter().rev() {
            let ty = match closer {
                Closer::End(c) => self.cx.types.block_type(&[], &self.scan.ctls[c as usize].results),
                _ => BlockType::Empty,
            };
            let level = self.block(ty);
            self.closers.insert(closer.into(), level);
        }
        let info = ctl.map(|c| &self.scan.ctls[c as usize]);
        let is_try = info.is_some_and(|i| i.kind == CtlKind::Try);
        let charge = info.map_or(self.scan.entry_charge, |i| i.charge);
        let fuel = self.cx.hidden.fuel;
        if !is_try {
            self.sink().global_get(fuel).i64_const(charge as i64).i64_sub().global_set(fuel);
        }
        let go = self.block(BlockType::Empty);
        self.sink().global_get(fuel).i64_const(0).i64_ge_s();
        self.hint(true);
        let depth = self.depth(go);
        self.sink().br_if(depth);
        self.cold(region, info.map(|i| (i.kind, i.point)), go);
        self.end_block();
    }

    /// The fuel is negative at the beginning of a region: save, or find the way to the point to resume at.
    fn cold(&mut self, region: usize, inner: Option<(CtlKind, PointId)>, go: u32) {
        let hidden = self.cx.hidden;
        let items = &self.scan.regions[region].items;
        match inner {
            Some((CtlKind::Loop, point)) => {
                if items.is_empty() {
                    return self.save(point);
                }
                self.sink().global_get(hidden.rewinding).i32_eqz();
                self.save_if(point);
            }
            None => {
                self.sink().global_get(hidden.rewinding).i32_eqz();
                self.save_if(0);
                let trailer = mem(hidden.frames, 0);
                self.sink().global_get(hidden.sp).i32_const(4).i32_sub().i32_load(trailer);
                self.sink().global_set(hidden.point);
            }
            Some(_) => {}
        }
        self.dispatch(region, inner.is_none(), go);
    }

    /// Saves the frame and returns, if the condition on the stack holds, which is rare.
    fn save_if(&mut self, point: PointId) {
        self.hint(false);
        self.sink().if_(BlockType::Empty);
        self.open += 1;
        self.save(point);
        self.end_block();
    }

    /// Jumps to the point that `hidden.point` names, after restoring its frame.
    fn dispatch(&mut self, region: usize, at_entry: bool, go: u32) {
        let items = &self.scan.regions[region].items;
        // What is restored here, last first, so that the first one's label is the innermost.
        let mut restored: Vec<PointId> = if at_entry { vec![0] } else { vec![] };
        for item in items {
            match *item {
                Reached::Call(point) => restored.push(point),
                Reached::Inner(ctl) if self.scan.ctls[ctl as usize].kind == CtlKind::Loop => {
                    restored.push(self.scan.ctls[ctl as usize].point);
                }
                Reached::Inner(_) => {}
            }
        }
        let levels: HashMap<PointId, u32> =
            restored.iter().rev().map(|&point| (point, self.block(BlockType::Empty))).collect();
        let mut targets = vec![];
        if at_entry {
            targets.push(self.depth(levels[&0]));
        }
        for item in items {
            match *item {
                Reached::Call(point) => targets.push(self.depth(levels[&point])),
                Reached::Inner(ctl) => {
                    let info = &self.scan.ctls[ctl as usize];
                    let mut first = info.point;
                    if info.kind == CtlKind::Loop {
                        targets.push(self.depth(levels[&first]));
                        first += 1;
                    }
                    let before = self.closer(Closer::Before(ctl));
                    targets.extend((first..info.points_end).map(|_| before));
                }
            }
        }
        let first = if at_entry { 0 } else { self.first_point(items[0]) };
        let point = self.cx.hidden.point;
        self.sink().global_get(point);
        if first > 0 {
            self.sink().i32_const(first as i32).i32_sub();
        }
        let default = *targets.last().expect("a dispatch has targets");
        self.sink().br_table(targets, default);
        for point in restored {
            self.end_block();
            self.resume(point, go);
        }
    }

    fn first_point(&self, item: Reached) -> PointId {
        match item {
            Reached::Call(point) => point,
            Reached::Inner(ctl) => self.scan.ctls[ctl as usize].point,
        }
    }

    /// Restores the point's frame and goes on there.
    fn resume(&mut self, id: PointId, go: u32) {
        self.restore(id);
        let hidden = self.cx.hidden;
        match self.scan.points[id as usize].kind {
            PointKind::Entry => {
                self.sink().i32_const(0).global_set(hidden.rewinding);
                self.sink().global_get(hidden.grant).global_set(hidden.fuel);
                let depth = self.depth(go);
                self.sink().br(depth);
            }
            PointKind::Loop(ctl) => {
                // The header is going to charge for this pass, which was charged before.
                let charge = self.scan.ctls[ctl as usize].charge as i64;
                self.sink().i32_const(0).global_set(hidden.rewinding);
                self.sink().global_get(hidden.grant).i64_const(charge).i64_add().global_set(hidden.fuel);
                let depth = self.closer(Closer::Before(ctl));
                self.sink().br(depth);
            }
            PointKind::Call(callee) => {
                self.call_again(callee);
                let results = self.results(callee).to_vec();
                let height = self.spilled_at(id);
                self.spill(height, &results);
                let depth = self.closer(Closer::Point(id));
                self.sink().br(depth);
            }
        }
    }

    fn results(&self, callee: Callee) -> &[ValType] {
        match callee {
            Callee::Direct(func) => self.cx.module.func_type(func).results(),
            Callee::Indirect { ty, .. } | Callee::Ref { ty } => self.cx.module.type_at(ty).results(),
        }
    }

    /// Height of the operand stack at a point, without what its call takes and gives.
    fn spilled_at(&self, id: PointId) -> usize {
        self.layouts[id as usize].stack.len()
    }

    /// Calls the callee again, which rebuilds its own frame: with zeros for arguments, or, where another
    /// function may have taken its place, through the thunk of the one that the inner frame names.
    fn call_again(&mut self, callee: Callee) {
        let hidden = self.cx.hidden;
        if let Callee::Direct(func) = callee
            && !self.cx.graph.tail_calls[func as usize]
        {
            let module = self.cx.module;
            zeros(&mut self.code, self.cx, module.func_type(func).params());
            self.sink().call(hidden.func(module, func));
            return;
        }
        let ty = self.cx.types.func_type(&[], self.results(callee));
        let inner = mem(hidden.frames, 0);
        self.sink().global_get(hidden.sp).i32_const(TRAILER as i32).i32_sub().i32_load(inner);
        self.sink().call_indirect(hidden.thunks, ty);
    }

    fn enter_function(&mut self) {
        for (id, point) in self.scan.points.iter().enumerate() {
            self.layouts[id] = self.layout(point);
        }
        self.open_region(0, None);
    }

    // ---- points -----------------------------------------------------------------------------------

    fn call(&mut self, id: PointId, op: &Op) {
        let point = &self.scan.points[id as usize];
        let PointKind::Call(callee) = point.kind else { unreachable!("noted as a call") };
        let (height, after) = (self.spilled.len(), point.stack.len());
        debug_assert_eq!(height + point.own, after, "operands of function {} at {}", self.func, point.offset);
        let own = &point.stack[height..];
        if !own.is_empty() {
            self.spill(after, &point.args);
            self.spill(height, own);
            self.reload(after, &point.args);
        }
        self.origin(op.start);
        match callee {
            Callee::Direct(func) => {
                let func = self.cx.hidden.func(self.cx.module, func);
                self.sink().call(func);
            }
            Callee::Indirect { .. } | Callee::Ref { .. } => {
                self.code.extend_from_slice(&self.cx.wasm[op.start as usize..op.end as usize]);
            }
        }
        let results = self.results(callee).to_vec();
        self.spill(after, &results);
        self.end_block(); // the label `Point`
        let fuel = self.cx.hidden.fuel;
        self.sink().global_get(fuel).i64_const(0).i64_lt_s();
        self.save_if(id);
        self.reload(height, own);
        self.reload(after, &results);
    }

    /// What the frame holds at a point: the operand stack of all constructs around it, and live locals.
    fn layout(&self, point: &Point) -> Layout {
        let place = match point.kind {
            PointKind::Entry => Place::Entry,
            PointKind::Loop(_) => Place::Loop,
            PointKind::Call(_) => Place::Call,
        };
        let stack = point.stack.iter().map(|&ty| self.kind(ty)).collect();
        let params = self.scan.params;
        let locals = self
            .scan
            .liveness
            .live_at(point.block)
            .filter(|&local| place != Place::Entry || local < params)
            .map(|local| (local, self.kind(self.scan.locals[local as usize])))
            .collect();
        Layout { place, offset: point.offset, stack, locals }
    }

    fn kind(&self, ty: ValType) -> Kind {
        kind(self.cx, ty)
    }

    /// The local that holds a slot of a frame, and its type, in the order of the layout.
    fn slots(&mut self, id: PointId) -> Vec<(u32, ValType)> {
        let operands = &self.scan.points[id as usize].stack;
        let mut slots: Vec<_> =
            operands.iter().enumerate().map(|(height, &ty)| (self.temp(height, ty), ty)).collect();
        let locals = &self.layouts[id as usize].locals;
        slots.extend(locals.iter().map(|&(local, _)| (local, self.scan.locals[local as usize])));
        slots
    }

    /// Pushes the frame and returns zeros; the fuel stays negative.
    fn save(&mut self, id: PointId) {
        let slots = self.slots(id);
        let scratch = self.scratch();
        save_frame(&mut self.code, self.cx, scratch, &slots, self.func, id);
        let results = self.cx.module.func_type(self.func).results();
        zeros(&mut self.code, self.cx, results);
        self.sink().return_();
    }

    fn restore(&mut self, id: PointId) {
        let slots = self.slots(id);
        let scratch = self.scratch();
        restore_frame(&mut self.code, self.cx, scratch, &slots, self.scan.params);
    }

    // ---- the body ---------------------------------------------------------------------------------

    fn finish(self) -> Emitted {
        let params = self.scan.params as usize;
        let types = self.scan.locals[params..].iter().chain(&self.temp_types);
        let mut runs: Vec<(u32, wasm_encoder::ValType)> = vec![];
        for &ty in types {
            let ty = encoded(nullable(ty));
            match runs.last_mut() {
                Some((count, last)) if *last == ty => *count += 1,
                _ => runs.push((1, ty)),
            }
        }
        let mut body = wasm_encoder::Function::new(runs);
        let shift = body.byte_len() as u32;
        body.raw(self.code);
        let hints = self.hints.into_iter().map(|(at, taken)| (at + shift, taken)).collect();
        let origins = self.origins.into_iter().map(|(at, from)| (at + shift, from)).collect();
        Emitted { body: body.into_raw_body(), hints, origins, layouts: self.layouts }
    }
}

/// The kind of a value; exceptions can only be null in a module that neither throws nor catches.
pub fn kind(cx: &Context<'_, '_>, ty: ValType) -> Kind {
    match Kind::of(ty) {
        Kind::Exn if !cx.hidden.has_exns => Kind::Null,
        kind => kind,
    }
}

/// An access to a memory of ours: unaligned.
pub fn mem(memory_index: u32, offset: u32) -> MemArg {
    MemArg { offset: u64::from(offset), align: 0, memory_index }
}

/// Pushes a frame with these locals.
pub fn save_frame(
    code: &mut Vec<u8>,
    cx: &Context<'_, '_>,
    scratch: u32,
    slots: &[(u32, ValType)],
    func: u32,
    point: PointId,
) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let mut sink = InstructionSink::new(code);
    sink.global_get(hidden.sp).local_set(scratch);
    let mut at = 0;
    for &(local, ty) in slots {
        let kind = kind(cx, ty);
        match kind {
            Kind::Null => {}
            Kind::Func => {
                sink.local_get(local).call(hidden.push_func);
            }
            Kind::Exn => {
                sink.local_get(local).call(hidden.push_exn);
            }
            _ => {
                sink.local_get(scratch).local_get(local);
                store(&mut sink, kind, mem(frames, at));
            }
        }
        at += kind.size();
    }
    let trailer = u64::from(func) | u64::from(point) << 32;
    sink.local_get(scratch).i64_const(trailer as i64).i64_store(mem(frames, at));
    sink.local_get(scratch).i32_const((at + TRAILER) as i32).i32_add().global_set(hidden.sp);
}

/// Pops a frame into these locals.
///
/// Locals below `params` keep their declared type; all others are nullable.
pub fn restore_frame(
    code: &mut Vec<u8>,
    cx: &Context<'_, '_>,
    scratch: u32,
    slots: &[(u32, ValType)],
    params: u32,
) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let size: u32 = slots.iter().map(|&(_, ty)| kind(cx, ty).size()).sum::<u32>() + TRAILER;
    let mut sink = InstructionSink::new(code);
    sink.global_get(hidden.sp).i32_const(size as i32).i32_sub().local_tee(scratch).global_set(hidden.sp);
    let mut at = 0;
    for &(local, ty) in slots {
        let kind = kind(cx, ty);
        if kind.size() > 0 {
            sink.local_get(scratch);
            load(&mut sink, kind, mem(frames, at));
            sink.local_set(local);
        }
        at += kind.size();
    }
    for &(local, ty) in slots.iter().rev() {
        match kind(cx, ty) {
            Kind::Func => {
                sink.call(hidden.pop_func);
                cast(&mut sink, ty);
            }
            Kind::Exn => {
                sink.call(hidden.pop_exn);
            }
            _ => continue,
        }
        if local < params && !ty.is_defaultable() {
            sink.ref_as_non_null();
        }
        sink.local_set(local);
    }
}

/// From `funcref` to the type of a local.
pub fn cast(sink: &mut InstructionSink<'_>, ty: ValType) {
    let ValType::Ref(r) = nullable(ty) else { unreachable!("a reference") };
    if r != wasmparser::RefType::FUNCREF {
        let heap = r.heap_type().try_into().expect("validated: a module's own type");
        sink.ref_cast_nullable(heap);
    }
}

pub fn store(sink: &mut InstructionSink<'_>, kind: Kind, at: MemArg) {
    match kind {
        Kind::I32 => sink.i32_store(at),
        Kind::I64 => sink.i64_store(at),
        Kind::F32 => sink.f32_store(at),
        Kind::F64 => sink.f64_store(at),
        Kind::V128 => sink.v128_store(at),
        Kind::Func | Kind::Exn | Kind::Null => unreachable!("not in memory"),
    };
}

pub fn load(sink: &mut InstructionSink<'_>, kind: Kind, at: MemArg) {
    match kind {
        Kind::I32 => sink.i32_load(at),
        Kind::I64 => sink.i64_load(at),
        Kind::F32 => sink.f32_load(at),
        Kind::F64 => sink.f64_load(at),
        Kind::V128 => sink.v128_load(at),
        Kind::Func | Kind::Exn | Kind::Null => unreachable!("not in memory"),
    };
}

/// A value of each type that nobody reads.
pub fn zeros(code: &mut Vec<u8>, cx: &Context<'_, '_>, types: &[ValType]) {
    let mut sink = InstructionSink::new(code);
    for &ty in types {
        match ty {
            ValType::I32 => {
                sink.i32_const(0);
            }
            ValType::I64 => {
                sink.i64_const(0);
            }
            ValType::F32 => {
                sink.f32_const(0.0.into());
            }
            ValType::F64 => {
                sink.f64_const(0.0.into());
            }
            ValType::V128 => {
                sink.v128_const(0);
            }
            ValType::Ref(r) if r.is_nullable() => {
                let heap = r.heap_type().try_into().expect("validated: a module's own type");
                sink.ref_null(heap);
            }
            ValType::Ref(r) => match (Kind::of(ty), r.heap_type()) {
                (Kind::Func, wasmparser::HeapType::Concrete(at) | wasmparser::HeapType::Exact(at)) => {
                    let at = at.as_module_index().expect("a module's own type");
                    sink.ref_func(cx.hidden.dummy(cx.module, at));
                }
                (Kind::Func, _) => {
                    sink.ref_func(cx.hidden.push_func);
                }
                (Kind::Exn, _) if cx.hidden.has_exns => {
                    sink.call(cx.hidden.dummy_exn);
                }
                // No value of the type exists, so neither does a call that gives or takes one.
                _ => {
                    sink.unreachable();
                }
            },
        }
    }
}
