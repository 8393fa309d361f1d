//! One reading of a function body: what the emitter has to change, where the suspension points are, and
//! what is on the operand stack there. The emitter never parses; it copies the bytes between what is noted
//! here.

mod control;
mod read;

use wasmparser::{BlockType, FuncValidator, FuncValidatorAllocations, Operator, ValType, ValidatorResources};

use super::callgraph::CallGraph;
use super::cost::{Costs, THREADS};
use super::counted::Passes;
use super::emit::Context;
use super::first;
use super::inline::InlinedCall;
use super::liveness::{Block, FlowBuilder};
use super::module::{Body, Module};
use super::points::{
    Callee, Closer, Ctl, CtlInfo, CtlKind, Op, OpKind, Point, PointId, PointKind, Reached, Scan, Types,
};
use super::pushed::Pushed;
use super::refusal::Refusal;

/// Points of one function: what is noted of each takes a kilobyte or two.
const POINTS_MAX: usize = 60_000;
/// Memory that the liveness of one function may take.
const LIVENESS_BYTES_MAX: u64 = 1 << 30;

/// Operand stack slots of all points and constructs of one function together.
const OPERANDS_MAX: usize = 1 << 22;

struct Frame {
    ctl: Option<Ctl>,
    end_block: Block,
    /// For a loop its header; for an `if` the block of its `else` or end.
    other_block: Block,
    /// Region that the construct lies in, or is.
    region: usize,
    /// A branch to it goes to its beginning.
    repeats: bool,
}

pub(super) struct Scanner<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    /// The body's bytes, and the position of the first.
    code: &'a [u8],
    base: usize,
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
    pushed: Pushed,
    /// The loops around.
    pub(super) loops: Vec<Ctl>,
    /// Offset of the loop that the function begins with, if that may check for it.
    first_loop: Option<u32>,
    /// The inlined calls that come next, and of the one that came last the number of its caller's operands.
    inlined: &'m [InlinedCall],
    /// Some local has a type without a default.
    has_non_null: bool,
    callers: Option<(InlinedCall, u32)>,
    pub(super) out: Scan,
}

/// What reading one body leaves for the next: memory.
#[derive(Default)]
pub struct Scratch {
    validator: FuncValidatorAllocations,
    flow: FlowBuilder,
    costs: Costs,
    frames: Vec<Frame>,
    pushed: Pushed,
    scan: Scan,
}

/// Validates and reads one body.
pub fn scan<'s, 'a>(
    cx: &Context<'_, 'a>,
    body: &Body<'a>,
    scratch: &'s mut Scratch,
) -> Result<&'s Scan, Refusal> {
    let (module, range) = (cx.module, body.body.range());
    let given = &body.to_validate;
    let to_validate = wasmparser::FuncToValidate {
        resources: given.resources.clone(),
        index: given.index,
        ty: given.ty,
        features: given.features,
    };
    let mut validator = to_validate.into_validator(std::mem::take(&mut scratch.validator));
    let mut reader = body.body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let mut out = std::mem::take(&mut scratch.scan);
    out.clear();
    let locals = (0..validator.len_locals()).filter_map(|i| validator.get_local_type(i));
    out.locals.extend(locals.map(|ty| module.indexed(ty)));
    out.params = module.func_type(body.func).params().len() as u32;
    for &ty in out.locals.iter().chain(module.func_type(body.func).results()) {
        module.value_type("function", body.func, ty, body.body.range().start as u64)?;
    }
    let (mut flow, mut costs) = (std::mem::take(&mut scratch.flow), std::mem::take(&mut scratch.costs));
    flow.reset(out.locals.len() as u32);
    costs.reset();
    let entry = flow.split();
    let end_block = flow.reserve();
    out.points.push(Point {
        kind: PointKind::Entry,
        offset: reader.original_position() as u32,
        stack: Types::default(),
        own: 0,
        callers: 0,
        args: Types::default(),
        pushed: (0, 0),
        block: entry,
    });
    out.push_region();
    let checks = cx.graph.can_suspend[body.func as usize] && cx.graph.shrunk[body.func as usize].is_none();
    let unites = checks && cx.options.cost_model >= THREADS;
    let first_loop = if unites { first::first_loop(&body.body) } else { None };
    let mut frames = std::mem::take(&mut scratch.frames);
    frames.clear();
    let mut pushed = std::mem::take(&mut scratch.pushed);
    pushed.clear();
    frames.push(Frame { ctl: None, end_block, other_block: entry, region: 0, repeats: false });
    let mut scanner = Scanner {
        module,
        code: body.body.as_bytes(),
        base: range.start,
        graph: cx.graph,
        cost_model: cx.options.cost_model,
        validator,
        func: body.func,
        flow,
        costs,
        frames,
        reachable: true,
        dead_before: false,
        handlers: vec![],
        operands_total: 0,
        pushed,
        loops: vec![],
        first_loop,
        inlined: cx.inlined.calls(range.start as u32, range.end as u32),
        callers: None,
        has_non_null: out.locals.iter().any(|ty| !ty.is_defaultable()),
        out,
    };
    scanner.out.code.0 = reader.original_position() as u32;
    scanner.run(&mut reader)?;
    scanner.out.code.1 = reader.original_position() as u32;
    scanner.finish(scratch)?;
    Ok(&scratch.scan)
}

impl<'m, 'a> Scanner<'m, 'a> {
    /// Whether a call of this function is a suspension point.
    fn suspends(&self, func: u32) -> bool {
        self.graph.can_suspend.get(func as usize) == Some(&true)
    }

    /// A check for the function's entry or for a loop, if that does not check itself.
    fn check(&mut self, header: Option<u32>, at: u32) {
        let mut point = 0;
        if let Some(header) = header {
            let is_it = |info: &CtlInfo| info.sunk && self.out.points[info.point as usize].offset == header;
            let Some(info) = self.out.ctls.iter().find(|info| is_it(info)) else { return };
            point = info.point;
        }
        self.note(OpKind::Check(point), at, at);
    }

    /// How often the loop is passed whose operator stands there, if that is known.
    fn counted(&self, at: u32) -> Option<Passes> {
        let counted = &self.graph.counted[self.func as usize];
        let found = counted.binary_search_by_key(&at, |counted| counted.at).ok();
        found.map(|found| counted[found].passes)
    }

    /// What a function does before it checks, or without being charged for it.
    fn unchecked(&self, callee: Callee) -> u64 {
        let CallGraph { shrunk, paid, paid_types, .. } = self.graph;
        match callee {
            Callee::Direct(func) => match shrunk.get(func as usize) {
                Some(Some(shrunk)) => shrunk.unchecked,
                _ => paid.get(func as usize).copied().unwrap_or(0),
            },
            Callee::Indirect { ty } | Callee::Ref { ty } => paid_types.get(ty as usize).copied().unwrap_or(0),
        }
    }

    /// Checks the limits, and gives the result and the memory back.
    fn finish(mut self, scratch: &mut Scratch) -> Result<(), Refusal> {
        let Scan { ctls, points, regions, code, .. } = &mut self.out;
        let too_large =
            |what, found, limit| Err(Refusal::too_large(self.func, code.0 as usize, what, found, limit));
        if points.len() > POINTS_MAX {
            return too_large("number of loops and calls", points.len() as u64, POINTS_MAX as u64);
        }
        if self.operands_total > OPERANDS_MAX {
            return too_large(
                "operands at all points and constructs",
                self.operands_total as u64,
                OPERANDS_MAX as u64,
            );
        }
        let bytes = self.flow.bytes_to_solve();
        if bytes > LIVENESS_BYTES_MAX {
            return too_large("locals times blocks, in bytes,", bytes, LIVENESS_BYTES_MAX);
        }
        for region in regions {
            region.closers.retain(|closer| match *closer {
                Closer::Point(_) | Closer::Call(_) => true,
                Closer::Before(c) | Closer::Else(c) | Closer::End(c) => ctls[c as usize].has_points,
            });
            region.items.retain(|item| match *item {
                Reached::Call(_) => true,
                Reached::Inner(c) => ctls[c as usize].has_points,
            });
        }
        if self.graph.paid[self.func as usize] > 0 {
            self.out.entry_charge = 0;
        }
        if let Some(at) = self.first_loop {
            first::unite(&mut self.out, at);
        }
        self.flow.solve(&mut self.out.liveness);
        *scratch = Scratch {
            validator: self.validator.into_allocations(),
            flow: self.flow,
            costs: self.costs,
            frames: self.frames,
            pushed: self.pushed,
            scan: self.out,
        };
        Ok(())
    }

    pub(super) fn signature<'s>(module: &'s Module<'a>, ty: &'s BlockType) -> (&'s [ValType], &'s [ValType]) {
        match ty {
            BlockType::Empty => (&[], &[]),
            BlockType::Type(ty) => (&[], std::slice::from_ref(ty)),
            BlockType::FuncType(at) => match module.types.get(*at as usize) {
                Some(Some(ty)) => (ty.params(), ty.results()),
                _ => (&[], &[]), // the validator refuses it right after
            },
        }
    }

    /// What has to be known before the validator takes the operator: the operand stack that it meets.
    fn before(&mut self, op: &Operator<'a>, start: u32, end: u32) {
        let callee = match op {
            Operator::Call { function_index } => {
                Callee::Direct(*function_index) // one that can suspend
            }
            Operator::CallIndirect { type_index, .. } => match self.graph.free_type(*type_index) {
                Some(cost) => return self.costs.charge(1 + cost),
                None => Callee::Indirect { ty: *type_index },
            },
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
                let wide = operand(self.module, &self.validator, 0) == Some(ValType::I64);
                return self.note(OpKind::Bulk { wide }, start, end);
            }
            Operator::ReturnCall { function_index: func } => {
                // What comes before a callee's own checks is not charged for here, as in the models before 7.
                let paid = self.graph.paid.get(*func as usize).copied();
                return self.costs.charge(1 + paid.unwrap_or(0));
            }
            Operator::ReturnCallIndirect { type_index: ty, .. }
            | Operator::ReturnCallRef { type_index: ty } => {
                return self.costs.charge(1 + self.unchecked(Callee::Ref { ty: *ty }));
            }
            _ => return self.costs.charge(1),
        };
        self.costs.charge(1 + self.unchecked(callee));
        let (count, extra) = match callee {
            Callee::Direct(f) => (self.module.func_type(f).params().len(), 0),
            Callee::Indirect { ty, .. } | Callee::Ref { ty } => match self.module.types.get(ty as usize) {
                Some(Some(ty)) => (ty.params().len(), 1),
                _ => return, // the validator refuses it right after
            },
        };
        let own = self.own_operands().saturating_sub(count + extra);
        let stack = self.operand_stack(count + extra);
        // Copies of a loop's body go on before the call.
        let needed = own > 0 || !self.loops.is_empty();
        let args = if needed { self.operands(0, count + extra) } else { Types::default() };
        let pushed = self.pushed.last(count, start);
        let point = self.out.points.len() as PointId;
        // The block is set once the call is over.
        self.out.points.push(Point {
            kind: PointKind::Call(callee),
            offset: start,
            stack,
            own,
            callers: self.callers(start),
            args,
            pushed,
            block: 0,
        });
        let region = self.frames.last().expect("in a frame").region;
        self.out.regions[region].closers.push(Closer::Point(point));
        self.out.regions[region].items.push(Reached::Call(point));
        self.mark_points();
        self.note(OpKind::Call(point), start, end);
    }

    /// If the block that begins there is an inlined call, the operands on the stack are its caller's.
    fn inlined(&mut self, start: u32) {
        while let [next, rest @ ..] = self.inlined
            && next.block <= start
        {
            self.callers = Some((*next, self.validator.operand_stack_height()));
            self.inlined = rest;
        }
    }

    /// How many operands are those of the caller of an inlined call.
    fn callers(&self, at: u32) -> u32 {
        self.callers.map_or(0, |(call, operands)| if at < call.end { operands } else { 0 })
    }

    /// How many operands are those of the innermost construct.
    fn own_operands(&self) -> usize {
        let height = self.validator.operand_stack_height() as usize;
        height.saturating_sub(self.validator.get_control_frame(0).map_or(0, |frame| frame.height))
    }

    /// Notes the types of operands, bottom first: of `count`, beneath `above` ones on top.
    fn operands(&mut self, above: usize, count: usize) -> Types {
        let Self { validator, module, out, .. } = self;
        let operand = |depth| operand(module, validator, above + depth);
        out.add_types((0..count).rev().filter_map(operand))
    }

    /// Notes the types of the whole operand stack, bottom first, leaving out `above` ones on top.
    fn operand_stack(&mut self, above: usize) -> Types {
        let all = (self.validator.operand_stack_height() as usize).saturating_sub(above);
        self.operands_total += all;
        if self.operands_total > OPERANDS_MAX {
            return self.operands(0, 0); // refused at the end
        }
        self.operands(above, all)
    }

    /// Notes the types of the operands beneath a construct, of its parameters, on which `above` others lie, and of its results. Without points in
    /// it they are not read, but that is known at its end alone.
    fn construct_types(&mut self, ty: &BlockType, above: usize) -> [Types; 3] {
        let (params, results) = Self::signature(self.module, ty);
        let above = above + params.len();
        let beneath = self.own_operands().saturating_sub(above);
        self.operands_total += beneath + params.len() + results.len();
        if self.operands_total > OPERANDS_MAX {
            return [Types::default(); 3]; // refused at the end
        }
        let beneath = self.operands(above, beneath);
        [beneath, self.out.add_types(params.iter().copied()), self.out.add_types(results.iter().copied())]
    }

    /// All constructs around the current place have a point inside. What is around one that has is marked: as it got its first, a loop as it
    /// began.
    fn mark_points(&mut self) {
        for ctl in self.frames.iter().rev().filter_map(|frame| frame.ctl) {
            if std::mem::replace(&mut self.out.ctls[ctl as usize].has_points, true) {
                break;
            }
        }
    }

    fn note(&mut self, kind: OpKind, start: u32, end: u32) {
        self.pushed.clear();
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
        let counted = if kind == CtlKind::Loop { self.counted(start) } else { None };
        let kind = if matches!(counted, Some(Passes::Free(_))) { CtlKind::Free } else { kind };
        let [beneath, params, results] = self.construct_types(ty, above);
        let ctl = self.out.ctls.len() as Ctl;
        let outer = self.frames.last().expect("in a frame").region;
        let point = self.out.points.len() as PointId;
        self.costs.charge(1);
        self.inlined(start);
        let mut region = outer;
        if matches!(kind, CtlKind::Loop | CtlKind::Try) {
            region = self.out.regions.len();
            self.out.push_region();
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
            sunk: false,
            charge: 0,
            counted,
            few: 0,
            ahead: 0,
            passes: None,
            start: self.out.ops.len(),
            end: 0,
            point,
            points_end: point,
            region,
            block: 0,
            outer,
            has_loops: false,
            writes: (self.out.writes.len() as u32, 0),
        });
        let (end_block, other_block) = self.enter(ctl, kind, &catches, above, start);
        let op = match kind {
            CtlKind::Block | CtlKind::Free => OpKind::Block(ctl),
            CtlKind::Loop => OpKind::Loop(ctl),
            CtlKind::If => OpKind::If(ctl),
            CtlKind::Try => OpKind::Try(ctl, catches),
        };
        self.note(op, start, end);
        let repeats = kind.is_loop();
        if repeats {
            if let Some(&around) = self.loops.last() {
                self.out.ctls[around as usize].has_loops = true;
            }
            self.loops.push(ctl);
        }
        self.frames.push(Frame { ctl: Some(ctl), end_block, other_block, region, repeats });
    }

    /// Enters a construct. Gives the block at its end, and a loop's header, or where an `if` goes without its condition; else the end again.
    fn enter(
        &mut self,
        ctl: Ctl,
        kind: CtlKind,
        catches: &[wasmparser::Catch],
        above: usize,
        start: u32,
    ) -> (Block, Block) {
        let end = self.flow.reserve();
        let other = match kind {
            CtlKind::Block => {
                self.costs.enter_block();
                end
            }
            CtlKind::Try => {
                let targets = catches.iter().map(|c| self.label_block(catch_label(c))).collect();
                self.handlers.push(targets);
                self.costs.enter_block();
                self.out.ctls[ctl as usize].block = self.flow.split();
                end
            }
            CtlKind::If => {
                self.costs.enter_if();
                let otherwise = self.flow.reserve();
                self.flow.branch(otherwise);
                self.flow.split();
                otherwise
            }
            CtlKind::Free => {
                self.costs.enter_loop();
                self.flow.split()
            }
            CtlKind::Loop => {
                self.costs.enter_loop();
                let header = self.flow.split();
                self.header_point(ctl, header, above, start);
                header
            }
        };
        (end, other)
    }

    /// A loop's header is a suspension point.
    fn header_point(&mut self, ctl: Ctl, block: Block, above: usize, start: u32) {
        // The header takes its parameters by their declared types; what is given may be a subtype.
        let params = self.out.ctls[ctl as usize].params;
        self.operands_total += params.len();
        let stack = self.operand_stack(above + params.len());
        let stack = stack.with(self.out.repeat_types(params));
        let shrunk = self.graph.shrunk[self.func as usize].as_ref();
        let sunk = shrunk.is_some_and(|s| s.checks.iter().any(|check| check.header == Some(start)));
        // Operands lie in locals that are used again behind the loop.
        self.out.ctls[ctl as usize].sunk = sunk && stack.is_empty();
        self.out.points.push(Point {
            kind: PointKind::Loop(ctl),
            offset: start,
            stack,
            own: 0,
            callers: self.callers(start),
            args: Types::default(),
            pushed: (0, 0),
            block,
        });
        self.mark_points();
    }
}

/// The type of an operand, so many beneath the topmost one.
fn operand(
    module: &Module<'_>,
    validator: &FuncValidator<ValidatorResources>,
    depth: usize,
) -> Option<ValType> {
    Some(module.indexed(validator.get_operand_type(depth).flatten()?))
}

fn catch_label(catch: &wasmparser::Catch) -> u32 {
    use wasmparser::Catch::*;
    match *catch {
        One { label, .. } | OneRef { label, .. } | All { label } | AllRef { label } => label,
    }
}
