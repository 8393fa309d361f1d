//! One reading of a function body: what the emitter has to change, where the suspension points are, and
//! what is on the operand stack there. The emitter never parses; it copies the bytes between what is noted
//! here.

use wasmparser::{BlockType, FuncValidator, Operator, ValType, ValidatorResources};

use super::Options;
use super::callgraph::CallGraph;
use super::cost::Costs;
use super::liveness::{Block, FlowBuilder};
use super::module::{Body, Module};
use super::points::{
    Callee, Closer, Ctl, CtlInfo, CtlKind, Op, OpKind, Point, PointId, PointKind, Reached, Region, Scan,
};
use super::refusal::{Item, Refusal};

/// Points of one function: so many fit a `br_table` with room.
const POINTS_MAX: usize = 60_000;
/// Memory that the liveness of one function may take.
const LIVENESS_BYTES_MAX: u64 = 1 << 30;

/// Operand stack slots of all points of one function together.
const OPERANDS_MAX: usize = 1 << 22;

struct Frame {
    ctl: Option<Ctl>,
    end_block: Block,
    /// For a loop its header; for an `if` the block of its `else` or end.
    other_block: Block,
    /// Region that the construct lies in, or is.
    region: usize,
    charges: bool,
}

pub(super) struct Scanner<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    graph: &'m CallGraph,
    pub(super) cost_model: u32,
    validator: FuncValidator<ValidatorResources>,
    pub(super) func: u32,
    flow: FlowBuilder,
    pub(super) costs: Costs,
    frames: Vec<Frame>,
    reachable: bool,
    /// Dead code lies before the next operator that is noted.
    dead_before: bool,
    /// Handlers' blocks of the surrounding `try_table`s.
    handlers: Vec<Vec<Block>>,
    operands_total: usize,
    pub(super) out: Parts,
}

pub(super) struct Parts {
    pub(super) ops: Vec<Op>,
    pub(super) ctls: Vec<CtlInfo>,
    pub(super) points: Vec<Point>,
    regions: Vec<Region>,
    locals: Vec<ValType>,
    entry_charge: u64,
}

/// Validates and reads one body.
pub fn scan<'a>(
    module: &Module<'a>,
    graph: &CallGraph,
    body: &Body<'a>,
    options: &Options,
) -> Result<Scan, Refusal> {
    let given = &body.to_validate;
    let to_validate = wasmparser::FuncToValidate {
        resources: given.resources.clone(),
        index: given.index,
        ty: given.ty,
        features: given.features,
    };
    let mut validator = to_validate.into_validator(Default::default());
    let mut reader = body.body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let locals: Vec<_> = (0..validator.len_locals())
        .map(|i| module.indexed(validator.get_local_type(i).expect("declared")))
        .collect();
    let params = module.func_type(body.func).params().len() as u32;
    for &ty in locals.iter().chain(module.func_type(body.func).results()) {
        module.value_type("function", body.func, ty, body.body.range().start as u64)?;
    }
    let mut flow = FlowBuilder::new(locals.len() as u32);
    let entry = flow.split();
    let end_block = flow.reserve();
    let point = Point {
        kind: PointKind::Entry,
        offset: reader.original_position() as u32,
        stack: vec![],
        own: 0,
        args: vec![],
        block: entry,
    };
    let mut scanner = Scanner {
        module,
        graph,
        cost_model: options.cost_model,
        validator,
        func: body.func,
        flow,
        costs: Costs::new(),
        frames: vec![Frame { ctl: None, end_block, other_block: entry, region: 0, charges: true }],
        reachable: true,
        dead_before: false,
        handlers: vec![],
        operands_total: 0,
        out: Parts {
            ops: vec![],
            ctls: vec![],
            points: vec![point],
            regions: vec![Region::default()],
            locals,
            entry_charge: 0,
        },
    };
    let start = reader.original_position() as u32;
    let mut reader = wasmparser::OperatorsReader::new(reader);
    scanner.run(&mut reader)?;
    let end = reader.original_position() as u32;
    scanner.finish(params, (start, end))
}

impl<'m, 'a> Scanner<'m, 'a> {
    fn run(&mut self, reader: &mut wasmparser::OperatorsReader<'a>) -> Result<(), Refusal> {
        while !self.frames.is_empty() {
            let start = reader.original_position();
            let op = reader.read()?;
            let end = reader.original_position();
            let was_reachable = self.reachable;
            if was_reachable {
                self.refuse(&op, start as u64)?;
                self.before(&op, start as u32, end as u32);
            }
            self.validator.op(start, &op)?;
            self.control(&op, start as u32, end as u32, was_reachable)?;
        }
        reader.clone().finish()?;
        Ok(())
    }

    fn finish(self, params: u32, code: (u32, u32)) -> Result<Scan, Refusal> {
        let Parts { ops, ctls, points, mut regions, locals, entry_charge } = self.out;
        let too_large = |what, found: u64, limit: u64| {
            Err(Refusal::TooLarge {
                what,
                item: Item::new("function", self.func),
                offset: u64::from(code.0),
                found,
                limit,
            })
        };
        if points.len() > POINTS_MAX {
            return too_large("number of loops and calls", points.len() as u64, POINTS_MAX as u64);
        }
        if self.operands_total > OPERANDS_MAX {
            return too_large("operands at all points", self.operands_total as u64, OPERANDS_MAX as u64);
        }
        let bytes = self.flow.bytes_to_solve();
        if bytes > LIVENESS_BYTES_MAX {
            return too_large("locals times blocks, in bytes,", bytes, LIVENESS_BYTES_MAX);
        }
        for region in &mut regions {
            region.closers.retain(|closer| match *closer {
                Closer::Point(_) => true,
                Closer::Before(c) | Closer::Else(c) | Closer::End(c) => ctls[c as usize].has_points,
            });
            region.items.retain(|item| match *item {
                Reached::Call(_) => true,
                Reached::Inner(c) => ctls[c as usize].has_points,
            });
        }
        let liveness = self.flow.solve();
        Ok(Scan { ops, ctls, points, regions, locals, params, entry_charge, liveness, code })
    }

    pub(super) fn signature(&self, ty: &BlockType) -> (Vec<ValType>, Vec<ValType>) {
        match ty {
            BlockType::Empty => (vec![], vec![]),
            BlockType::Type(ty) => (vec![], vec![*ty]),
            BlockType::FuncType(at) => match self.module.types.get(*at as usize) {
                Some(Some(ty)) => (ty.params().to_vec(), ty.results().to_vec()),
                _ => (vec![], vec![]), // the validator refuses it right after
            },
        }
    }

    /// What has to be known before the validator takes the operator: the operand stack that it meets.
    fn before(&mut self, op: &Operator<'a>, start: u32, end: u32) {
        let callee = match op {
            Operator::Call { function_index } => {
                let func = *function_index;
                if self.graph.can_suspend.get(func as usize) != Some(&true) {
                    self.costs.charge(1 + self.graph.cost.get(func as usize).copied().unwrap_or(0));
                    return;
                }
                Callee::Direct(func)
            }
            Operator::CallIndirect { type_index, .. } => Callee::Indirect { ty: *type_index },
            Operator::CallRef { type_index } => Callee::Ref { ty: *type_index },
            Operator::Block { blockty } => return self.open(CtlKind::Block, blockty, 0, vec![], start, end),
            Operator::Loop { blockty } => return self.open(CtlKind::Loop, blockty, 0, vec![], start, end),
            Operator::If { blockty } => return self.open(CtlKind::If, blockty, 1, vec![], start, end),
            Operator::TryTable { try_table } => {
                let catches = try_table.catches.clone();
                return self.open(CtlKind::Try, &try_table.ty, 0, catches, start, end);
            }
            Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. }
                if self.cost_model >= 2 =>
            {
                self.costs.charge(1);
                let wide = self.operand(0) == Some(ValType::I64);
                return self.note(OpKind::Bulk { wide }, start, end);
            }
            _ => return self.costs.charge(1),
        };
        self.costs.charge(1);
        let (args, extra) = match callee {
            Callee::Direct(f) => (self.module.func_type(f).params().len(), 0),
            Callee::Indirect { ty, .. } | Callee::Ref { ty } => match self.module.types.get(ty as usize) {
                Some(Some(ty)) => (ty.params().len(), 1),
                _ => return, // the validator refuses it right after
            },
        };
        let own = self.operands(args + extra, None).len();
        let stack = self.operand_stack(args + extra);
        let args = if own == 0 { vec![] } else { self.operands(0, Some(args + extra)) };
        let point = self.out.points.len() as PointId;
        // The block is set once the call is over.
        self.out.points.push(Point {
            kind: PointKind::Call(callee),
            offset: start,
            stack,
            own,
            args,
            block: 0,
        });
        let region = self.frames.last().expect("in a frame").region;
        self.out.regions[region].closers.push(Closer::Point(point));
        self.out.regions[region].items.push(Reached::Call(point));
        self.mark_points();
        self.note(OpKind::Call(point), start, end);
    }

    /// Types of operands of the innermost construct, bottom first: leaving out `above` ones on top, and at
    /// most `count`.
    fn operands(&self, above: usize, count: Option<usize>) -> Vec<ValType> {
        let height = self.validator.operand_stack_height() as usize;
        let base = self.validator.get_control_frame(0).map_or(0, |f| f.height);
        let all = height.saturating_sub(base).saturating_sub(above);
        let count = count.unwrap_or(all).min(all);
        (0..count).rev().filter_map(|depth| self.operand(above + depth)).collect()
    }

    /// Types of the whole operand stack, bottom first, leaving out `above` ones on top.
    fn operand_stack(&mut self, above: usize) -> Vec<ValType> {
        let all = (self.validator.operand_stack_height() as usize).saturating_sub(above);
        self.operands_total += all;
        if self.operands_total > OPERANDS_MAX {
            return vec![]; // refused at the end
        }
        (0..all).rev().filter_map(|depth| self.operand(above + depth)).collect()
    }

    fn operand(&self, depth: usize) -> Option<ValType> {
        Some(self.module.indexed(self.validator.get_operand_type(depth).flatten()?))
    }

    /// All constructs around the current place have a point inside.
    fn mark_points(&mut self) {
        for frame in self.frames.iter().rev() {
            let Some(ctl) = frame.ctl else { continue };
            let info = &mut self.out.ctls[ctl as usize];
            if std::mem::replace(&mut info.has_points, true) && info.kind != CtlKind::Loop {
                break;
            }
        }
    }

    fn note(&mut self, kind: OpKind, start: u32, end: u32) {
        let dead_before = std::mem::take(&mut self.dead_before);
        self.out.ops.push(Op { kind, start, end, dead_before });
    }

    fn open(
        &mut self,
        kind: CtlKind,
        ty: &BlockType,
        above: usize,
        catches: Vec<wasmparser::Catch>,
        start: u32,
        end: u32,
    ) {
        let (params, results) = self.signature(ty);
        let beneath = self.operands(above + params.len(), None);
        let ctl = self.out.ctls.len() as Ctl;
        let outer = self.frames.last().expect("in a frame").region;
        let point = self.out.points.len() as PointId;
        self.costs.charge(1);
        let (mut region, mut charges) = (outer, false);
        if matches!(kind, CtlKind::Loop | CtlKind::Try) {
            region = self.out.regions.len();
            self.out.regions.push(Region::default());
            self.out.regions[outer].closers.push(Closer::Before(ctl));
            self.out.regions[outer].items.push(Reached::Inner(ctl));
        }
        self.out.ctls.push(CtlInfo {
            kind,
            beneath,
            params,
            results,
            has_points: kind == CtlKind::Loop,
            has_else: false,
            charge: 0,
            passes: None,
            start: self.out.ops.len(),
            end: 0,
            point,
            points_end: point,
            region,
        });
        let end_block = self.flow.reserve();
        let mut other_block = end_block;
        match kind {
            CtlKind::Block => self.costs.enter_block(),
            CtlKind::Try => {
                let targets = catches.iter().map(|c| self.label_block(catch_label(c))).collect();
                self.handlers.push(targets);
                self.costs.enter_block();
                self.flow.split();
            }
            CtlKind::If => {
                self.costs.enter_if();
                other_block = self.flow.reserve();
                self.flow.branch(other_block);
                self.flow.split();
            }
            CtlKind::Loop => {
                self.costs.enter_loop();
                charges = true;
                other_block = self.flow.split();
                let (mut stack, own) = (self.operand_stack(above), 0);
                // The header takes its parameters by their declared types; what is given may be a subtype.
                let params = &self.out.ctls[ctl as usize].params;
                let given = stack.len().saturating_sub(params.len());
                stack.truncate(given);
                stack.extend_from_slice(params);
                let kind = PointKind::Loop(ctl);
                self.out.points.push(Point {
                    kind,
                    offset: start,
                    stack,
                    own,
                    args: vec![],
                    block: other_block,
                });
                self.mark_points();
            }
        }
        let op = match kind {
            CtlKind::Block => OpKind::Block(ctl),
            CtlKind::Loop => OpKind::Loop(ctl),
            CtlKind::If => OpKind::If(ctl),
            CtlKind::Try => OpKind::Try(ctl, catches),
        };
        self.note(op, start, end);
        self.frames.push(Frame { ctl: Some(ctl), end_block, other_block, region, charges });
    }

    /// The block that a branch to the label at `depth` goes to.
    fn label_block(&self, depth: u32) -> Block {
        let Some(at) = self.frames.len().checked_sub(1 + depth as usize) else {
            return self.frames[0].end_block; // the validator refuses it right after
        };
        let frame = &self.frames[at];
        if frame.charges && frame.ctl.is_some() { frame.other_block } else { frame.end_block }
    }

    /// Whether a branch to the label takes operands with it.
    fn carries(&self, depth: u32) -> bool {
        match self.frames[self.frames.len() - 1 - depth as usize].ctl {
            None => !self.module.func_type(self.func).results().is_empty(),
            Some(ctl) => {
                let info = &self.out.ctls[ctl as usize];
                let loops = info.kind == CtlKind::Loop;
                !if loops { &info.params } else { &info.results }.is_empty()
            }
        }
    }

    fn branch(&mut self, depth: u32, share: f64) {
        let to = self.label_block(depth);
        self.flow.branch(to);
        if (depth as usize) < self.frames.len() {
            self.costs.branch(depth, share);
        }
    }

    /// What the operator does to the flow, after the validator has taken it.
    fn control(
        &mut self,
        op: &Operator<'a>,
        start: u32,
        end: u32,
        was_reachable: bool,
    ) -> Result<(), Refusal> {
        if !was_reachable {
            return self.dead_control(op, start, end);
        }
        match op {
            Operator::Else => self.else_(start, end, true),
            Operator::End => self.end(start, end, true),
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth, 1.0);
                self.stop(OpKind::Br(*relative_depth), start, end);
            }
            Operator::BrIf { relative_depth } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                let carries = self.carries(*relative_depth);
                self.note(OpKind::BrIf(*relative_depth, carries), start, end);
            }
            Operator::BrOnNull { relative_depth } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                self.note(OpKind::BrOnNull(*relative_depth), start, end);
            }
            Operator::BrOnNonNull { relative_depth } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                self.note(OpKind::BrOnNonNull(*relative_depth), start, end);
            }
            Operator::BrOnCast { relative_depth, from_ref_type, to_ref_type }
            | Operator::BrOnCastFail { relative_depth, from_ref_type, to_ref_type } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                let (depth, from, to) = (*relative_depth, *from_ref_type, *to_ref_type);
                let fail = matches!(op, Operator::BrOnCastFail { .. });
                self.note(OpKind::BrOnCast { depth, from, to, fail }, start, end);
            }
            Operator::BrTable { targets } => {
                let list = targets.targets().collect::<Result<Vec<_>, _>>()?;
                let all = list.len() + 1;
                for (i, &depth) in list.iter().chain([&targets.default()]).enumerate() {
                    self.branch(depth, 1.0 / (all - i) as f64);
                }
                self.stop(OpKind::BrTable(list, targets.default()), start, end);
            }
            Operator::Return | Operator::Unreachable => self.stop(OpKind::Stop, start, end),
            Operator::Throw { .. } | Operator::ThrowRef => {
                self.throws();
                self.stop(OpKind::Stop, start, end);
            }
            Operator::ReturnCall { function_index } => {
                self.stop(OpKind::ReturnCall(*function_index), start, end);
            }
            Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. } => {
                self.stop(OpKind::Stop, start, end);
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => {
                self.throws();
                if let Some(Op { kind: OpKind::Call(point), start: at, .. }) = self.out.ops.last()
                    && *at == start
                {
                    let point = *point as usize;
                    // A resumed callee may throw: what the handlers read is live while it runs.
                    self.out.points[point].block = self.flow.split();
                    self.throws();
                    self.flow.split();
                } else if !self.handlers.is_empty() {
                    self.flow.split();
                }
            }
            Operator::LocalGet { local_index } => {
                self.flow.read(*local_index);
                if !self.out.locals[*local_index as usize].is_defaultable() {
                    self.note(OpKind::GetNonNull, start, end);
                }
            }
            Operator::LocalSet { local_index } => self.flow.write(*local_index),
            Operator::LocalTee { local_index } => {
                self.flow.write(*local_index);
                if !self.out.locals[*local_index as usize].is_defaultable() {
                    // The local is nullable in what we emit, and so would be the value that `tee` leaves.
                    self.note(OpKind::GetNonNull, start, end);
                }
            }
            Operator::RefFunc { function_index } => self.note(OpKind::RefFunc(*function_index), start, end),
            Operator::DataDrop { data_index } => self.note(OpKind::DataDrop(*data_index), start, end),
            Operator::ElemDrop { elem_index } => self.note(OpKind::ElemDrop(*elem_index), start, end),
            _ => {}
        }
        Ok(())
    }

    /// Dead code: only its nesting matters.
    fn dead_control(&mut self, op: &Operator<'a>, start: u32, end: u32) -> Result<(), Refusal> {
        // The validator's control stack tells when the construct that we know of is the innermost again.
        let depth = self.validator.control_stack_height() as usize;
        match op {
            Operator::Else if depth == self.frames.len() => self.else_(start, end, false),
            Operator::End if depth + 1 == self.frames.len() => self.end(start, end, false),
            _ => {}
        }
        Ok(())
    }

    /// A call or throw may go to the handlers around it.
    fn throws(&mut self) {
        for targets in &self.handlers {
            for &to in targets {
                self.flow.branch(to);
            }
        }
    }

    fn stop(&mut self, kind: OpKind, start: u32, end: u32) {
        self.note(kind, start, end);
        self.flow.stop();
        self.reachable = false;
        self.dead_before = true;
    }

    fn else_(&mut self, start: u32, end: u32, reached: bool) {
        let frame = self.frames.last_mut().expect("in a frame");
        let ctl = frame.ctl.expect("an if");
        let (end_block, else_block, region) = (frame.end_block, frame.other_block, frame.region);
        frame.other_block = end_block;
        self.flow.branch(end_block);
        self.flow.stop();
        self.flow.begin(else_block);
        self.costs.enter_else(reached);
        self.out.ctls[ctl as usize].has_else = true;
        self.out.regions[region].closers.push(Closer::Else(ctl));
        self.note(OpKind::Else(ctl), start, end);
        self.reachable = true;
    }

    fn end(&mut self, start: u32, end: u32, reached: bool) {
        let frame = self.frames.pop().expect("in a frame");
        let passes = frame.ctl.and_then(|ctl| self.passes(ctl));
        let charge = self.costs.leave(reached, passes);
        if let Some(ctl) = frame.ctl {
            let points = self.out.points.len() as PointId;
            let info = &mut self.out.ctls[ctl as usize];
            info.points_end = points;
            info.charge = charge.unwrap_or(0);
            info.passes = passes;
            info.end = self.out.ops.len();
            let bare_if = info.kind == CtlKind::If && !info.has_else;
            if info.kind == CtlKind::Try {
                self.handlers.pop();
            }
            if bare_if {
                if !info.params.is_empty() {
                    self.out.regions[frame.region].closers.push(Closer::Else(ctl));
                }
                // The arm that is not there falls to the end.
                self.flow.branch(frame.end_block);
                self.flow.stop();
                self.flow.begin(frame.other_block);
            }
            if matches!(info.kind, CtlKind::Block | CtlKind::If) {
                self.out.regions[frame.region].closers.push(Closer::End(ctl));
            }
        } else {
            self.out.entry_charge = charge.expect("the function charges");
        }
        self.flow.begin(frame.end_block);
        self.note(OpKind::End(frame.ctl), start, end);
        self.reachable = true;
    }
}

fn catch_label(catch: &wasmparser::Catch) -> u32 {
    use wasmparser::Catch::*;
    match *catch {
        One { label, .. } | OneRef { label, .. } | All { label } | AllRef { label } => label,
    }
}
