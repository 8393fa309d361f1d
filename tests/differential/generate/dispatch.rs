//! Loops around a table of cases: functions as Go's compiler makes them, in which a jump sets the table's index and goes back; and interpreters.

use wasm_encoder::BlockType;

use super::Ty;
use super::body::Body;

impl Body<'_> {
    /// All that the function does. It begins with the loop, if no local has to be set before.
    pub fn dispatch(&mut self, results: &[Ty]) {
        let at = self.target(Ty::I32);
        let cases = 2 + self.rng().below(4);
        self.sink().block(BlockType::Empty).loop_(BlockType::Empty);
        self.labels.extend([vec![], vec![]]);
        let header = self.labels.len() - 1;
        for _ in 0..cases {
            self.sink().block(BlockType::Empty);
            self.labels.push(vec![]);
        }
        let targets: Vec<u32> = (0..cases + 1).map(|_| self.rng().below(cases) as u32).collect();
        // Not the loop itself, which would go round for ever.
        let default = if self.rng().one_in(4) { cases + 1 } else { self.rng().below(cases) };
        self.sink().local_get(at).br_table(targets, default as u32);
        for _ in 0..cases {
            self.labels.pop();
            self.sink().end();
            self.spend(results, None);
            self.statements(0, 2);
            self.when(|body| body.go(at, cases, header));
            if self.rng().one_in(2) {
                self.statements(0, 2);
                self.go(at, cases, header);
            }
        }
        self.labels.truncate(header - 1);
        self.sink().end().end();
    }

    /// An interpreter: most of its cases call nothing, and each tells the next one. Operands lie beneath it, and beneath its cases.
    pub fn interpret(&mut self) {
        let (at, size) = (self.target(Ty::I32), self.size);
        let cases = 2 + self.rng().below(4);
        let beneath: Vec<Ty> = (0..self.rng().below(3)).map(|_| Ty::I64).collect();
        beneath.iter().for_each(|&ty| self.leaf(ty));
        self.sink().block(BlockType::Empty).loop_(BlockType::Empty);
        self.labels.extend([vec![], vec![]]);
        let header = self.labels.len() - 1;
        self.spend(&[], Some(1));
        let inside = self.rng().one_in(2);
        if inside {
            self.leaf(Ty::I32);
        }
        for _ in 0..cases {
            self.sink().block(BlockType::Empty);
            self.labels.push(vec![]);
        }
        let targets: Vec<u32> = (0..cases + 1).map(|_| self.rng().below(cases) as u32).collect();
        self.sink().local_get(at).i32_const(7).i32_and().br_table(targets, 0);
        for case in 0..cases {
            self.labels.pop();
            self.sink().end();
            self.size = if self.rng().one_in(3) { (size / 4).max(12) } else { 0 };
            self.store();
            if self.size > 0 {
                // An operand beneath a call or a loop.
                let to = self.target(Ty::I64);
                self.leaf(Ty::I64);
                self.expr(Ty::I64);
                self.sink().i64_xor().local_set(to);
            }
            self.statements(0, 2);
            self.sink().local_get(at).i32_const(2 * case as i32 + 1).i32_add().local_set(at);
            let depth = (self.labels.len() - 1 - header) as u32;
            match self.rng().below(4) {
                0 => {} // the next case comes behind it
                1 => {
                    self.leaf(Ty::I32);
                    self.sink().br_if(depth);
                }
                _ => {
                    self.sink().br(depth);
                    self.dead_code();
                }
            }
        }
        if inside {
            self.sink().drop();
        }
        self.labels.truncate(header - 1);
        self.sink().end().end();
        self.drops(beneath.len());
        self.size = size / 2;
    }

    /// A jump to some case; now and then with nothing set before, or to a case that there is not.
    fn go(&mut self, at: u32, cases: usize, header: usize) {
        let case = self.rng().below(cases + 2) as i32;
        if self.rng().one_in(6) {
            self.expr(Ty::I32);
            self.sink().local_set(at);
        } else {
            self.sink().i32_const(case).local_set(at);
        }
        let depth = (self.labels.len() - 1 - header) as u32;
        self.sink().br(depth);
        self.dead_code();
    }
}
