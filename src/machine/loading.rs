//! The memories of a guest that is restored: all at once, or page by page when they are touched.

use anyhow::{Context, Result, ensure};
use wasmtime::Memory;

use super::dirty::Source;
use super::freeze::MemoryTrees;
use super::instance::Instance;
use super::lazy::{self, Damage, Loading, Pager, Restoring, Run, Setup};
use super::traps;
use super::values::Ours;
use crate::snapshot::State;

impl Instance {
    /// Gives the guest the memories of the state.
    pub(super) fn load_memories_from(&mut self, state: &State, how: &Restoring) -> Result<MemoryTrees> {
        for index in 0..state.memories.len() {
            self.size_memory(state, index)?;
        }
        if how.loading == Loading::Lazy
            && let Some(pager) = self.pager(state, how)?
        {
            return self.load_lazily(pager, how.first.clone());
        }
        let mut trees = vec![];
        for (index, saved) in state.memories.iter().enumerate() {
            let memory = self.memory(index as u32)?;
            let bytes = memory.data_mut(&mut self.store);
            // What the data segments have put there.
            lazy::clear(bytes, self.made[index] as usize);
            let tree = lazy::load(bytes, saved.root, &*how.source);
            trees.push(tree.map_err(|error| Damage::new(index, error))?);
        }
        self.loading = Some(Loading::Eager);
        self.trees_are_current(trees)
    }

    /// Gives a memory the size that it has in the state.
    pub(super) fn size_memory(&mut self, state: &State, index: usize) -> Result<Memory> {
        let len = state.memories.get(index).context("a memory is missing")?.len;
        let memory = self.memory(index as u32)?;
        let (fresh, page) = (memory.data_size(&self.store) as u64, memory.page_size(&self.store));
        ensure!(
            len >= fresh && len % page == 0,
            "memory {index} has {len} bytes, which the module's cannot have"
        );
        let grown = memory.grow(&mut self.store, (len - fresh) / page).ours();
        grown.with_context(|| format!("memory {index} cannot have {len} bytes"))?;
        Ok(memory)
    }

    /// What brings the pages of the memories, which are empty then; nothing where that does not work.
    fn pager(&mut self, state: &State, how: &Restoring) -> Result<Option<Pager>, Damage> {
        // An interpreter that is refused a page cannot be stopped.
        if self.module.engine.settings.target.is_some() {
            return Ok(None);
        }
        let mut setup = Setup::new(self.tracker.source() == Source::WriteProtection);
        for (index, saved) in state.memories.iter().enumerate() {
            let Ok(memory) = self.memory(index as u32) else { return Ok(None) };
            let bytes = memory.data_mut(&mut self.store);
            setup.add(bytes, saved.root, &*how.source).map_err(|error| Damage::new(index, error))?;
        }
        Ok(setup.finish(how, traps::of(&self.module)))
    }

    #[cfg(target_os = "linux")]
    fn load_lazily(&mut self, mut pager: Pager, first: Vec<Run>) -> Result<MemoryTrees> {
        let trees = MemoryTrees::pending(self.tracker.adopt(&pager.watched()));
        pager.start(first).context("cannot start a thread")?;
        self.store.data_mut().lazy = Some(pager.handle());
        (self.lazy, self.loading) = (Some(pager), Some(Loading::Lazy));
        Ok(trees)
    }

    #[cfg(not(target_os = "linux"))]
    fn load_lazily(&mut self, pager: Pager, _: Vec<Run>) -> Result<MemoryTrees> {
        match pager {}
    }

    /// How the guest's memories were restored; nothing if they were not.
    pub fn loading(&self) -> Option<Loading> {
        self.loading
    }

    /// The pages that the guest has touched first since it was restored lazily, as long as that goes on, in that order.
    pub fn touched_first(&self) -> Vec<Run> {
        self.lazy.as_ref().map_or(vec![], Pager::order)
    }

    /// What of the guest's memories is damaged, be it needed or not, as far as that is known yet. There can be no
    /// snapshots then.
    pub fn damage(&self) -> Option<anyhow::Error> {
        self.lazy.as_ref().and_then(Pager::found)
    }
}
