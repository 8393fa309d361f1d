//! Large disks, many files, sparse files; what a snapshot costs; what stays across a restore.

use std::time::Instant;

use super::*;

#[test]
fn a_change_of_one_file_of_ten_thousand_is_a_handful_of_chunks() {
    let (mut disk, mut chunks) = (disk(1 << 30), Chunks::default());
    for dir in 0..10 {
        disk.create_dir(ROOT, &format!("d{dir}"), 1).unwrap();
        for file in 0..1000 {
            disk.put(&format!("d{dir}/f{file}"), format!("{dir} {file}").as_bytes(), 1);
        }
    }
    chunks.capture(&mut disk);
    let all = chunks.count;
    assert!(all > 10_000);
    disk.put("d3/f500", b"changed", 2);
    chunks.capture(&mut disk);
    // One page of data and up to three of metadata, and the nodes above.
    let few = chunks.count - all;
    assert!((2..=20).contains(&few), "{few} chunks");
    // One more name moves no more than the pages behind it, whose content stays.
    disk.put("d3/new", b"new", 3);
    chunks.capture(&mut disk);
    let more = chunks.count - all - few;
    assert!(more <= 60, "{more} chunks");
    chunks.capture(&mut disk);
    assert_eq!(chunks.count, all + few + more, "nothing changed, nothing emitted");
    // The same by another way is the same disk.
    let image = chunks.capture(&mut disk);
    assert_eq!(Chunks::default().capture(&mut chunks.restore(image).unwrap()), image, "as loaded");
}

#[test]
fn a_hundred_thousand_small_files() {
    let (mut disk, mut chunks) = (disk(1 << 30), Chunks::default());
    for n in 0..100_000_u32 {
        disk.put(&format!("{n}"), &n.to_le_bytes(), 1);
    }
    assert_eq!((disk.used(), disk.inodes()), (100_000 * 4096, 100_001));
    let image = chunks.capture(&mut disk);
    let mut again = chunks.restore(image).unwrap();
    assert_eq!(again.get("77777"), 77_777_u32.to_le_bytes());
    for n in (0..100_000).rev() {
        again.unlink(ROOT, &format!("{n}"), 2).unwrap();
    }
    assert_eq!((again.used(), again.inodes()), (0, 1));
    let image = chunks.capture(&mut again);
    assert_eq!(image.data, (0, ChunkId::ZERO));
    again.check();
}

#[test]
fn a_sparse_file_of_four_gibibytes() {
    let (mut disk, mut chunks) = (disk(1 << 20), Chunks::default());
    let ino = disk.file("sparse", 1);
    const LEN: u64 = 4 << 30;
    let places = [(0, b"front"), (LEN / 2 - 2, b"midst"), (LEN - 5, b"the e")];
    for (offset, text) in places {
        assert_eq!(disk.write_at(ino, text, offset, 1), Ok(5));
    }
    assert_eq!(disk.size(ino), Ok(LEN));
    let image = chunks.capture(&mut disk);
    assert!(image.data.0 <= 16 * 4096 && chunks.count < 30, "{image:?}, {} chunks", chunks.count);
    let again = chunks.restore(image).unwrap();
    for (offset, text) in places {
        let mut found = [1; 7];
        let n = again.read_at(ino, &mut found, offset).unwrap();
        assert_eq!(&found[..5], text);
        assert!(n == 5 || found[5..] == [0, 0]);
    }
    disk.set_len(ino, 3, 2).unwrap();
    assert_eq!(disk.used(), 4096);
    disk.set_len(ino, 10, 2).unwrap();
    assert_eq!(disk.get("sparse"), b"fro\0\0\0\0\0\0\0");
}

#[test]
fn a_million_appends_take_the_same_time_each() {
    let mut disk = disk(1 << 30);
    let ino = disk.file("log", 1);
    let mut tenths = Vec::new();
    for tenth in 0..10 {
        let start = Instant::now();
        for n in 0..100_000 {
            let at = (tenth * 100_000 + n) * 100;
            assert_eq!(disk.write_at(ino, &[n as u8; 100], at, 1), Ok(100));
        }
        tenths.push(start.elapsed());
    }
    assert_eq!(disk.size(ino), Ok(100_000_000));
    assert!(tenths[9] < tenths[0].max(tenths[1]) * 8, "{tenths:?}");
    let Node::File(content) = &disk.inodes[&ino].node else { panic!() };
    assert_eq!(content.extents.iter().count(), 1, "alone on the disk, it is in one piece");
    // What was allocated ahead goes back.
    assert!(disk.used() >= 100_000_000);
    disk.release(ino);
    assert_eq!(disk.used(), 100_000_000_u64.next_multiple_of(4096));
    disk.check();
}

#[test]
fn files_that_grow_side_by_side_are_in_few_pieces() {
    let mut disk = disk(1 << 30);
    let inos: Vec<Ino> = (0..4).map(|n| disk.file(&format!("{n}"), 1)).collect();
    for n in 0..4096 {
        for ino in &inos {
            assert_eq!(disk.write_at(*ino, &[1; 4096], n * 4096, 1), Ok(4096));
        }
    }
    for ino in inos {
        let Node::File(content) = &disk.inodes[&ino].node else { panic!() };
        let pieces = content.extents.iter().count();
        assert!(pieces <= 32, "{pieces} pieces of 16 MiB");
    }
}

#[test]
fn what_is_open_without_a_name_survives() {
    let (mut disk, mut chunks) = (disk(1 << 20), Chunks::default());
    let gone = disk.file("gone", 1);
    disk.write_at(gone, b"still here", 0, 1).unwrap();
    disk.create_dir(ROOT, "dir", 1).unwrap();
    let Ok(Opened::Directory(dir)) = disk.open(ROOT, "dir", READ, 1) else { panic!() };
    disk.retain(dir).unwrap();
    disk.put("over", b"new", 1);
    let old = disk.file("old", 1);
    disk.write_at(old, b"replaced", 0, 1).unwrap();
    disk.unlink(ROOT, "gone", 2).unwrap();
    disk.remove_dir(ROOT, "dir", 2).unwrap();
    disk.rename(ROOT, "over", ROOT, "old", 2).unwrap();
    let image = chunks.capture(&mut disk);
    let mut again = chunks.restore(image).unwrap();
    assert_eq!(again.lost().collect::<Vec<_>>(), [gone, dir, old]);
    for ino in [gone, dir, old] {
        again.retain(ino).unwrap();
        assert_eq!(again.attributes(ino).unwrap().nlink, 0);
    }
    let mut bytes = [0; 20];
    assert_eq!(again.read_at(gone, &mut bytes, 0), Ok(10));
    assert_eq!(&bytes[..10], b"still here");
    assert_eq!(again.read_at(old, &mut bytes, 0), Ok(8));
    assert_eq!(again.get("old"), b"new");
    assert_eq!(again.list(dir), Ok(Vec::new()));
    assert_eq!(again.open(dir, "x", NEW, 3), Err(Errno::Noent));
    assert_eq!(chunks.capture(&mut again), image);
    for ino in [gone, dir, old] {
        again.release(ino);
        assert_eq!(again.retain(ino), Err(Errno::Noent));
    }
    assert_eq!((again.used(), again.inodes()), (4096, 2));
}

#[test]
fn a_full_disk_refuses_and_stays_whole() {
    let mut disk = disk(8 * 4096);
    let (a, b) = (disk.file("a", 1), disk.file("b", 1));
    assert_eq!(disk.write_at(a, &[1; 5 * 4096], 0, 1), Ok(5 * 4096));
    let before = disk.tree();
    assert_eq!(disk.allocate(b, 0, 4 * 4096, 2), Err(Errno::Nospc));
    assert_eq!(disk.tree(), before, "all or nothing");
    // A write takes what there is, and then fails.
    assert_eq!(disk.write_at(b, &[2; 5 * 4096], 100, 2), Ok(3 * 4096 - 100));
    let before = disk.tree();
    assert_eq!(disk.write_at(b, &[3; 10], 3 * 4096, 3), Err(Errno::Nospc));
    assert_eq!(disk.write_at(b, &[3; 10], 90_000, 3), Err(Errno::Nospc));
    assert_eq!(disk.tree(), before);
    // What is there can be written over; a hole needs nothing; what goes makes room.
    assert_eq!(disk.write_at(b, &[4; 10], 4096, 3), Ok(10));
    assert_eq!(disk.set_len(b, 1 << 40, 3), Ok(()));
    disk.unlink(ROOT, "a", 4).unwrap();
    assert_eq!(disk.write_at(b, &[3; 10], 90_000, 4), Err(Errno::Nospc), "it is still open");
    disk.release(a);
    assert_eq!(disk.write_at(b, &[3; 10], 90_000, 4), Ok(10));
    disk.check();
    // A file that was given blocks ahead gives them back when another needs them.
    let mut small = super::disk(8 * 4096);
    let (a, b) = (small.file("a", 1), small.file("b", 1));
    for n in 0..5 {
        assert_eq!(small.write_at(a, &[1; 4096], n * 4096, 1), Ok(4096));
    }
    assert_eq!(small.used(), 8 * 4096);
    assert_eq!(small.write_at(b, &[2; 3 * 4096], 0, 1), Ok(3 * 4096));
    small.check();
}

#[test]
fn what_fails_to_be_stored_is_emitted_again() {
    let (mut disk, mut chunks) = (disk(1 << 20), Chunks::default());
    disk.put("a", &[1; 9000], 1);
    let mut left = 2;
    let failed = disk.capture(&mut |_, _| {
        left -= 1;
        anyhow::ensure!(left > 0, "the store is full");
        Ok(())
    });
    assert!(failed.is_err());
    let image = chunks.capture(&mut disk);
    assert_eq!(chunks.restore(image).unwrap().tree(), disk.tree());
    let mut more = Chunks::default();
    disk.forget_stored();
    assert_eq!(more.capture(&mut disk), image);
    assert_eq!(more.all.len(), chunks.all.len());
}

#[test]
fn freed_blocks_are_zeros_wherever_they_turn_up() {
    let (mut disk, mut chunks) = (disk(1 << 20), Chunks::default());
    disk.put("secret", &[0xee; 20_000], 1);
    chunks.capture(&mut disk);
    disk.unlink(ROOT, "secret", 2).unwrap();
    let ino = disk.file("new", 3);
    disk.allocate(ino, 0, 20_000, 3).unwrap();
    assert!(disk.get("new").iter().all(|byte| *byte == 0));
    let image = chunks.capture(&mut disk);
    assert_eq!(image.data, (5 * 4096, ChunkId::ZERO));
    // The terabyte that is allocated takes neither time nor chunks.
    let mut large = super::disk(1 << 40);
    let ino = large.file("large", 1);
    large.allocate(ino, 0, 1 << 40, 1).unwrap();
    assert_eq!(chunks.capture(&mut large).data, (1 << 40, ChunkId::ZERO));
    large.set_len(ino, 0, 2).unwrap();
    assert_eq!((large.used(), chunks.capture(&mut large).data.0), (0, 0));
}
