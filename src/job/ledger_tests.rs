//! Tests of the output ledger.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::delivery::Counter;
use super::ledger::Ledger;
use super::log::{Printed, SinkFile};
use super::printed::Fetch;
use super::sinks::{Delivery, Former, Mode, Sink};
use crate::digest::ChunkId;
use crate::store::Memory;
use crate::wasi::OutputBuffer;

/// Chunks that are stored.
type Chunks = HashMap<ChunkId, Vec<u8>>;

fn fetch(chunks: &Chunks) -> impl FnMut(ChunkId) -> Result<Vec<u8>> {
    |id| chunks.get(&id).cloned().ok_or_else(|| anyhow::anyhow!("chunk {id} is missing"))
}

fn ledger(sinks: [Sink; 2], keep: u64) -> Ledger {
    Ledger::open(sinks, &Printed::default(), keep, Arc::default(), &mut fetch(&Chunks::new())).unwrap()
}

/// What a snapshot keeps.
fn capture(ledger: &Ledger, chunks: &mut Chunks) -> Printed {
    let printed = ledger.capture(&mut |id, bytes| {
        chunks.insert(id, bytes.to_vec());
        Ok(())
    });
    ledger.settle();
    printed.unwrap()
}

fn kept(printed: &Printed, stream: usize, chunks: &Chunks) -> Vec<u8> {
    let mut all = vec![];
    let mut take = |bytes: &[u8]| {
        all.extend_from_slice(bytes);
        Ok(())
    };
    printed.read(stream, &mut fetch(chunks), &mut take).unwrap();
    all
}

/// Bytes of which hardly any page is like another, with pages of zeros among them.
fn text(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| if (n / 4096) % 5 == 3 { 0 } else { (n / 7) as u8 ^ seed }).collect()
}

#[test]
fn what_is_captured_is_all_that_was_printed_and_each_page_once() {
    let ledger = ledger([Sink::Null, Sink::Null], u64::MAX);
    let (mut chunks, mut whole, mut emitted) = (Chunks::new(), vec![], 0);
    for (round, len) in [0, 1, 4095, 4096, 1, 70_000, 4096 * 3, 12].into_iter().enumerate() {
        let part = text(len, round as u8);
        ledger.output(0).write(&part).unwrap();
        whole.extend_from_slice(&part);
        let printed = ledger.capture(&mut |id, bytes| {
            emitted += bytes.len();
            chunks.insert(id, bytes.to_vec());
            Ok(())
        });
        ledger.settle();
        let printed = printed.unwrap();
        assert_eq!(kept(&printed, 0, &chunks), whole, "round {round}");
        assert_eq!((printed.streams[0].written, printed.lost()), (whole.len() as u64, 0));
    }
    assert!(emitted < 2 * whole.len(), "{emitted} bytes were stored for {}", whole.len());
}

#[test]
fn what_could_not_be_stored_is_given_again() {
    let ledger = ledger([Sink::Null, Sink::Null], u64::MAX);
    let (mut chunks, mut whole) = (Chunks::new(), vec![]);
    for round in 0..6 {
        let part = text(30_000, round);
        ledger.output(1).write(&part).unwrap();
        whole.extend_from_slice(&part);
        // Fails at once, after some chunks, and when all were given and the store then failed.
        for most in [0, 3, usize::MAX] {
            let mut given = 0;
            let _ = ledger.capture(&mut |_, _| {
                given += 1;
                anyhow::ensure!(given <= most, "full");
                Ok(())
            });
            ledger.undo();
        }
        let printed = capture(&ledger, &mut chunks);
        assert_eq!(kept(&printed, 1, &chunks), whole, "round {round}");
    }
}

#[test]
fn no_more_is_kept_than_allowed_and_it_is_known_how_much_is_missing() {
    let (ledger, mut chunks) = (ledger([Sink::Null, Sink::Null], 5000), Chunks::new());
    for _ in 0..4 {
        ledger.output(0).write(&text(3000, 1)).unwrap();
    }
    let printed = capture(&ledger, &mut chunks);
    assert_eq!((printed.streams[0].written, printed.streams[0].kept, printed.lost()), (12_000, 5000, 7000));
    assert_eq!(kept(&printed, 0, &chunks), [text(3000, 1), text(2000, 1)].concat());
}

#[test]
fn terabytes_of_zeros_are_refused() {
    let mut printed = Printed::default();
    (printed.streams[0].written, printed.streams[0].kept) = (1 << 40, 1 << 40);
    let (sinks, empty) = ([Sink::Null, Sink::Null], Chunks::new());
    let refused = Ledger::open(sinks, &printed, 1 << 30, Arc::default(), &mut fetch(&empty)).err().unwrap();
    assert!(refused.to_string().contains("1099511627776 bytes of output"), "{refused}");
}

#[test]
fn much_output_asks_for_a_snapshot() {
    let full = Arc::new(AtomicBool::new(false));
    let (none, empty) = (Printed::default(), Chunks::new());
    let ledger =
        Ledger::open([Sink::Null, Sink::Null], &none, u64::MAX, full.clone(), &mut fetch(&empty)).unwrap();
    let part = text(1 << 20, 2);
    for _ in 0..64 {
        ledger.output(0).write(&part).unwrap();
    }
    assert!(!full.load(Ordering::SeqCst));
    ledger.output(1).write(b"x").unwrap();
    assert!(full.load(Ordering::SeqCst));
    full.store(false, Ordering::SeqCst);
    capture(&ledger, &mut Chunks::new());
    ledger.output(1).write(b"x").unwrap();
    assert!(!full.load(Ordering::SeqCst));
}

fn open(path: &Path) -> File {
    File::options().append(true).read(true).create(true).open(path).unwrap()
}

/// Goes on with what was printed, in these sinks.
fn go_on(sinks: [Sink; 2], former: Former<'_>, chunks: &Chunks) -> (Ledger, [Option<SinkFile>; 2]) {
    go_on_with(sinks, former, chunks, Delivery::default())
}

/// The same, delivered in this way.
fn go_on_with(
    sinks: [Sink; 2],
    former: Former<'_>,
    chunks: &Chunks,
    delivery: Delivery,
) -> (Ledger, [Option<SinkFile>; 2]) {
    let ledger = Ledger::open(sinks, former.printed, u64::MAX, Arc::default(), &mut fetch(chunks)).unwrap();
    let counter = Counter::of(&Memory::new(), &"ledger-tests".parse().unwrap(), 0);
    let plan = ledger.plan(former, delivery, &counter).unwrap();
    let before = (former.printed, &mut fetch(chunks) as &mut Fetch<'_>);
    assert!(ledger.carry_out(&plan, delivery.mode, &counter, before, None).unwrap());
    (ledger, plan.sinks)
}

#[test]
fn one_file_for_both_streams_keeps_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both");
    let sinks = |path: &Path| {
        let file = open(path);
        [Sink::File(file.try_clone().unwrap()), Sink::File(file)]
    };
    let (none, mut chunks) = (Printed::default(), Chunks::new());
    let former = Former::new([None; 2], false, &none);
    let (ledger, files) = go_on(sinks(&path), former, &chunks);
    let mut expected = String::new();
    for n in 0..500_u32 {
        let line = format!("{n}\n");
        expected += &line;
        ledger.output((n % 3 == 1) as usize).write(line.as_bytes()).unwrap();
    }
    let printed = capture(&ledger, &mut chunks);
    ledger.output(0).write(b"not covered").unwrap();
    drop(ledger);
    // The same file is continued; another one gets all of it, in order.
    let other = dir.path().join("other");
    for (path, sinks_before) in [(&path, files), (&other, files)] {
        let former = Former::new(sinks_before, false, &printed);
        let (ledger, _) = go_on(sinks(path), former, &chunks);
        ledger.output(1).write(b"end").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("{expected}end"));
    }
    // A file that was for both and is now for one is another file.
    let former = Former::new(files, false, &printed);
    std::fs::write(&path, "").unwrap();
    go_on([Sink::File(open(&path)), Sink::Null], former, &chunks);
    let out: String = (0..500).filter(|n| n % 3 != 1).map(|n| format!("{n}\n")).collect();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), out);
}

#[test]
fn what_no_snapshot_covers_yet_is_held_when_one_could_not_be_stored() {
    let (none, mut chunks, buffer) = (Printed::default(), Chunks::new(), OutputBuffer::default());
    let former = Former::new([None; 2], false, &none);
    let exactly_once = Delivery { mode: Mode::ExactlyOnce, from: None };
    let sinks = [Sink::Other(Box::new(buffer.clone())), Sink::Null];
    let (ledger, _) = go_on_with(sinks, former, &chunks, exactly_once);
    let mut whole = vec![];
    for (round, len) in [20_000, 9000, 30_000].into_iter().enumerate() {
        ledger.output(0).write(&text(len, round as u8)).unwrap();
        whole.extend_from_slice(&text(len, round as u8));
        if round != 1 {
            assert!(ledger.capture(&mut |_, _| anyhow::bail!("the store is away")).is_err());
            ledger.undo();
            ledger.deliver(&|| false).unwrap();
            assert_eq!(buffer.contents().len(), if round == 0 { 0 } else { 29_000 });
            if round == 0 {
                continue;
            }
        }
        let printed = capture(&ledger, &mut chunks);
        ledger.deliver(&|| false).unwrap();
        assert_eq!(kept(&printed, 0, &chunks), whole, "round {round}");
        assert_eq!(buffer.contents(), whole, "round {round}");
    }
}

#[test]
fn what_is_kept_has_no_gap_when_more_may_be_kept_later() {
    let mut chunks = Chunks::new();
    let (none, empty) = (Printed::default(), Chunks::new());
    let open = |printed: &Printed, keep, chunks: &Chunks| {
        Ledger::open([Sink::Null, Sink::Null], printed, keep, Arc::default(), &mut fetch(chunks)).unwrap()
    };
    let ledger = open(&none, 5000, &empty);
    ledger.output(0).write(&text(12_000, 1)).unwrap();
    let printed = capture(&ledger, &mut chunks);
    let ledger = open(&printed, 1 << 20, &chunks);
    ledger.output(0).write(b"behind the gap").unwrap();
    let printed = capture(&ledger, &mut chunks);
    assert_eq!((printed.streams[0].written, printed.streams[0].kept), (12_014, 5000));
    assert_eq!(kept(&printed, 0, &chunks), text(5000, 1));
}

#[test]
fn a_file_that_misses_what_was_not_kept_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let mut chunks = Chunks::new();
    let ledger = ledger([Sink::Null, Sink::Null], 4);
    ledger.output(0).write(b"012345").unwrap();
    let mut printed = capture(&ledger, &mut chunks);
    let mut files = [None; 2];
    for (now, clean) in [("67", false), ("8", true), ("9", false)] {
        let former = Former::new(files, clean, &printed);
        let (ledger, sinks) = go_on([Sink::File(open(&path)), Sink::Null], former, &chunks);
        ledger.output(0).write(now.as_bytes()).unwrap();
        printed = capture(&ledger, &mut chunks);
        if now != "67" {
            ledger.output(0).write(b"not covered").unwrap();
        }
        files = sinks;
    }
    let former = Former::new(files, false, &printed);
    go_on([Sink::File(open(&path)), Sink::Null], former, &chunks);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "01236789");
}

#[test]
fn a_state_cannot_have_printed_more_than_can_be_counted() {
    let state = |written: [u64; 2], runs: &[u64]| {
        let mut printed = Printed { runs: runs.to_vec(), ..Printed::default() };
        (printed.streams[0].written, printed.streams[1].written) = (written[0], written[1]);
        let mut state = crate::snapshot::testing::state(&mut crate::snapshot::testing::Random::new(1));
        state.sections.retain(|section| section.name != "output");
        printed.add_to(&mut state).unwrap();
        Printed::of_state(&state)
    };
    assert!(state([5, 7], &[5, 7]).is_ok());
    for (written, runs) in [
        ([u64::MAX, 0], &[1][..]),
        ([1, u64::MAX], &[1]),
        ([1 << 40, 1 << 40], &[1 << 41]),
        ([1 << 40, 1 << 40], &[0, u64::MAX, 0, 2]),
    ] {
        assert!(state(written, runs).is_err(), "{written:?} {runs:?}");
    }
}

/// What a file holds after a run that printed `0123456789`, of which a snapshot covers `covered` bytes, and one that
/// goes on after `meanwhile` was done to the file.
fn continued(before: &str, covered: usize, clean: bool, meanwhile: impl Fn(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    std::fs::write(&path, before).unwrap();
    let (none, mut chunks) = (Printed::default(), Chunks::new());
    let former = Former::new([None; 2], false, &none);
    let (ledger, files) = go_on([Sink::File(open(&path)), Sink::Null], former, &chunks);
    ledger.output(0).write(&b"0123456789"[..covered]).unwrap();
    let printed = capture(&ledger, &mut chunks);
    if !clean {
        ledger.output(0).write(&b"0123456789"[covered..]).unwrap();
    }
    meanwhile(&path);
    let former = Former::new(files, clean, &printed);
    let (ledger, _) = go_on([Sink::File(open(&path)), Sink::Null], former, &chunks);
    ledger.output(0).write(&b"0123456789"[covered..]).unwrap();
    std::fs::read_to_string(&path).unwrap()
}

#[test]
fn a_file_is_continued_from_whatever_it_has_become() {
    let nothing = |_: &Path| {};
    for covered in [0, 1, 5, 10] {
        assert_eq!(continued("", covered, false, nothing), "0123456789");
        assert_eq!(continued("head ", covered, false, nothing), "head 0123456789");
        assert_eq!(continued("head ", covered, true, nothing), "head 0123456789");
        let emptied = |path: &Path| std::fs::write(path, "").unwrap();
        assert_eq!(continued("head ", covered, false, emptied), "0123456789");
        let begun_anew = |path: &Path| std::fs::write(path, "head ").unwrap();
        assert_eq!(continued("head ", covered, false, begun_anew), "head 0123456789");
        let half_replayed = |path: &Path| std::fs::write(path, "head 0").unwrap();
        assert_eq!(continued("head ", covered, false, half_replayed), "head 0123456789");
        let replaced = |path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, "a file of others ").unwrap();
        };
        // Also where the inode is used again at once.
        assert_eq!(continued("head ", covered, false, replaced), "a file of others 0123456789");
    }
    let appended = |path: &Path| open(path).write_all(b" others ").unwrap();
    assert_eq!(continued("", 5, true, appended), "01234 others 56789");
}

#[test]
fn without_append_the_offset_is_what_the_next_writer_shares() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"head ").unwrap();
    let (none, mut chunks) = (Printed::default(), Chunks::new());
    let former = Former::new([None; 2], false, &none);
    let sinks = |file: &File| [Sink::File(file.try_clone().unwrap()), Sink::Null];
    let (ledger, files) = go_on(sinks(&file), former, &chunks);
    ledger.output(0).write(b"01234").unwrap();
    let printed = capture(&ledger, &mut chunks);
    ledger.output(0).write(b"567").unwrap();
    let former = Former::new(files, false, &printed);
    let (ledger, _) = go_on(sinks(&file), former, &chunks);
    ledger.output(0).write(b"56789").unwrap();
    file.write_all(b" tail").unwrap();
    let mut found = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut found).unwrap();
    assert_eq!(found, "head 0123456789 tail");
}

#[test]
fn other_sinks_get_everything_from_the_start() {
    let (none, mut chunks) = (Printed::default(), Chunks::new());
    let former = Former::new([None; 2], false, &none);
    let (ledger, files) = go_on([Sink::Null, Sink::Null], former, &chunks);
    ledger.output(0).write(&text(10_000, 9)).unwrap();
    let printed = capture(&ledger, &mut chunks);
    let buffer = OutputBuffer::default();
    let former = Former::new(files, false, &printed);
    let (ledger, _) = go_on([Sink::Other(Box::new(buffer.clone())), Sink::Null], former, &chunks);
    ledger.output(0).write(b"end").unwrap();
    assert_eq!(buffer.contents(), [text(10_000, 9), b"end".to_vec()].concat());
}

#[test]
fn a_part_is_read_as_it_is_in_the_whole_and_without_the_rest() {
    let ledger = ledger([Sink::Null, Sink::Null], u64::MAX);
    let (mut chunks, mut streams, mut in_order) = (Chunks::new(), [vec![], vec![]], vec![]);
    for round in 0..60_usize {
        let (stream, part) = (usize::from(round % 3 == 1), text(round * 977 % 9000, round as u8));
        ledger.output(stream).write(&part).unwrap();
        streams[stream].extend_from_slice(&part);
        in_order.extend(part.iter().map(|byte| (stream, *byte)));
    }
    let printed = capture(&ledger, &mut chunks);
    for (stream, whole) in streams.iter().enumerate() {
        for (from, to) in
            [(0, 0), (0, 1), (4095, 4097), (12_000, 33_000), (5000, usize::MAX), (1 << 30, 1 << 31)]
        {
            let (mut found, mut fetched) = (vec![], 0);
            let mut counted = |id| {
                fetched += 1;
                fetch(&chunks)(id)
            };
            let mut take = |bytes: &[u8]| {
                found.extend_from_slice(bytes);
                Ok(())
            };
            printed.read_range(stream, from as u64..to as u64, &mut counted, &mut take).unwrap();
            let end = to.min(whole.len());
            assert!(found == whole[from.min(end)..end], "{from} to {to} of {stream}");
            assert!(fetched <= found.len() / 4096 * 2 + 12, "{fetched} chunks for {} bytes", found.len());
        }
    }
    for from in [[0, 0], [1, 0], [50_000, 7], [0, u64::MAX], [u64::MAX, 0]] {
        let (mut found, mut seen) = (vec![], [0, 0]);
        printed
            .read_in_order(from, &mut fetch(&chunks), &mut |stream, bytes| {
                found.extend(bytes.iter().map(|byte| (stream, *byte)));
                Ok(())
            })
            .unwrap();
        let behind = |(stream, _): &&(usize, u8)| {
            seen[*stream] += 1;
            seen[*stream] > from[*stream]
        };
        assert!(found == in_order.iter().filter(behind).copied().collect::<Vec<_>>(), "from {from:?}");
    }
}
