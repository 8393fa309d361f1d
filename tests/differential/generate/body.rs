//! Statements and expressions of one function.

use wasm_encoder::{BlockType, Catch, Function, InstructionSink};

use super::{Shape, Ty, function};
use crate::rng::Rng;

/// Deeper expressions are leaves.
const DEPTH_MAX: u32 = 7;

pub struct Body<'s> {
    pub shape: &'s mut Shape,
    pub code: Vec<u8>,
    /// Types of parameters and locals.
    pub locals: Vec<Ty>,
    /// Types that a branch to each label carries, outermost first.
    pub labels: Vec<Vec<Ty>>,
    results: Vec<Ty>,
    /// About so many expressions may still be made.
    pub size: i32,
    depth: u32,
}

impl<'s> Body<'s> {
    fn new(shape: &'s mut Shape, locals: Vec<Ty>, results: Vec<Ty>) -> Self {
        let labels = vec![results.clone()];
        Body { shape, code: vec![], locals, labels, results, size: 0, depth: 0 }
    }

    /// The body of a function of the program.
    pub fn function(shape: &'s mut Shape, func: u32) -> Function {
        let (params, results) = shape.func_type(func).clone();
        let count = params.len();
        let mut body = Body::new(shape, params, results);
        let small = body.shape.small;
        body.size = if small { [4, 8, 16] } else { [20, 60, 160] }[body.rng().below(3)];
        let known = body.shape.func_types;
        let more = body.rng().below(if small { 3 } else { 8 });
        for _ in 0..more {
            let ty = body.shape.ty(known);
            body.locals.push(ty);
        }
        let results = body.results.clone();
        let dispatches = !small && body.rng().one_in(3);
        if !dispatches {
            body.spend(&results, None);
        }
        for local in count..body.locals.len() {
            // A local that cannot be null must be set before it is read.
            if matches!(body.locals[local], Ty::NonNull(_)) || body.rng().one_in(2) {
                body.constant(body.locals[local]);
                body.sink().local_set(local as u32);
            }
        }
        if dispatches {
            body.dispatch(&results);
        } else {
            body.statements(if small { 0 } else { 2 }, if small { 2 } else { 8 });
            if !small && body.rng().one_in(3) {
                body.interpret();
            }
        }
        if dispatches && body.rng().one_in(2) {
            results.iter().for_each(|&ty| body.constant(ty));
        } else if small {
            // Itself, or one that may call it.
            let callee = if body.rng().one_in(2) { func } else { body.shape.own_func() };
            let (params, given) = body.shape.func_type(callee).clone();
            body.exprs(&params);
            body.sink().call(callee);
            body.drops(given.len());
            body.exprs(&results);
        } else if !body.tail_call(&results) {
            body.exprs(&results);
        }
        body.sink().end();
        function(&body.locals[count..], body.code)
    }

    /// Fills the budget and calls a function, with nulls for references, and says which results are null.
    pub fn entry(shape: &'s mut Shape, func: u32, ty: u32) -> Function {
        let (params, results) = shape.types[ty as usize].clone();
        let count = params.len();
        let (wanted, given) = shape.func_type(func).clone();
        let mut body = Body::new(shape, params, results);
        let budget = [20, 100, 400][body.rng().below(3)];
        body.sink().i32_const(budget).global_set(0);
        let mut next = 0;
        for ty in wanted {
            if ty.is_number() {
                body.sink().local_get(next);
                next += 1;
            } else {
                body.constant(ty);
            }
        }
        body.sink().call(func);
        let temps: Vec<u32> = given.iter().map(|&ty| body.temp(ty)).collect();
        temps.iter().rev().for_each(|&local| {
            body.sink().local_set(local);
        });
        for (&local, ty) in temps.iter().zip(&given) {
            body.sink().local_get(local);
            if !ty.is_number() {
                body.sink().ref_is_null();
            }
        }
        body.sink().end();
        function(&body.locals[count..], body.code)
    }

    /// The start function: a call with a small budget.
    pub fn start(shape: &'s mut Shape, func: u32) -> Function {
        let (wanted, given) = shape.func_type(func).clone();
        let mut body = Body::new(shape, vec![], vec![]);
        body.sink().i32_const(30).global_set(0);
        wanted.into_iter().for_each(|ty| body.constant(ty));
        body.sink().call(func);
        body.drops(given.len());
        body.sink().end();
        function(&[], body.code)
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.shape.rng
    }

    pub fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    fn temp(&mut self, ty: Ty) -> u32 {
        self.locals.push(ty);
        self.locals.len() as u32 - 1
    }

    /// A local of this type, maybe a new one; one that cannot be null is new.
    pub fn target(&mut self, ty: Ty) -> u32 {
        let same: Vec<u32> =
            (0..self.locals.len() as u32).filter(|l| self.locals[*l as usize] == ty).collect();
        if same.is_empty() || self.rng().one_in(5) { self.temp(ty) } else { self.rng().pick(&same) }
    }

    pub fn drops(&mut self, count: usize) {
        (0..count).for_each(|_| {
            self.sink().drop();
        });
    }

    /// Takes operands off the stack, some into locals.
    fn consume(&mut self, types: &[Ty]) {
        for &ty in types.iter().rev() {
            if self.rng().one_in(3) {
                self.sink().drop();
            } else {
                let local = self.target(ty);
                self.sink().local_set(local);
            }
        }
    }

    /// Of the operands on top, leaves the one at `at`.
    fn keep(&mut self, types: &[Ty], at: usize) {
        self.consume(&types[at + 1..]);
        if at > 0 {
            let temp = self.temp(types[at]);
            self.sink().local_set(temp);
            self.consume(&types[..at]);
            self.sink().local_get(temp);
        }
    }

    /// Spends of the budget; without any, gives `results` and leaves the function or by a branch.
    pub fn spend(&mut self, results: &[Ty], branch: Option<u32>) {
        self.sink().global_get(0).i32_const(1).i32_lt_s().if_(BlockType::Empty);
        results.iter().for_each(|&ty| self.constant(ty));
        match branch {
            Some(depth) => self.sink().br(depth + 1),
            None => self.sink().return_(),
        };
        self.sink().end().global_get(0).i32_const(1).i32_sub().global_set(0);
    }

    fn block_type(&mut self, params: &[Ty], results: &[Ty]) -> BlockType {
        match (params, results) {
            ([], []) => BlockType::Empty,
            ([], [one]) => BlockType::Result(one.encoded()),
            _ => BlockType::FunctionType(self.shape.type_of(params.to_vec(), results.to_vec())),
        }
    }

    // ---- expressions --------------------------------------------------------------------------

    pub fn exprs(&mut self, types: &[Ty]) {
        types.iter().for_each(|&ty| self.expr(ty));
    }

    /// Code that leaves a value of the type.
    pub fn expr(&mut self, ty: Ty) {
        self.size -= 1;
        if self.size <= 0 || self.depth >= DEPTH_MAX {
            return self.leaf(ty);
        }
        self.depth += 1;
        match self.rng().below(18) {
            0..2 => self.leaf(ty),
            2..6 => self.operator(ty),
            6..8 => self.block(ty),
            8..10 => self.repeat(ty),
            10 => self.choose(ty),
            11 => self.catch(ty),
            12..15 => self.call(ty),
            15 => self.branch_with_value(ty),
            16 => self.tee(ty),
            _ => self.select(ty),
        }
        self.depth -= 1;
    }

    pub fn leaf(&mut self, ty: Ty) {
        // Locals that cannot be null are set at the start, but temporary ones only where they are used.
        let fixed = !matches!(ty, Ty::NonNull(_));
        let same: Vec<u32> =
            (0..self.locals.len() as u32).filter(|l| fixed && self.locals[*l as usize] == ty).collect();
        let globals: Vec<u32> =
            (1..self.shape.globals.len() as u32).filter(|g| self.shape.globals[*g as usize] == ty).collect();
        match self.rng().below(5) {
            0..3 if !same.is_empty() => {
                let local = self.rng().pick(&same);
                self.sink().local_get(local);
            }
            3 if !globals.is_empty() => {
                let global = self.rng().pick(&globals);
                self.sink().global_get(global);
            }
            _ => self.constant(ty),
        }
    }

    /// Types beneath a value of the type: what a construct gives, and has to be dropped afterwards.
    fn with_extras(&mut self, ty: Ty) -> Vec<Ty> {
        let known = self.shape.func_types;
        let mut types = if self.rng().one_in(2) { self.shape.list(2, known) } else { vec![] };
        types.push(ty);
        types
    }

    fn params(&mut self) -> Vec<Ty> {
        let known = self.shape.func_types;
        if self.rng().one_in(2) { self.shape.list(3, known) } else { vec![] }
    }

    fn block(&mut self, ty: Ty) {
        let (params, results) = (self.params(), self.with_extras(ty));
        self.exprs(&params);
        let block_type = self.block_type(&params, &results);
        self.sink().block(block_type);
        self.labels.push(results.clone());
        self.consume(&params);
        self.statements(0, 3);
        self.exprs(&results);
        self.labels.pop();
        self.sink().end();
        self.keep(&results, results.len() - 1);
    }

    fn repeat(&mut self, ty: Ty) {
        let (params, results) = (self.params(), self.with_extras(ty));
        let out = self.block_type(&[], &results);
        self.sink().block(out);
        self.labels.push(results.clone());
        self.exprs(&params);
        let block_type = self.block_type(&params, &results);
        self.sink().loop_(block_type);
        self.labels.push(params.clone());
        self.consume(&params);
        self.spend(&results, Some(1));
        self.statements(0, 3);
        self.exprs(&params);
        self.expr(Ty::I32);
        self.sink().br_if(0);
        self.consume(&params);
        self.exprs(&results);
        self.labels.pop();
        self.labels.pop();
        self.sink().end().end();
        self.keep(&results, results.len() - 1);
    }

    fn choose(&mut self, ty: Ty) {
        let (params, results) = (self.params(), self.with_extras(ty));
        self.exprs(&params);
        self.expr(Ty::I32);
        let block_type = self.block_type(&params, &results);
        self.sink().if_(block_type);
        self.labels.push(results.clone());
        self.consume(&params);
        self.statements(0, 2);
        self.exprs(&results);
        self.sink().else_();
        self.consume(&params);
        self.exprs(&results);
        self.labels.pop();
        self.sink().end();
        self.keep(&results, results.len() - 1);
    }

    /// A `try_table` with one or two handlers.
    fn catch(&mut self, ty: Ty) {
        let (params, results) = (self.params(), self.with_extras(ty));
        let out = self.block_type(&[], &results);
        self.sink().block(out);
        self.labels.push(results.clone());
        let handlers = 1 + self.rng().below(2) as u32;
        let mut catches = vec![];
        let mut given = vec![];
        for at in 0..handlers {
            // The first handler is the outermost block.
            let (catch, types) = self.handler(handlers - 1 - at);
            let block_type = self.block_type(&[], &types);
            self.sink().block(block_type);
            self.labels.push(types.clone());
            catches.push(catch);
            given.push(types);
        }
        self.exprs(&params);
        let block_type = self.block_type(&params, &results);
        self.sink().try_table(block_type, catches);
        self.labels.push(results.clone());
        self.consume(&params);
        self.statements(0, 3);
        if self.rng().one_in(3) {
            self.throw();
        }
        self.exprs(&results);
        self.labels.pop();
        self.sink().end();
        for (at, types) in given.iter().enumerate().rev() {
            self.sink().br(at as u32 + 1);
            self.labels.pop();
            self.sink().end();
            self.consume(types);
            self.statements(0, 2);
            self.exprs(&results);
        }
        self.labels.pop();
        self.sink().end();
        self.keep(&results, results.len() - 1);
    }

    /// A catch clause to the label at this depth outside of the `try_table`, and what it gives.
    fn handler(&mut self, label: u32) -> (Catch, Vec<Ty>) {
        let tags = self.shape.tags.len();
        let tag = self.rng().below(tags) as u32;
        let mut types = self.shape.types[self.shape.tags[tag as usize] as usize].0.clone();
        let kinds = if self.shape.plain { 2 } else { 4 };
        match self.rng().below(kinds) {
            0 => (Catch::One { tag, label }, types),
            1 => (Catch::All { label }, vec![]),
            2 => {
                types.push(Ty::Exn);
                (Catch::OneRef { tag, label }, types)
            }
            _ => (Catch::AllRef { label }, vec![Ty::Exn]),
        }
    }

    fn call(&mut self, ty: Ty) {
        let gives = |f: &u32| self.shape.func_type(*f).1.contains(&ty);
        let funcs: Vec<u32> = (0..self.shape.funcs.len() as u32).filter(gives).collect();
        if funcs.is_empty() {
            return self.operator(ty);
        }
        let func = self.rng().pick(&funcs);
        let (params, results) = self.shape.func_type(func).clone();
        self.exprs(&params);
        self.invoke(func, false);
        let at = results.iter().position(|r| *r == ty).expect("chosen by its results");
        self.keep(&results, at);
    }

    /// Calls the function directly, through a table or by a reference; its arguments are on the stack.
    fn invoke(&mut self, func: u32, tail: bool) {
        let ty = self.shape.funcs[func as usize];
        let slot = self.shape.slots.iter().position(|f| *f == func);
        match (self.rng().below(4), slot) {
            (0, Some(slot)) => {
                if self.rng().one_in(12) {
                    self.expr(Ty::I32); // most likely a trap
                } else {
                    self.sink().i32_const(slot as i32);
                }
                let table = u32::from(slot < 8 && self.rng().one_in(3));
                if tail {
                    self.sink().return_call_indirect(table, ty);
                } else {
                    self.sink().call_indirect(table, ty);
                }
            }
            (1, _) => {
                self.sink().ref_func(func);
                if tail {
                    self.sink().return_call_ref(ty);
                } else {
                    self.sink().call_ref(ty);
                };
            }
            _ if tail => {
                self.sink().return_call(func);
            }
            _ => {
                self.sink().call(func);
            }
        }
    }

    fn branch_with_value(&mut self, ty: Ty) {
        let at = {
            let labels = self.labels.len();
            self.rng().below(labels)
        };
        let (types, depth) = (self.labels[at].clone(), (self.labels.len() - 1 - at) as u32);
        self.exprs(&types);
        if self.rng().one_in(4) {
            self.expr(Ty::Func);
            self.sink().br_on_null(depth).drop();
        } else if let (Some((Ty::Func, less)), true) = (types.split_last(), self.rng().one_in(2)) {
            self.sink().br_on_non_null(depth);
            self.consume(less);
            return self.leaf(ty);
        } else {
            self.expr(Ty::I32);
            self.sink().br_if(depth);
        }
        match types.iter().position(|t| *t == ty) {
            Some(at) => self.keep(&types, at),
            None => {
                self.consume(&types);
                self.leaf(ty);
            }
        }
    }

    fn tee(&mut self, ty: Ty) {
        self.expr(ty);
        let local = self.target(ty);
        self.sink().local_tee(local);
    }

    fn select(&mut self, ty: Ty) {
        self.expr(ty);
        self.expr(ty);
        self.expr(Ty::I32);
        if ty.is_number() {
            self.sink().select();
        } else {
            self.sink().typed_select(ty.encoded());
        }
    }

    // ---- statements ---------------------------------------------------------------------------

    pub fn statements(&mut self, least: usize, most: usize) {
        for _ in 0..least + self.rng().below(most - least + 1) {
            if self.size <= 0 || self.depth >= DEPTH_MAX {
                return;
            }
            self.depth += 1;
            self.statement();
            self.depth -= 1;
        }
    }

    fn statement(&mut self) {
        match self.rng().below(18) {
            0..4 => {
                let locals = self.locals.len();
                if locals == 0 {
                    return;
                }
                let local = self.rng().below(locals);
                self.expr(self.locals[local]);
                self.sink().local_set(local as u32);
            }
            4 | 5 => {
                let globals = self.shape.globals.len();
                let global = 1 + self.rng().below(globals - 1);
                self.expr(self.shape.globals[global]);
                if global + 1 == globals {
                    self.sink().drop();
                } else {
                    self.sink().global_set(global as u32);
                };
            }
            6..9 => self.store(),
            9 => {
                let known = self.shape.func_types;
                let ty = self.shape.ty(known);
                self.expr(ty);
                self.sink().drop();
            }
            10 => self.when(|body| body.statements(1, 3)),
            11 => self.when(Self::throw),
            12 => self.when(Self::jump),
            13 => self.when(Self::leave),
            14 => self.bulk(),
            15 => self.count(),
            16 => self.interpret(),
            _ => self.rethrow(),
        }
    }

    /// A loop that is passed a known number of times, unless what is in it writes its counter. Mostly it does little: then no check
    /// is needed.
    fn count(&mut self) {
        let (counter, end, other) = (self.temp(Ty::I32), self.temp(Ty::I32), self.temp(Ty::I32));
        let (first, step) = (self.rng().below(40) as i32, self.rng().pick(&[1, 3, -2]));
        // The number can be computed before the loop alone, which is long.
        let computed = self.rng().one_in(3);
        let passes = 1 + self.rng().below(6) as i32;
        self.sink().block(BlockType::Empty).i32_const(first).local_set(counter);
        self.sink().i32_const(first + passes * step).local_set(end).loop_(BlockType::Empty);
        self.labels.extend([vec![], vec![]]);
        let size = self.size;
        if computed {
            // Nothing that writes a local, or leaves.
            self.size = 0;
            self.store();
            for factor in 0..12 {
                self.sink()
                    .local_get(other)
                    .i32_const(factor)
                    .i32_mul()
                    .local_get(counter)
                    .i32_xor()
                    .local_set(other);
            }
        } else {
            self.spend(&[], Some(1));
            if !self.rng().one_in(3) {
                self.size = 3;
            }
            self.statements(0, 3);
        }
        self.size = size - 3;
        self.sink().local_get(counter).i32_const(step).i32_add().local_tee(counter);
        match computed {
            true => self.sink().local_get(end),
            false => self.sink().i32_const(first + passes * step),
        };
        self.sink().i32_ne().br_if(0);
        self.labels.truncate(self.labels.len() - 2);
        self.sink().end().end();
    }

    /// The condition is a random value: mostly true.
    pub fn when(&mut self, then: impl FnOnce(&mut Self)) {
        self.expr(Ty::I32);
        if self.rng().one_in(2) {
            self.sink().i32_const(3).i32_and().i32_eqz();
        }
        self.sink().if_(BlockType::Empty);
        self.labels.push(vec![]);
        then(self);
        if self.rng().one_in(3) {
            self.sink().else_();
            self.statements(0, 2);
        }
        self.labels.pop();
        self.sink().end();
    }

    fn throw(&mut self) {
        // Rarely without a condition of its own, or hardly anything would go on.
        self.expr(Ty::I32);
        self.sink().i32_const(7).i32_and().i32_eqz().if_(BlockType::Empty);
        let tags = self.shape.tags.len();
        let tag = self.rng().below(tags);
        let types = self.shape.types[self.shape.tags[tag] as usize].0.clone();
        self.labels.push(vec![]);
        self.exprs(&types);
        self.labels.pop();
        self.sink().throw(tag as u32).end();
    }

    fn rethrow(&mut self) {
        if self.shape.plain {
            return;
        }
        let local = self.target(Ty::Exn);
        self.sink().local_get(local).ref_is_null().i32_eqz();
        self.leaf(Ty::I32);
        self.sink().i32_const(3).i32_and().i32_eqz().i32_and().if_(BlockType::Empty);
        self.sink().local_get(local).throw_ref().end();
    }

    fn jump(&mut self) {
        let at = {
            let labels = self.labels.len();
            self.rng().below(labels)
        };
        let types = self.labels[at].clone();
        let depth = |at: usize| (self.labels.len() - 1 - at) as u32;
        let same: Vec<u32> = (0..self.labels.len()).filter(|l| self.labels[*l] == types).map(depth).collect();
        let to = depth(at);
        self.exprs(&types);
        if self.rng().one_in(2) {
            self.expr(Ty::I32);
            let count = self.rng().below(4);
            let targets: Vec<u32> = (0..count).map(|_| self.rng().pick(&same)).collect();
            self.sink().br_table(targets, to);
        } else {
            self.sink().br(to);
        }
        self.dead_code();
    }

    fn leave(&mut self) {
        let results = self.results.clone();
        if !self.tail_call(&results) {
            self.exprs(&results);
            self.sink().return_();
        }
        self.dead_code();
    }

    /// A tail call to a function with the same results, if there is one and chance wants it.
    fn tail_call(&mut self, results: &[Ty]) -> bool {
        let same: Vec<u32> =
            (0..self.shape.funcs.len() as u32).filter(|f| self.shape.func_type(*f).1 == results).collect();
        if same.is_empty() || !self.rng().one_in(4) {
            return false;
        }
        let func = self.rng().pick(&same);
        let params = self.shape.func_type(func).0.clone();
        self.exprs(&params);
        self.invoke(func, true);
        true
    }

    /// What is never reached has any type; it must end with nothing on the stack.
    pub fn dead_code(&mut self) {
        if self.rng().one_in(3) {
            self.sink().i32_add().drop().block(BlockType::Empty).loop_(BlockType::Empty);
            self.sink().unreachable().end().end();
        }
        if self.rng().one_in(4) {
            self.sink().unreachable();
        }
    }
}
