//! The control constructs around a place, while a body is read for the first time: which loops are counted.

use wasmparser::{FrameKind, Operator};

use super::{Counted, Passes, count};

/// The open constructs of a function, its own body first.
pub struct Constructs {
    open: Vec<Construct>,
}

struct Construct {
    kind: FrameKind,
    /// Offset of its operator, and of what follows it.
    at: usize,
    body: usize,
    /// From this offset on straight code leads to the current place, but for beginnings of blocks.
    straight: usize,
    /// Operators of the function before it.
    operators: u64,
    /// What it executes in a pass is known, and nothing in it checks.
    bounded: bool,
}

/// What ended.
pub enum Left {
    /// A loop of so many operators, and what is known of its passes.
    Loop(Option<Counted>, u64),
    Other,
}

impl Constructs {
    /// Of a function whose operators begin at this offset.
    pub fn new(start: usize) -> Self {
        let mut constructs = Constructs { open: vec![] };
        constructs.enter(FrameKind::Block, (start, start), 0);
        constructs
    }

    /// Kind of the innermost one; none behind the function's end.
    pub fn kind(&self) -> Option<FrameKind> {
        self.open.last().map(|construct| construct.kind)
    }

    /// One begins, with an operator at this range of offsets, up to which the function has so many.
    pub fn enter(&mut self, kind: FrameKind, (at, body): (usize, usize), operators: u64) {
        let straight = match self.open.last() {
            // The beginning of a block does nothing.
            Some(around) if kind == FrameKind::Block => around.straight,
            _ => body,
        };
        self.open.push(Construct { kind, at, body, straight, operators, bounded: true });
    }

    /// Another part of the innermost one begins, at this offset.
    pub fn change(&mut self, kind: FrameKind, straight: usize) {
        if let Some(construct) = self.open.last_mut() {
            (construct.kind, construct.straight) = (kind, straight);
        }
    }

    /// The operator may take long.
    pub fn note(&mut self, operator: &Operator<'_>) {
        if may_take_long(operator)
            && let Some(construct) = self.open.last_mut()
        {
            construct.bounded = false;
        }
    }

    /// The innermost one ends, with an operator at this range, up to which the function has so many. `bytes`: those of the
    /// function between two offsets.
    pub fn leave<'b>(
        &mut self,
        (at, behind): (usize, usize),
        operators: u64,
        bytes: impl Fn(usize, usize) -> &'b [u8],
    ) -> Left {
        let Some(left) = self.open.pop() else { return Left::Other };
        let Some(around) = self.open.last_mut() else { return Left::Other };
        let straight = std::mem::replace(&mut around.straight, behind);
        if left.kind != FrameKind::Loop {
            around.bounded &= left.bounded;
            return Left::Other;
        }
        let operators = operators - left.operators;
        let found =
            left.bounded.then(|| count(bytes(straight, left.at), bytes(left.body, at), operators)).flatten();
        around.bounded &= matches!(found, Some(Passes::Free(_)));
        Left::Loop(found.map(|passes| Counted { at: left.at as u32, passes }), operators)
    }
}

/// A call, or an operation on as much as an operand says.
fn may_take_long(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::TryTable { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. }
    )
}
