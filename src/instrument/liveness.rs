//! Which locals are live where: a backward data-flow over the basic blocks of one function.
//!
//! Exact per point: a frame holds what the rest of the run can read, and nothing else, so the frame
//! format depends on the original module alone, and dead values neither cost registers nor reach a
//! snapshot. Source: the textbook equations, `in = gen ∪ (out ∖ kill)`, `out = ∪ in(successors)`.

/// A basic block's number.
pub type Block = u32;

/// The control-flow graph as it is being built, block after block in program order. It is used for one function after
/// another, and keeps its memory.
#[derive(Default)]
pub struct FlowBuilder {
    locals: u32,
    blocks: Vec<BlockData>,
    /// Blocks in the order in which they begin in the program.
    order: Vec<Block>,
    gens: Vec<u32>,
    kills: Vec<u32>,
    edges: Vec<Edge>,
    /// Where the locals fit a word, by block, and of the current one: those that are read before they are written, and those that are
    /// written. Then the lists above and below are not used.
    masks: Vec<Masks>,
    now: Masks,
    current: Option<Block>,
    /// Some edge leads back, to a block that has begun.
    has_loops: bool,
    /// Where they do not, per local: the block (plus 1) that last read it before writing it, and that last wrote it.
    seen_in: Vec<(Block, Block)>,
}

/// A block's ranges in `gens` and `kills`, empty until the block has begun, and the last of its edges.
#[derive(Clone, Copy)]
struct BlockData {
    begun: bool,
    gens: (u32, u32),
    kills: (u32, u32),
    edge: u32,
}

/// Sets of locals, those of a function with a word of locals at most.
#[derive(Clone, Copy, Default)]
struct Masks {
    gens: u64,
    kills: u64,
}

/// An edge, and the one before it that leaves the same block.
#[derive(Clone, Copy)]
struct Edge {
    to: Block,
    before: u32,
}

const NO_EDGE: u32 = u32::MAX;

/// Adds a local to a set, which has a bit for each.
pub fn insert(set: &mut [u64], local: u32) {
    set[local as usize / 64] |= 1 << (local % 64);
}

pub fn remove(set: &mut [u64], local: u32) {
    set[local as usize / 64] &= !(1 << (local % 64));
}

/// Whether a local is in a set, which may be too short for it.
pub fn contains(set: &[u64], local: u32) -> bool {
    set.get(local as usize / 64).is_some_and(|word| word >> (local % 64) & 1 != 0)
}

/// The result: the live locals at the beginning of each block.
#[derive(Default)]
pub struct Liveness {
    words: usize,
    live_in: Vec<u64>,
}

impl FlowBuilder {
    /// Begins anew, with a function that has so many locals.
    pub fn reset(&mut self, locals: u32) {
        self.locals = locals;
        self.blocks.clear();
        self.order.clear();
        self.gens.clear();
        self.kills.clear();
        self.edges.clear();
        self.masks.clear();
        (self.current, self.has_loops) = (None, false);
        self.seen_in.clear();
        if !self.fit_a_word() {
            self.seen_in.resize(locals as usize, (0, 0));
        }
    }

    /// As the locals of most functions do.
    #[inline(always)]
    fn fit_a_word(&self) -> bool {
        self.locals <= u64::BITS
    }

    /// A block that is going to begin later, to branch to.
    pub fn reserve(&mut self) -> Block {
        self.blocks.push(BlockData { begun: false, gens: (0, 0), kills: (0, 0), edge: NO_EDGE });
        self.masks.push(Masks::default());
        self.blocks.len() as Block - 1
    }

    /// The block begins here; control falls into it from the current one.
    pub fn begin(&mut self, block: Block) {
        self.branch(block);
        self.close();
        let (g, k) = (self.gens.len() as u32, self.kills.len() as u32);
        let data = &mut self.blocks[block as usize];
        *data = BlockData { begun: true, gens: (g, g), kills: (k, k), ..*data };
        self.order.push(block);
        self.now = Masks::default();
        self.current = Some(block);
    }

    /// A new block begins here; control falls into it.
    pub fn split(&mut self) -> Block {
        let block = self.reserve();
        self.begin(block);
        block
    }

    /// Control may go from here to `to`.
    pub fn branch(&mut self, to: Block) {
        if let Some(from) = self.current {
            self.has_loops |= self.blocks[to as usize].begun;
            let last = &mut self.blocks[from as usize].edge;
            let before = std::mem::replace(last, self.edges.len() as u32);
            self.edges.push(Edge { to, before });
        }
    }

    /// Control does not go on from here.
    pub fn stop(&mut self) {
        self.close();
        self.current = None;
    }

    fn close(&mut self) {
        if let Some(block) = self.current {
            let data = &mut self.blocks[block as usize];
            data.gens.1 = self.gens.len() as u32;
            data.kills.1 = self.kills.len() as u32;
            self.masks[block as usize] = self.now;
        }
    }

    #[inline(always)]
    pub fn read(&mut self, local: u32) {
        if self.fit_a_word() {
            self.now.gens |= 1 << (local % u64::BITS) & !self.now.kills;
            return;
        }
        let Some(block) = self.current else { return };
        let (read, written) = &mut self.seen_in[local as usize];
        if *read != block + 1 && *written != block + 1 {
            *read = block + 1;
            self.gens.push(local);
        }
    }

    #[inline(always)]
    pub fn write(&mut self, local: u32) {
        if self.fit_a_word() {
            self.now.kills |= 1 << (local % u64::BITS);
            return;
        }
        let Some(block) = self.current else { return };
        let (_, written) = &mut self.seen_in[local as usize];
        if *written != block + 1 {
            *written = block + 1;
            self.kills.push(local);
        }
    }

    /// Bytes that [`FlowBuilder::solve`] is going to need.
    pub fn bytes_to_solve(&self) -> u64 {
        self.blocks.len() as u64 * u64::from(self.locals.div_ceil(64)) * 8
    }

    /// Solves the equations.
    pub fn solve(&mut self, liveness: &mut Liveness) {
        self.stop();
        let words = self.locals.div_ceil(64) as usize;
        liveness.words = words;
        liveness.live_in.clear();
        liveness.live_in.resize(self.blocks.len() * words, 0);
        match words {
            0 => {}
            1 => self.settle_words(&mut liveness.live_in),
            _ => self.settle(&mut vec![0; words], &mut liveness.live_in),
        }
    }

    /// [`FlowBuilder::settle`] of a function whose locals fit a word: what a block does to it is two masks.
    fn settle_words(&self, live_in: &mut [u64]) {
        let mut changed = true;
        while changed {
            changed = false;
            for &block in self.order.iter().rev() {
                let (mut out, mut edge) = (0, self.blocks[block as usize].edge);
                while let Some(&Edge { to, before }) = self.edges.get(edge as usize) {
                    out |= live_in[to as usize];
                    edge = before;
                }
                let Masks { gens, kills } = self.masks[block as usize];
                let found = gens | out & !kills;
                let place = &mut live_in[block as usize];
                changed |= self.has_loops && *place != found;
                *place = found;
            }
        }
    }

    /// Program order reversed: one pass settles what has no loop, one more a level of loops.
    fn settle(&self, out: &mut [u64], live_in: &mut [u64]) {
        let words = out.len();
        let mut changed = true;
        while changed {
            changed = false;
            for &block in self.order.iter().rev() {
                let data = self.blocks[block as usize];
                out.fill(0);
                let mut edge = data.edge;
                while let Some(&Edge { to, before }) = self.edges.get(edge as usize) {
                    let at = to as usize * words;
                    for (o, i) in out.iter_mut().zip(&live_in[at..at + words]) {
                        *o |= i;
                    }
                    edge = before;
                }
                for &local in &self.kills[data.kills.0 as usize..data.kills.1 as usize] {
                    remove(out, local);
                }
                for &local in &self.gens[data.gens.0 as usize..data.gens.1 as usize] {
                    insert(out, local);
                }
                let at = block as usize * words;
                let place = &mut live_in[at..at + words];
                if *place != out[..] {
                    place.copy_from_slice(out);
                    changed = self.has_loops;
                }
            }
        }
    }
}

impl Liveness {
    /// Tells of the locals that are live at the beginning of the block, ascending.
    pub fn each_at(&self, block: Block, mut tell: impl FnMut(u32)) {
        let at = block as usize * self.words;
        for (word, &bits) in self.live_in[at..at + self.words].iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                tell(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_keeps_what_it_reads_alive() {
        // l0 = ..; loop { point; read l0; write l1; branch back } ; read l1
        let mut flow = FlowBuilder::default();
        // Sets of locals of two words, of one, and of less.
        for locals in [70, 64, 3] {
            flow.reset(locals);
            let entry = flow.split();
            flow.write(0);
            let header = flow.split();
            flow.read(0);
            flow.write(1);
            flow.read(1);
            flow.read(locals - 1);
            flow.branch(header);
            let exit = flow.split();
            flow.read(1);
            let mut live = Liveness::default();
            flow.solve(&mut live);
            let live_at = |block| {
                let mut found = vec![];
                live.each_at(block, |local| found.push(local));
                found
            };
            assert_eq!(live_at(entry), [locals - 1]);
            assert_eq!(live_at(header), [0, locals - 1]);
            assert_eq!(live_at(exit), [1]);
        }
    }
}
