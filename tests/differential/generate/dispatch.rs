//! Functions as Go's compiler makes them: a loop around a table of cases, in which a jump sets the table's index and goes back.

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
