//! Images whose bytes come from anywhere.

use super::*;
use crate::snapshot::{Dirty, PAGE};

/// The bytes of a content.
fn bytes(chunks: &Chunks, (len, root): (u64, ChunkId)) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    crate::snapshot::read_range(root, len, 0, &mut bytes, &mut chunks.fetch()).unwrap();
    bytes
}

/// Stores a content.
fn store(chunks: &mut Chunks, bytes: &[u8]) -> (u64, ChunkId) {
    let root = Tree::new().update(bytes, Dirty::All, &mut |id, bytes| {
        chunks.all.insert(id, bytes.to_vec());
        Ok(())
    });
    (bytes.len() as u64, root.unwrap())
}

fn sample() -> (Disk, Chunks, Image) {
    let (mut disk, mut chunks) = (disk(1 << 20), Chunks::default());
    disk.create_dir(ROOT, "d", 1).unwrap();
    for n in 0..40 {
        disk.put(&format!("d/{n}"), &vec![n; 100 * usize::from(n)], u64::from(n));
    }
    disk.symlink("d/7", ROOT, "link", 5).unwrap();
    disk.hard_link(ROOT, "d/8", ROOT, "eight", 5).unwrap();
    let ino = disk.file("sparse", 5);
    disk.write_at(ino, b"x", 1 << 20, 5).unwrap();
    let image = chunks.capture(&mut disk);
    (disk, chunks, image)
}

/// What is accepted is a disk that holds together, and is captured as it was read.
fn accepted(chunks: &mut Chunks, image: Image) -> bool {
    let Ok(mut disk) = chunks.restore(image) else { return false };
    disk.check();
    drop(disk.tree());
    assert_eq!(chunks.capture(&mut disk), image);
    true
}

#[test]
fn changed_bytes_are_refused_or_are_another_disk() {
    let (_, mut chunks, image) = sample();
    let meta = bytes(&chunks, image.meta);
    let mut random = Random::new(1);
    let mut others = 0;
    for _ in 0..4000 {
        let mut changed = meta.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(changed.len() as u64) as usize;
            match random.below(6) {
                0 => changed[at] = random.next() as u8,
                1 => changed[at] ^= 1 << random.below(8),
                2 => drop(changed.remove(at)),
                3 => changed.insert(at, random.next() as u8),
                4 => changed.truncate(at + 1),
                _ => {
                    let (from, len) =
                        (random.below(changed.len() as u64) as usize, random.below(40) as usize);
                    let part = changed[from..changed.len().min(from + len)].to_vec();
                    let end = changed.len().min(at + part.len());
                    changed.splice(at..end, part);
                }
            }
        }
        if changed == meta {
            continue;
        }
        let meta = store(&mut chunks, &changed);
        others += usize::from(accepted(&mut chunks, Image { meta, ..image }));
    }
    assert!(others > 10, "times and flags can be changed: {others}");
}

#[test]
fn data_that_no_file_has_is_refused() {
    let (_, mut chunks, image) = sample();
    assert!(accepted(&mut chunks, image));
    let data = bytes(&chunks, image.data);
    let refused = |chunks: &mut Chunks, data: &[u8], why: &str| {
        let data = store(chunks, data);
        let error = chunks.restore(Image { data, ..image }).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    // Behind the end of a file, in its last block.
    let end = data.chunks(PAGE).position(|page| page[0] == 1).unwrap() * PAGE + 100;
    let mut changed = data.clone();
    assert_eq!((changed[end - 1], changed[end]), (1, 0));
    changed[end] = 1;
    refused(&mut chunks, &changed, "in no file");
    refused(&mut chunks, &data[..data.len() - PAGE], "take up");
    refused(&mut chunks, &[data.clone(), vec![1; PAGE]].concat(), "take up");
    let too_large = Disk::restore(image, DEV, 4096, scratch(), &mut chunks.fetch()).unwrap_err();
    assert!(matches!(too_large, ImageError::TooLarge { most: 4096, .. }));
    // Another content of a file is another disk.
    let mut changed = data;
    changed[end - 1] = 9;
    let data = store(&mut chunks, &changed);
    assert!(accepted(&mut chunks, Image { data, ..image }));
}

#[test]
fn rules_that_random_bytes_seldom_break() {
    let (disk, mut chunks, image) = sample();
    type Change = fn(&mut BTreeMap<Ino, Inode>);
    let entries = |inodes: &mut BTreeMap<Ino, Inode>, ino: Ino, name: &str, entry: Ino| {
        let Node::Directory { entries, .. } = &mut inodes.get_mut(&ino).unwrap().node else { panic!() };
        entries.insert(name.to_string(), entry);
    };
    let mut try_it = |why: &str, inodes: &BTreeMap<Ino, Inode>, next: Ino| {
        let meta = store(&mut chunks, &records::encode(disk.limit, next, inodes).unwrap());
        let error = chunks.restore(Image { meta, ..image }).unwrap_err();
        assert!(error.to_string().contains(why), "{error}, not {why}");
    };
    let with = |change: &dyn Fn(&mut BTreeMap<Ino, Inode>)| {
        let mut inodes = disk.inodes.clone();
        change(&mut inodes);
        inodes
    };
    let d = disk.find(ROOT, "d", true).unwrap();
    for name in ["..", ".", "", "a/b", "a\0b"] {
        try_it("the name", &with(&|inodes| entries(inodes, ROOT, name, 5)), disk.next);
    }
    try_it("which is not there", &with(&|inodes| entries(inodes, ROOT, "zz", 999)), disk.next);
    try_it("too many names", &with(&|inodes| entries(inodes, ROOT, "zz", d)), disk.next);
    try_it("too many names", &with(&|inodes| entries(inodes, d, "zz", ROOT)), disk.next);
    try_it("inode", &disk.inodes, disk.next - 1);
    let no_root: Change = |inodes| drop(inodes.remove(&ROOT));
    try_it("inode 2 after 0", &with(&no_root), disk.next);
    // Two directories that hold each other, and that nobody else holds.
    let circle = with(&|inodes| {
        for (ino, other) in [(900, 901), (901, 900)] {
            let node = Node::Directory { entries: BTreeMap::from([("x".to_string(), other)]), parent: other };
            inodes.insert(ino, Inode::new(node, 1));
        }
    });
    try_it("in each other", &circle, 1000);
    let lost = with(&|inodes| drop(inodes.insert(900, Inode::new(Node::Symlink("x".to_string()), 1))));
    try_it("has no name", &lost, 1000);
    let shared = with(&|inodes| {
        let of = |start| {
            let mut content = inode::Content { size: 4096, ..Default::default() };
            content.extents.insert(0, extents::Run { start, len: 1 });
            Node::File(content)
        };
        inodes.insert(900, Inode::new(of(3), 1));
    });
    try_it("share a block", &shared, 1000);
}

#[test]
fn few_chunks_that_stand_for_much_are_refused_early() {
    let (_, mut chunks, image) = sample();
    // The same page of records again and again, for a tebibyte.
    let meta = bytes(&chunks, image.meta);
    let page = &meta[PAGE..2 * PAGE];
    let mut id = ChunkId::of(page);
    chunks.all.insert(id, page.to_vec());
    for _ in 0..10 {
        let node = id.as_bytes().repeat(8);
        id = ChunkId::of(&node);
        chunks.all.insert(id, node);
    }
    let len = 1 << 40;
    let restored = chunks.restore(Image { meta: (len, id), ..image });
    assert!(restored.is_err());
    let restored = chunks.restore(Image { meta: (len, ChunkId::ZERO), ..image });
    assert!(restored.is_err());
    let restored = chunks.restore(Image { meta: (u64::MAX, id), ..image });
    assert!(restored.is_err());
    assert!(chunks.restore(Image { data: (len, id), ..image }).is_err());
}
