//! Brings what nobody has touched yet: first all nodes, then all pages.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::nodes::read_level;
use super::pager::{Shared, lock};
use super::region::Region;
use super::{Damage, Run};
use crate::snapshot::{Known, Tree};

/// Pages that are brought at once (1 MiB).
const BATCH: usize = 256;
/// Pages that are looked at in one go.
const LOOK: u64 = 4096;
/// Runs of zeros of so many pages come by themselves,
const RELEASED: u64 = 64;
/// up to so many runs of a memory: the system bounds how often a process's memory changes its nature.
const RUNS_MAX: usize = 4096;
/// So many batches a second thread brings for each page that the guest has to wait for.
const HELP: usize = 2;

/// What is still to be brought.
struct Rest {
    runs: VecDeque<Run>,
}

/// Brings all.
pub(super) fn run(shared: &Shared, first: Vec<Run>) {
    let trees = nodes(shared);
    if shared.is_over() {
        return;
    }
    shared.set_trees(trees);
    for memory in 0..shared.regions.len() {
        release_zeros(shared, memory);
    }
    let mut runs = VecDeque::from(first);
    let whole = |(memory, region): (usize, &Region)| Run { memory, pages: 0..region.pages };
    runs.extend(shared.regions.iter().enumerate().map(whole));
    runs.retain(|run| run.memory < shared.regions.len());
    let rest = Mutex::new(Rest { runs });
    thread::scope(|scope| {
        // Without it, it takes longer.
        let helper = thread::Builder::new().name("prefetch-2".to_string());
        let helper = helper.spawn_scoped(scope, || help(shared, &rest));
        while bring_next(shared, &rest) {}
        if let Ok(helper) = helper {
            helper.thread().unpark();
        }
    });
    while shared.busy.load(Ordering::SeqCst) > 0 && !shared.is_over() {
        thread::sleep(Duration::from_micros(100));
    }
    shared.set_complete();
}

/// Brings more as long as the guest has to wait for pages, so that one processor would be idle.
fn help(shared: &Shared, rest: &Mutex<Rest>) {
    let _ = shared.helper.set(thread::current());
    let mut seen = shared.faults.load(Ordering::Relaxed);
    while !shared.is_over() && !lock(rest).runs.is_empty() {
        let faults = shared.faults.load(Ordering::Relaxed);
        if faults == seen {
            thread::park_timeout(Duration::from_millis(10));
            continue;
        }
        seen = faults;
        for _ in 0..HELP {
            bring_next(shared, rest);
        }
    }
}

/// Reads all nodes; nothing if some cannot be.
fn nodes(shared: &Shared) -> Option<Vec<Tree>> {
    let mut trees = vec![];
    for (memory, region) in shared.regions.iter().enumerate() {
        let top = lock(&region.tree).top();
        let mut bad = |error| {
            shared.note(Damage::new(memory, error));
            Ok(())
        };
        for level in (1..=top).rev() {
            if shared.is_over() {
                return None;
            }
            read_level(&region.tree, level, (&*shared.source, 1), &mut bad).ok()?;
        }
        trees.push(lock(&region.tree).whole());
    }
    trees.into_iter().collect()
}

/// Long runs of zeros need nobody to bring them.
fn release_zeros(shared: &Shared, memory: usize) {
    let region = &shared.regions[memory];
    let (mut at, mut zeros, mut released) = (0, 0, 0);
    while at < region.pages && !shared.is_over() {
        let end = (at + LOOK).min(region.pages);
        let mut runs = vec![];
        {
            let tree = lock(&region.tree);
            for page in at..end {
                let zero = matches!(tree.page(page), Known::Zero) && !region.is_there(page);
                if zero {
                    zeros += 1;
                }
                if (!zero || page + 1 == region.pages) && zeros >= RELEASED {
                    let end = page + u64::from(zero);
                    runs.push(end - zeros..end);
                }
                if !zero {
                    zeros = 0;
                }
            }
        }
        for run in runs {
            // What cannot be released is brought when it is touched.
            if released < RUNS_MAX && shared.release(memory, run).is_ok() {
                released += 1;
            }
        }
        at = end;
    }
}

/// Brings the next pages; false if there are none.
fn bring_next(shared: &Shared, rest: &Mutex<Rest>) -> bool {
    if shared.is_over() {
        return false;
    }
    shared.busy.fetch_add(1, Ordering::SeqCst);
    let next = next(shared, rest);
    let more = next.is_some();
    if let Some((memory, pages)) = next
        && !pages.is_empty()
    {
        shared.bring(memory, &pages);
    }
    shared.busy.fetch_sub(1, Ordering::SeqCst);
    more
}

/// The next pages, of one memory, claimed; perhaps none yet.
fn next(shared: &Shared, rest: &Mutex<Rest>) -> Option<(usize, Vec<(u64, Known)>)> {
    let mut rest = lock(rest);
    let Run { memory, pages: run } = rest.runs.front_mut()?;
    let (memory, region) = (*memory, &shared.regions[*memory]);
    let mut pages = vec![];
    let tree = lock(&region.tree);
    let end = run.end.min(region.pages).min(run.start.saturating_add(LOOK));
    while run.start < end && pages.len() < BATCH {
        let page = run.start;
        run.start += 1;
        if region.is_there(page) {
            continue;
        }
        let known = tree.page(page);
        if matches!(known, Known::Page(_)) && region.claim(page) {
            pages.push((page, known));
        }
    }
    if run.start >= run.end.min(region.pages) {
        rest.runs.pop_front();
    }
    Some((memory, pages))
}
