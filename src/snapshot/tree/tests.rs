//! Tests of the page tree against a slow definition of it.

use std::collections::HashMap;

use super::along::ReadAlong;
use super::*;
use crate::snapshot::testing::Random;

type Chunks = HashMap<ChunkId, Vec<u8>>;

/// Updates the tree, puts what it emits into `chunks`, and says how many chunks came.
fn update(tree: &mut Tree, bytes: &[u8], dirty: Dirty<'_>, chunks: &mut Chunks) -> usize {
    let mut count = 0;
    let emit = &mut |id: ChunkId, bytes: &[u8]| {
        check_chunk(id, bytes).map_err(anyhow::Error::msg)?;
        chunks.insert(id, bytes.to_vec());
        count += 1;
        Ok(())
    };
    tree.update(bytes, dirty, emit).unwrap();
    count
}

fn fetch(chunks: &Chunks) -> impl FnMut(ChunkId) -> anyhow::Result<Vec<u8>> + '_ {
    |id| chunks.get(&id).cloned().ok_or_else(|| anyhow::anyhow!("no such chunk"))
}

/// Loads the content; only what is not zeros is written to it.
fn load(root: ChunkId, len: u64, chunks: &Chunks) -> Result<(Vec<u8>, Tree), TreeError> {
    let mut bytes = vec![0; len as usize];
    let tree = Tree::load(root, len, &mut fetch(chunks), &mut |offset, page| {
        assert!(page.iter().any(|byte| *byte != 0), "a page of zeros came");
        bytes[offset as usize..][..page.len()].copy_from_slice(page);
        Ok(())
    })?;
    Ok((bytes, tree))
}

/// The root by the definition, without any of the code above.
fn slow_root(bytes: &[u8]) -> [u8; 32] {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().div_ceil(4096) * 4096, 0);
    let hash = |bytes: &[u8]| match bytes.iter().all(|byte| *byte == 0) {
        true => [0; 32],
        false => *blake3::hash(bytes).as_bytes(),
    };
    let mut ids: Vec<[u8; 32]> = padded.chunks(4096).map(hash).collect();
    while ids.len() > 1 {
        let node = |ids: &[[u8; 32]]| {
            let mut node = ids.concat();
            node.resize(256, 0);
            hash(&node)
        };
        ids = ids.chunks(8).map(node).collect();
    }
    ids.first().copied().unwrap_or_default()
}

#[test]
fn follows_the_definition_through_random_changes() {
    let mut random = Random::new(1);
    for _ in 0..40 {
        let (mut tree, mut chunks) = (Tree::new(), Chunks::new());
        let mut bytes: Vec<u8> = Vec::new();
        for step in 0..12 {
            let mut dirty: Vec<u64> = Vec::new();
            let len = match random.below(4) {
                0 => bytes.len(),
                1 => random.below(700) as usize * 64,
                _ => bytes.len() + random.below(40 * 4096) as usize,
            };
            bytes.resize(len, 0);
            for _ in 0..random.below(9) {
                let Some(page) = random.below(pages(len as u64) + 1).checked_sub(1) else { continue };
                let end = len.min((page as usize + 1) * PAGE);
                let value = random.below(3) as u8;
                bytes[page as usize * PAGE..end].fill(value);
                dirty.push(page);
            }
            dirty.sort_unstable();
            dirty.dedup();
            let dirty = if step % 5 == 4 { Dirty::All } else { Dirty::Pages(&dirty) };
            update(&mut tree, &bytes, dirty, &mut chunks);
            assert_eq!(tree.root().as_bytes(), &slow_root(&bytes));
            let (loaded, mut again) = load(tree.root(), len as u64, &chunks).unwrap();
            assert!(loaded == bytes);
            assert_eq!(again.root(), tree.root());
            assert_eq!(update(&mut again, &bytes, Dirty::All, &mut chunks), 0, "known already");
        }
    }
}

#[test]
fn work_follows_what_changed() {
    let mut bytes = vec![0; 3000 * PAGE];
    let (mut tree, mut chunks) = (Tree::new(), Chunks::new());
    assert_eq!(update(&mut tree, &bytes, Dirty::All, &mut chunks), 0);
    assert_eq!(tree.root(), ChunkId::ZERO);
    bytes[5 * PAGE] = 1;
    assert_eq!(update(&mut tree, &bytes, Dirty::Pages(&[5, 7]), &mut chunks), 1 + 4);
    assert_eq!(update(&mut tree, &bytes, Dirty::All, &mut chunks), 0);
    bytes.resize(5000 * PAGE, 0);
    assert_eq!(update(&mut tree, &bytes, Dirty::Pages(&[]), &mut chunks), 1, "the new root");
}

#[test]
fn tail_of_a_stream() {
    let mut random = Random::new(2);
    let (mut tree, mut bytes, mut chunks) = (Tree::new(), Vec::new(), Chunks::new());
    for _ in 0..200 {
        let from = bytes.len() / PAGE * PAGE;
        for _ in 0..random.below(9000) {
            bytes.push(random.below(256) as u8);
        }
        let emit = &mut |id, bytes: &[u8]| {
            chunks.insert(id, bytes.to_vec());
            Ok(())
        };
        let root = tree.update_tail(from as u64, &bytes[from..], emit).unwrap();
        assert_eq!(root.as_bytes(), &slow_root(&bytes));
    }
    assert!(load(tree.root(), bytes.len() as u64, &chunks).unwrap().0 == bytes);
    let nothing = &mut |_, _: &[u8]| Ok(());
    assert!(tree.clone().update_tail(1, &[], nothing).is_err());
    assert!(tree.update_tail(1 << 30, &[], nothing).is_err());
}

#[test]
fn a_failed_update_forgets_what_it_did_not_emit() {
    let bytes = vec![1; 20 * PAGE];
    let (mut tree, mut chunks) = (Tree::new(), Chunks::new());
    for fail_at in 0..24 {
        let mut left = fail_at;
        let emit = &mut |_, _: &[u8]| {
            left -= 1;
            if left < 0 { Err(anyhow::anyhow!("full")) } else { Ok(()) }
        };
        assert!(tree.update(&bytes, Dirty::All, emit).is_err(), "{fail_at}");
        assert_eq!(tree.root(), ChunkId::ZERO);
    }
    assert_eq!(update(&mut tree, &bytes, Dirty::Pages(&[]), &mut chunks), 24);
    let nothing = &mut |_, _: &[u8]| Ok(());
    for bad in [&[1, 1][..], &[2, 1], &[20]] {
        assert!(tree.clone().update(&bytes, Dirty::Pages(bad), nothing).is_err());
    }
}

#[test]
fn every_damaged_chunk_is_named_with_its_place() {
    let bytes: Vec<u8> = (0..70 * PAGE as u32 - 100).map(|n| (n / 512) as u8 | 1).collect();
    let (mut tree, mut chunks) = (Tree::new(), Chunks::new());
    update(&mut tree, &bytes, Dirty::All, &mut chunks);
    let (root, len) = (tree.root(), bytes.len() as u64);
    for (id, good) in &chunks {
        let mut damaged = chunks.clone();
        let mut refused = |bytes: Option<Vec<u8>>| {
            match bytes {
                Some(bytes) => damaged.insert(*id, bytes),
                None => damaged.remove(id),
            };
            let error = load(root, len, &damaged).unwrap_err();
            let (TreeError::Missing { id: named, start, .. } | TreeError::Corrupt { id: named, start, .. }) =
                error
            else {
                panic!("{error}")
            };
            assert_eq!((named, start % PAGE as u64), (*id, 0));
            assert!(start < len);
        };
        refused(None);
        refused(Some(Vec::new()));
        refused(Some(good[1..].to_vec()));
        refused(Some([&good[..], &[0]].concat()));
        for bit in [0, good.len() * 4, good.len() * 8 - 1] {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            refused(Some(flipped));
        }
    }
}

#[test]
fn what_is_not_canonical_is_refused() {
    let mut chunks = Chunks::new();
    let mut put = |bytes: &[u8]| {
        chunks.insert(ChunkId::of(bytes), bytes.to_vec());
        ChunkId::of(bytes)
    };
    let mut node = [0; NODE];
    let (zero_page, zero_node, page) = (put(&[0; PAGE]), put(&node), put(&[1; PAGE]));
    node[..32].copy_from_slice(page.as_bytes());
    let low = put(&node);
    node[..32].copy_from_slice(low.as_bytes());
    let high = put(&node);
    node[32..64].copy_from_slice(page.as_bytes());
    let second = put(&node);
    let two = 2 * PAGE as u64;
    for (root, len, reason) in [
        (zero_page, 4096, "all zeros"),
        (zero_node, two, "all zeros"),
        (page, 4095, "behind the end"),
        (page, 0, "no bytes"),
        (page, two, "a page where a node belongs"),
        (low, 4096, "a node where a page belongs"),
        (high, two, "a node where a page belongs"),
        (second, 8 * PAGE as u64 * 8, "a page where a node belongs"),
        (second, 8 * PAGE as u64 + 1, "a page where a node belongs"),
        (second, 4096 * 9, "a page where a node belongs"),
        (low, LEN_MAX + 1, "over the limit"),
    ] {
        let error = Tree::load(root, len, &mut fetch(&chunks), &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}, not {reason}");
    }
    // A node with a child beyond the end: two levels of nodes, of which the content reaches one.
    let mut wide = [0; NODE];
    wide[..32].copy_from_slice(low.as_bytes());
    wide[64..96].copy_from_slice(low.as_bytes());
    chunks.insert(ChunkId::of(&wide), wide.to_vec());
    for (pages, good) in [(9, false), (16, false), (17, true), (64, true)] {
        let loaded = load(ChunkId::of(&wide), pages * PAGE as u64, &chunks);
        assert_eq!(loaded.is_ok(), good, "{pages}");
    }
}

#[test]
fn a_walk_names_each_chunk_once() {
    let mut chunks = Chunks::new();
    let (mut one, mut two) = (Tree::new(), Tree::new());
    let mut bytes: Vec<u8> = (0..100 * PAGE).map(|n| (n / PAGE) as u8).collect();
    update(&mut one, &bytes, Dirty::All, &mut chunks);
    let before = chunks.len();
    bytes[50 * PAGE] ^= 0xff;
    update(&mut two, &bytes, Dirty::All, &mut chunks);
    let mut walk = Walk::new();
    let mut named = HashMap::new();
    let mut counts = Vec::new();
    for tree in [&one, &two, &one] {
        let visit = &mut |id, kind| {
            assert_eq!(named.insert(id, kind), None, "named twice");
            Ok(())
        };
        walk.tree(tree.root(), tree.len(), &mut fetch(&chunks), visit).unwrap();
        counts.push(named.len());
    }
    assert_eq!(counts, [before, chunks.len(), chunks.len()]);
    for (id, kind) in named {
        assert_eq!(check_chunk(id, &chunks[&id]), Ok(kind));
    }
    // A walk that failed can be made again, and still says what is missing.
    let mut walk = Walk::new();
    let missing = [(one.root(), chunks[&one.root()].clone())].into();
    for _ in 0..2 {
        let visit = &mut |_, _| Ok(());
        walk.tree(one.root(), one.len(), &mut fetch(&missing), visit).unwrap_err();
    }
}

#[test]
fn a_few_chunks_that_stand_for_many_are_walked_once() {
    let mut chunks = Chunks::new();
    let mut id = ChunkId::of(&[1; PAGE]);
    for _ in 0..9 {
        let node: Vec<u8> = id.as_bytes().repeat(FANOUT);
        id = ChunkId::of(&node);
        chunks.insert(id, node);
    }
    let mut count = 0;
    let visit = &mut |_, _| {
        count += 1;
        Ok(())
    };
    Walk::new().tree(id, LEN_MAX / 2, &mut fetch(&chunks), visit).unwrap();
    assert_eq!(count, 10);
}

#[test]
fn a_content_that_is_not_in_memory_has_the_same_tree() {
    let mut random = Random::new(9);
    let (mut tree, mut chunks, mut bytes) = (Tree::new(), Chunks::new(), Vec::new());
    for _ in 0..60 {
        let old = bytes.len();
        bytes.resize(random.below(3000) as usize * PAGE, 0);
        // What a shorter content cuts off comes back as zeros.
        let mut dirty: Vec<u64> =
            (0..random.below(40)).map(|_| random.next()).filter(|_| !bytes.is_empty()).collect();
        dirty.iter_mut().for_each(|index| *index %= (bytes.len() / PAGE) as u64);
        dirty.sort_unstable();
        dirty.dedup();
        for index in &dirty {
            let value = random.below(3) as u8;
            bytes[*index as usize * PAGE..][..PAGE].fill(value);
        }
        let mut read = |indexes: &[u64], out: &mut [u8]| {
            for (index, page) in indexes.iter().zip(out.chunks_mut(PAGE)) {
                page.copy_from_slice(&bytes[*index as usize * PAGE..][..PAGE]);
            }
            Ok(())
        };
        let emit = &mut |id: ChunkId, bytes: &[u8]| {
            chunks.insert(id, bytes.to_vec());
            Ok(())
        };
        let mut along = tree.clone();
        let root = tree.update_pages(bytes.len() as u64, &dirty, &mut read, emit).unwrap();
        assert_eq!(*root.as_bytes(), slow_root(&bytes), "{old} to {} bytes", bytes.len());
        let read = |first: usize, indexes: &[u64], out: &mut [u8]| {
            assert_eq!(dirty[first..][..indexes.len()], *indexes);
            let (start, end) = (indexes[0], indexes[indexes.len() - 1] + 1);
            if end - start == indexes.len() as u64 {
                return Ok(Some(&bytes[start as usize * PAGE..end as usize * PAGE]));
            }
            for (index, page) in indexes.iter().zip(out.chunks_mut(PAGE)) {
                page.copy_from_slice(&bytes[*index as usize * PAGE..][..PAGE]);
            }
            Ok(None)
        };
        assert_eq!(along.update_along(bytes.len() as u64, &dirty, &read, emit).unwrap(), root);
        let len = bytes.len() as u64;
        let start = random.below(len + 1);
        let mut part = vec![9; random.below((len - start).min(50_000) + 1) as usize];
        read_range(root, len, start, &mut part, &mut fetch(&chunks)).unwrap();
        assert_eq!(part, bytes[start as usize..][..part.len()]);
    }
    let len = bytes.len() as u64;
    let beyond = read_range(tree.root(), len, len, &mut [0], &mut fetch(&chunks));
    assert!(matches!(beyond, Err(TreeError::Beyond { .. })));
    let mut tree = tree.clone();
    let mut read = |_: &[u64], _: &mut [u8]| anyhow::bail!("no");
    assert!(tree.update_pages(len + 1, &[], &mut read, &mut |_, _| Ok(())).is_err(), "no whole page");
    assert_eq!(tree.len(), 0, "it forgot everything");
    assert!(tree.update_pages(PAGE as u64, &[0], &mut read, &mut |_, _| Ok(())).is_err());
    assert!(tree.update_pages(PAGE as u64, &[1], &mut read, &mut |_, _| Ok(())).is_err(), "beyond the end");
}

/// More pages than are hashed together, in any number of threads.
#[test]
fn what_is_hashed_along_is_emitted_in_order_and_failures_are_told() {
    let page = |n: u64| {
        let mut page = vec![0; PAGE];
        page[..8].copy_from_slice(&(n / 2).to_le_bytes());
        page
    };
    let (count, len) = (5000, 6000 * PAGE as u64);
    let dirty: Vec<u64> = (500..500 + count).collect();
    let read = |_: usize, indexes: &[u64], out: &mut [u8]| {
        indexes.iter().zip(out.chunks_mut(PAGE)).for_each(|(n, out)| out.copy_from_slice(&page(*n)));
        Ok(None)
    };
    let run = |threads: usize, read: &ReadAlong<'_, '_>, fail_at: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut tree, mut emitted) = (Tree::new(), vec![]);
        let result = pool.install(|| {
            let mut emitted = vec![];
            let result = tree.update_along(len, &dirty, read, &mut |id, bytes| {
                anyhow::ensure!(emitted.len() < fail_at, "full");
                assert_eq!(ChunkId::of(bytes), id);
                emitted.push(id);
                Ok(())
            });
            result.map(|root| (root, emitted))
        });
        if let Ok((_, found)) = &result {
            emitted.clone_from(found);
        }
        assert_eq!(result.is_err(), tree.is_empty(), "after a failure it knows nothing");
        result.map(|(root, _)| (root, emitted))
    };
    let alone = run(1, &read, usize::MAX).unwrap();
    assert_eq!(
        alone.1.iter().take(4).collect::<Vec<_>>(),
        [500, 501, 502, 503].map(|n| ChunkId::of(&page(n))).iter().collect::<Vec<_>>()
    );
    assert_eq!(run(3, &read, usize::MAX).unwrap(), alone);
    let full = run(2, &read, 3000).unwrap_err();
    assert_eq!(full.to_string(), "full");
    let broken = |first: usize, indexes: &[u64], out: &mut [u8]| {
        anyhow::ensure!(!(first..first + indexes.len()).contains(&2500), "page 2500 is away");
        read(first, indexes, out)
    };
    let error = run(2, &broken, usize::MAX).unwrap_err();
    assert_eq!(error.to_string(), "page 2500 is away");
}

#[test]
fn extents_are_those_of_the_pages() {
    let mut random = Random::new(11);
    for _ in 0..200 {
        let len = random.below(600 * PAGE as u64);
        let mut bytes = vec![0; len as usize];
        for _ in 0..random.below(40) {
            // Equal runs, so that there are equal nodes, too.
            let at = random.below(600) as usize * PAGE;
            let end = (at + random.below(70) as usize * PAGE).min(bytes.len());
            bytes[at.min(end)..end].fill(1);
        }
        let (mut tree, mut chunks) = (Tree::new(), Chunks::new());
        update(&mut tree, &bytes, Dirty::All, &mut chunks);
        let (mut count, mut runs) = (0, Vec::<(u64, u64)>::new());
        Tree::load(tree.root(), len, &mut fetch(&chunks), &mut |at, page| {
            count += 1;
            let end = at + page.len() as u64;
            match runs.last_mut() {
                Some((_, last)) if *last == at => *last = end,
                _ => runs.push((at, end)),
            }
            Ok(())
        })
        .unwrap();
        for most in [0, 1, 3, 1000] {
            let found = Extents::of(tree.root(), len, most, &mut fetch(&chunks)).unwrap();
            let first = runs[..runs.len().min(most)].to_vec();
            assert_eq!(found, Extents { pages: count, count: runs.len() as u64, runs: first });
        }
    }
}
