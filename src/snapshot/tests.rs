//! Tests of the manifest: round trips, damage, hostile bytes.

use super::encode::{HEADER, to_bytes};
use super::frozen::format_1 as sample;
use super::testing::{Random, state, value};
use super::*;
use crate::digest::SnapshotId;

/// The manifest of a body that `encode` may refuse to write.
fn manifest(body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u64).to_le_bytes();
    [&MAGIC[..], &FORMAT.to_le_bytes(), &len, body].concat()
}

#[test]
fn round_trips_as_postcard_reads_it() {
    let mut random = Random::new(3);
    for n in 0..3000 {
        let state = if n == 0 { sample() } else { state(&mut random) };
        let (id, manifest) = encode(&state).unwrap();
        let decoded = decode(&manifest, Some(id)).unwrap();
        assert_eq!((decoded.id(), decoded.state()), (id, &state));
        // The reader is written by hand; the derived one is the reference.
        let (by_postcard, rest) = postcard::take_from_bytes::<State>(&manifest[HEADER..]).unwrap();
        assert_eq!((by_postcard, rest.len()), (state, 0));
    }
}

#[test]
fn every_truncation_and_bit_flip_is_refused() {
    let (id, good) = encode(&sample()).unwrap();
    for len in 0..good.len() {
        decode(&good[..len], Some(id)).unwrap_err();
        // Without the id as well: the header says how long the snapshot is.
        let error = decode(&good[..len], None).unwrap_err();
        assert!(matches!(error, SnapshotError::WrongLength { .. }), "{error}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(decode(&longer, None), Err(SnapshotError::WrongLength { .. })));
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&flipped, Some(id)).unwrap_err();
        assert!(matches!(error, SnapshotError::WrongId { .. }), "{error}");
        // Without the id it is another snapshot, or none.
        if let Ok(other) = decode(&flipped, None) {
            assert_ne!(other.id(), id);
            assert_ne!(other.state(), &sample());
        }
    }
}

#[test]
fn the_header_is_checked_in_order() {
    let (_, good) = encode(&sample()).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        decode(&bad, None).unwrap_err().to_string()
    };
    assert_eq!(with(0, b"\x7fELF"), r"not a snapshot: it begins with `\x7fELFCKPT`");
    assert_eq!(
        with(8, &[2, 0, 99]),
        "snapshot has format 2, this build reads up to 1; use a newer build",
        "before the length is looked at"
    );
    assert_eq!(with(8, &[0, 0]), "snapshot has format 0, which does not exist");
    assert!(with(10, &[255; 8]).contains("should be 18446744073709551615 bytes long"));
    let big = vec![0; limits::MANIFEST_MAX as usize + 1];
    assert!(matches!(decode(&big, None), Err(SnapshotError::TooLarge { .. })));
}

/// What breaks a rule is refused by the writer, and by the reader when another writer let it pass.
#[test]
fn every_rule_is_kept_by_both_sides() {
    let deep = |depth| {
        (0..depth)
            .fold(Value::Null, |inner, _| Value::Exn(Some(Box::new(Exn { tag: 0, fields: vec![inner] }))))
    };
    type Break = Box<dyn Fn(&mut State)>;
    let frame = |kind| {
        move |s: &mut State| {
            s.frames[1] = Frame { kind, offset: 0, locals: vec![], stack: vec![], func: 1 };
        }
    };
    let import = frame(FrameKind::Import);
    let breaks: Vec<(&str, Break)> = vec![
        ("call.export: 100001, over", Box::new(|s| s.call.export = "x".repeat(100_001))),
        ("call.args: 1001, over", Box::new(|s| s.call.args = vec![Value::Null; 1001])),
        ("frames[0]: all frames but", Box::new(|s| s.frames[0].kind = FrameKind::Loop)),
        ("frames[0]: all frames but", Box::new(|s| s.frames.truncate(1))),
        ("frames[1]: the operand stack", Box::new(|s| s.frames[1].kind = FrameKind::Entry)),
        ("frames[1].locals: not in", Box::new(|s| s.frames[1].locals.reverse())),
        (
            "frames[1]: an import has",
            Box::new(move |s| {
                import(s);
                s.frames[1].offset = 1;
            }),
        ),
        (
            "frames[1]: the arguments",
            Box::new(move |s| {
                import(s);
                s.frames[1].locals = vec![(1, Value::Null)];
            }),
        ),
        ("nested over 64 deep", Box::new(move |s| s.frames[1].stack.push(deep(65)))),
        ("memories[0]: 1099511627777 bytes", Box::new(|s| s.memories[0].len = limits::LEN_MAX + 1)),
        ("memories[0]: no bytes, but a root", Box::new(|s| s.memories[0].len = 0)),
        ("memories: 101, over", Box::new(|s| s.memories = vec![s.memories[1].clone(); 101])),
        ("globals: not in", Box::new(|s| s.globals[1].0 = 0)),
        ("tables: not in", Box::new(|s| s.tables.push(s.tables[0].clone()))),
        ("tables.1: run 1 is empty", Box::new(|s| s.tables[0].runs[1].0 = 0)),
        ("tables.1: run 1 is empty", Box::new(|s| s.tables[0].runs[1].1 = Value::Func(None))),
        ("tables.1: the value of run 0", Box::new(|s| s.tables[0].runs[0].1 = Value::I32(0))),
        ("tables.1: 10000001 elements", Box::new(|s| s.tables[0].runs[0].0 = 9_999_999)),
        ("tables.1: 18446744073709551615 elements", Box::new(|s| s.tables[0].runs[0].0 = u64::MAX)),
        ("dropped_data: not in", Box::new(|s| s.dropped_data[0] = 3)),
        ("dropped_elems: not in", Box::new(|s| s.dropped_elems.push(0))),
        ("dropped_elems: 100001, over", Box::new(|s| s.dropped_elems = (0..100_001).collect())),
        ("sections: not in", Box::new(|s| s.sections.push(s.sections[0].clone()))),
        ("sections: the name \"\"", Box::new(|s| s.sections[0].name.clear())),
        ("blobs: the name \"\\u{1b}\"", Box::new(|s| s.blobs[0].name = "\x1b".to_string())),
        ("blobs: 256, over", Box::new(|s| s.blobs[0].name = "x".repeat(256))),
        ("blobs.stdout: no bytes", Box::new(|s| s.blobs[0].len = 0)),
    ];
    for (expected, break_it) in breaks {
        let mut state = sample();
        break_it(&mut state);
        let written = encode(&state).unwrap_err();
        assert!(matches!(written, SnapshotError::Invalid { .. }), "{written}");
        assert!(written.to_string().contains(expected), "{written}, not {expected}");
        let read = decode(&to_bytes(&state, 0).unwrap(), None).unwrap_err().to_string();
        let reason = expected.split(": ").last().unwrap();
        assert!(read.contains(reason), "{read}, not {reason}");
    }
    let mut state = sample();
    state.frames[1].stack.push(deep(64));
    state.tables[0].runs[0].0 = 9_999_998;
    let (id, bytes) = encode(&state).unwrap();
    assert_eq!(decode(&bytes, Some(id)).unwrap().into_state(), state);
}

#[test]
fn the_values_are_counted_over_the_whole_state() {
    let mut state = sample();
    state.globals.clear();
    state.frames[0].stack = vec![Value::Null; limits::VALUES_MAX as usize];
    let written = encode(&state).unwrap_err().to_string();
    assert_eq!(written, "snapshot is invalid in frames[0].stack: over 8388608 values in all");
    let read = decode(&to_bytes(&state, 0).unwrap(), None).unwrap_err().to_string();
    assert!(read.contains("over 8388608 values in all"), "{read}");
    assert!(read.contains("in frames[0].stack[8388605]"), "{read}");
}

#[test]
fn malformed_bodies_are_refused_with_their_place() {
    let body = to_bytes(&sample(), 0).unwrap()[HEADER..].to_vec();
    let refused = |body: &[u8], reason: &str| {
        let error = decode(&manifest(body), None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}, not {reason}");
    };
    refused(&[], "at byte 18, in identity: 32 bytes wanted, 0 left");
    refused(&[&body[..], &[0]].concat(), "1 bytes behind the state");
    // After the identity (32 + 1 + 1 + 1 bytes) comes the fuel, three bytes long.
    let with = |at: usize, cut: usize, bytes: &[u8]| [&body[..at], bytes, &body[at + cut..]].concat();
    refused(&with(33, 1, &[2]), "2 where 0 or 1 belongs");
    refused(&with(35, 3, &[0xff; 11]), "in fuel: a number of over 64 bits");
    refused(&with(35, 3, &[0xc0, 0x84, 0xbd, 0x00]), "not in canonical form from byte 55 on");
    refused(&with(39, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f]), "in call.export: 4294967295, over the limit");
    refused(&with(40, 1, &[0xff]), "in call.export: text that is not UTF-8");
    refused(&with(46, 1, &[0xe0, 7]), "in call.args: 992 wanted");
    refused(&with(47, 1, &[8]), "in call.args[0]: no kind of value has number 8");
}

/// Exceptions within exceptions, as deep as 128 MiB of manifest can say: the reader must not recurse along.
#[test]
fn nesting_is_bounded_before_it_is_followed() {
    let mut state = sample();
    state.globals = vec![(0, Value::Null)];
    state.tables.clear();
    let bytes = to_bytes(&state, 0).unwrap();
    let at = bytes.windows(3).rposition(|w| w == [1, 0, 7]).unwrap() + 2;
    let mut body = bytes[HEADER..at].to_vec();
    body.extend([6, 1, 0, 1].repeat(1 << 20));
    let error = decode(&manifest(&body), None).unwrap_err().to_string();
    assert!(error.contains("nested over 64 deep"), "{error}");
    assert!(error.contains("in globals[0].fields[0].fields[0]"), "{error}");
}

/// Random damage to random snapshots: an error, or a snapshot in canonical form. Never a panic.
#[test]
fn random_damage_never_panics() {
    let mut random = Random::new(4);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut body = to_bytes(&state(&mut random), 0).unwrap()[HEADER..].to_vec();
        for _ in 0..=random.below(4) {
            damage(&mut body, &mut random);
        }
        let bytes = manifest(&body);
        match decode(&bytes, None) {
            Ok(verified) => {
                accepted += 1;
                assert_eq!(encode(verified.state()), Ok((verified.id(), bytes)));
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
}

fn damage(body: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(body.len() as u64 + 1) as usize;
    match random.below(4) {
        0 => body.truncate(at),
        1 => body.insert(at, random.next() as u8),
        2 => drop(body.splice(at..at, [0xff; 9])),
        _ if at < body.len() => body[at] ^= 1 << random.below(8),
        _ => {}
    }
}

#[test]
fn values_of_all_kinds_have_one_form() {
    let mut random = Random::new(5);
    for _ in 0..1000 {
        let value = value(&mut random, 4);
        let mut state = sample();
        state.call.args = vec![value];
        let (id, bytes) = encode(&state).unwrap();
        assert_eq!(SnapshotId::of(&bytes), id);
        assert_eq!(decode(&bytes, Some(id)).unwrap().state(), &state);
    }
}
