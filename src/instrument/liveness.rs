//! Which locals are live where: a backward data-flow over the basic blocks of one function.
//!
//! Exact per point: a frame holds what the rest of the run can read, and nothing else, so the frame
//! format depends on the original module alone, and dead values neither cost registers nor reach a
//! snapshot. Source: the textbook equations, `in = gen ∪ (out ∖ kill)`, `out = ∪ in(successors)`.

/// A basic block's number.
pub type Block = u32;

/// The control-flow graph as it is being built, block after block in program order.
#[derive(Default)]
pub struct FlowBuilder {
    locals: u32,
    /// Per block: its ranges in `gens` and `kills`; empty until the block has begun.
    blocks: Vec<BlockData>,
    /// Blocks in the order in which they begin in the program.
    order: Vec<Block>,
    gens: Vec<u32>,
    kills: Vec<u32>,
    edges: Vec<(Block, Block)>,
    current: Option<Block>,
    /// Per local: the block (plus 1) that last read it before writing it, and that last wrote it.
    read_in: Vec<u32>,
    written_in: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct BlockData {
    gens: (u32, u32),
    kills: (u32, u32),
}

/// The result: the live locals at the beginning of each block.
pub struct Liveness {
    words: usize,
    live_in: Vec<u64>,
}

impl FlowBuilder {
    pub fn new(locals: u32) -> Self {
        let n = locals as usize;
        Self { locals, read_in: vec![0; n], written_in: vec![0; n], ..Self::default() }
    }

    /// A block that is going to begin later, to branch to.
    pub fn reserve(&mut self) -> Block {
        self.blocks.push(BlockData::default());
        self.blocks.len() as Block - 1
    }

    /// The block begins here; control falls into it from the current one.
    pub fn begin(&mut self, block: Block) {
        if let Some(from) = self.current {
            self.edges.push((from, block));
        }
        self.close();
        let (g, k) = (self.gens.len() as u32, self.kills.len() as u32);
        self.blocks[block as usize] = BlockData { gens: (g, g), kills: (k, k) };
        self.order.push(block);
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
            self.edges.push((from, to));
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
        }
    }

    pub fn read(&mut self, local: u32) {
        let Some(block) = self.current else { return };
        let (l, stamp) = (local as usize, block + 1);
        if self.written_in[l] != stamp && self.read_in[l] != stamp {
            self.read_in[l] = stamp;
            self.gens.push(local);
        }
    }

    pub fn write(&mut self, local: u32) {
        let Some(block) = self.current else { return };
        let (l, stamp) = (local as usize, block + 1);
        if self.written_in[l] != stamp {
            self.written_in[l] = stamp;
            self.kills.push(local);
        }
    }

    /// Bytes that [`FlowBuilder::solve`] is going to need.
    pub fn bytes_to_solve(&self) -> u64 {
        self.blocks.len() as u64 * u64::from(self.locals.div_ceil(64)) * 8
    }

    /// Solves the equations.
    pub fn solve(mut self) -> Liveness {
        self.stop();
        let words = self.locals.div_ceil(64) as usize;
        let mut live_in = vec![0u64; self.blocks.len() * words];
        if words == 0 {
            return Liveness { words, live_in };
        }
        let successors = Successors::new(self.blocks.len(), &self.edges);
        let mut out = vec![0u64; words];
        // Program order reversed: one pass settles what has no loop, one more a level of loops.
        let mut changed = true;
        while changed {
            changed = false;
            for &block in self.order.iter().rev() {
                out.fill(0);
                for &next in successors.of(block) {
                    let at = next as usize * words;
                    for (o, i) in out.iter_mut().zip(&live_in[at..at + words]) {
                        *o |= i;
                    }
                }
                let data = self.blocks[block as usize];
                for &local in &self.kills[data.kills.0 as usize..data.kills.1 as usize] {
                    out[local as usize / 64] &= !(1 << (local % 64));
                }
                for &local in &self.gens[data.gens.0 as usize..data.gens.1 as usize] {
                    out[local as usize / 64] |= 1 << (local % 64);
                }
                let at = block as usize * words;
                let place = &mut live_in[at..at + words];
                if *place != out[..] {
                    place.copy_from_slice(&out);
                    changed = true;
                }
            }
        }
        Liveness { words, live_in }
    }
}

/// The edges by source, in one vector.
struct Successors {
    starts: Vec<u32>,
    targets: Vec<Block>,
}

impl Successors {
    fn new(blocks: usize, edges: &[(Block, Block)]) -> Self {
        let mut starts = vec![0u32; blocks + 1];
        for (from, _) in edges {
            starts[*from as usize + 1] += 1;
        }
        for i in 0..blocks {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut targets = vec![0; edges.len()];
        for (from, to) in edges {
            targets[next[*from as usize] as usize] = *to;
            next[*from as usize] += 1;
        }
        Self { starts, targets }
    }

    fn of(&self, block: Block) -> &[Block] {
        &self.targets[self.starts[block as usize] as usize..self.starts[block as usize + 1] as usize]
    }
}

impl Liveness {
    /// The locals that are live at the beginning of the block, ascending.
    pub fn live_at(&self, block: Block) -> impl Iterator<Item = u32> + '_ {
        let at = block as usize * self.words;
        self.live_in[at..at + self.words].iter().enumerate().flat_map(|(word, &bits)| {
            let mut bits = bits;
            std::iter::from_fn(move || {
                (bits != 0).then(|| {
                    let bit = bits.trailing_zeros();
                    bits &= bits - 1;
                    word as u32 * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_keeps_what_it_reads_alive() {
        // l0 = ..; loop { point; read l0; write l1; branch back } ; read l1
        let mut flow = FlowBuilder::new(70);
        let entry = flow.split();
        flow.write(0);
        let header = flow.split();
        flow.read(0);
        flow.write(1);
        flow.read(69);
        flow.branch(header);
        let exit = flow.split();
        flow.read(1);
        let live = flow.solve();
        assert_eq!(live.live_at(entry).collect::<Vec<_>>(), [69]);
        assert_eq!(live.live_at(header).collect::<Vec<_>>(), [0, 69]);
        assert_eq!(live.live_at(exit).collect::<Vec<_>>(), [1]);
    }
}
