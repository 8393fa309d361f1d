//! What every store must do, as one suite that all of them run.
//!
//! Panics, with what differs, where a store does not conform.

use std::sync::Barrier;
use std::thread;

use super::{Created, Key, Sharing, Store, StoreError};

/// Callers that race in [`Store::create`].
const RACERS: usize = 16;

/// Runs the whole suite on a store, below a prefix of its own, and removes what it has made.
pub fn all(s: &dyn Store) {
    let names = Names::new();
    put_then_get(s, &names);
    missing_is_not_found(s, &names);
    put_twice_is_the_last(s, &names);
    create_has_one_winner(s, &names);
    create_never_replaces(s, &names);
    ranges_at_the_edges(s, &names);
    limits_are_kept(s, &names);
    list_is_sorted_and_by_prefix(s, &names);
    hashed_names_are_found(s, &names);
    delete_removes(s, &names);
    uploads_appear_at_commit(s, &names);
    big_upload(s, &names);
    puts_are_never_seen_in_part(s, &names);
    leases_exclude_and_end(s, &names);
    hostile_keys_are_refused();
    for key in s.list(&names.0).unwrap() {
        s.delete(&key).unwrap();
    }
    assert_eq!(s.list(&names.0).unwrap(), []);
}

/// Keys of one run: remote stores may hold those of others.
struct Names(String);

impl Names {
    fn new() -> Self {
        Self(format!("conformance/{:016x}/", getrandom::u64().unwrap()))
    }

    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}{name}", self.0)).unwrap()
    }
}

fn put_then_get(s: &dyn Store, n: &Names) {
    for (name, bytes) in [("put/empty", vec![]), ("put/some", b"some".to_vec()), ("put/more", noise(300_000))]
    {
        let key = n.key(name);
        s.put(&key, &bytes).unwrap();
        assert!(s.get(&key).unwrap() == bytes, "{key} is not what was put");
        assert_eq!(s.size(&key).unwrap(), bytes.len() as u64);
    }
}

fn missing_is_not_found(s: &dyn Store, n: &Names) {
    s.put(&n.key("missing/dir/object"), b"x").unwrap();
    // Also what is a directory in some stores, or would be below an object.
    for name in ["missing/none", "missing/dir", "missing/dir/object/below"] {
        let key = n.key(name);
        assert!(matches!(s.get(&key), Err(StoreError::NotFound { .. })), "get {key}");
        assert!(matches!(s.size(&key), Err(StoreError::NotFound { .. })), "size of {key}");
        assert!(matches!(s.get_range(&key, 0..1), Err(StoreError::NotFound { .. })), "range of {key}");
        assert!(matches!(s.get_at_most(&key, 9), Err(StoreError::NotFound { .. })), "get_at_most {key}");
        assert!(matches!(s.read_at(&key, 0, &mut [0]), Err(StoreError::NotFound { .. })), "read_at {key}");
        assert!(matches!(s.get_end(&key, 1), Err(StoreError::NotFound { .. })), "end of {key}");
    }
}

fn put_twice_is_the_last(s: &dyn Store, n: &Names) {
    let key = n.key("twice");
    s.put(&key, b"same").unwrap();
    s.put(&key, b"same").unwrap();
    assert_eq!(s.get(&key).unwrap(), b"same");
    s.put(&key, b"a longer one").unwrap();
    assert_eq!(s.get(&key).unwrap(), b"a longer one");
}

fn create_has_one_winner(s: &dyn Store, n: &Names) {
    for round in 0..4 {
        let key = n.key(&format!("log/{round:08}"));
        let start = Barrier::new(RACERS);
        let results: Vec<(String, Created)> = thread::scope(|scope| {
            let race = |i: usize| {
                let (key, start) = (&key, &start);
                scope.spawn(move || {
                    let record = format!("record of {i}");
                    start.wait();
                    let created = s.create(key, record.as_bytes()).unwrap();
                    // Whoever has lost can read the winner's record at once.
                    assert!(s.get(key).unwrap().starts_with(b"record of "));
                    (record, created)
                })
            };
            let racers: Vec<_> = (0..RACERS).map(race).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<_> = results.iter().filter(|(_, created)| *created == Created::Yes).collect();
        assert_eq!(winners.len(), 1, "of {RACERS} racers these won: {winners:?}");
        assert_eq!(s.get(&key).unwrap(), winners[0].0.as_bytes());
    }
}

fn create_never_replaces(s: &dyn Store, n: &Names) {
    let key = n.key("created");
    assert_eq!(s.create(&key, b"first").unwrap(), Created::Yes);
    assert_eq!(s.create(&key, b"second").unwrap(), Created::Exists);
    assert_eq!(s.create(&key, b"first").unwrap(), Created::Exists);
    assert_eq!(s.get(&key).unwrap(), b"first");
    s.delete(&key).unwrap();
    assert_eq!(s.create(&key, b"third").unwrap(), Created::Yes);
    assert_eq!(s.get(&key).unwrap(), b"third");
}

fn ranges_at_the_edges(s: &dyn Store, n: &Names) {
    let key = n.key("range");
    s.put(&key, b"0123456789").unwrap();
    for (range, wanted) in
        [(0..10, "0123456789"), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (0..0, ""), (10..10, "")]
    {
        assert_eq!(s.get_range(&key, range.clone()).unwrap(), wanted.as_bytes(), "{range:?}");
        let mut into = vec![0; wanted.len()];
        s.read_at(&key, range.start, &mut into).unwrap();
        assert_eq!(into, wanted.as_bytes(), "{range:?}");
    }
    for (max, wanted) in [(0, ""), (1, "9"), (10, "0123456789"), (u64::MAX, "0123456789")] {
        assert_eq!(s.get_end(&key, max).unwrap(), (10, wanted.as_bytes().to_vec()), "the last {max}");
    }
    for start in [1, 10, 11, u64::MAX] {
        let got = s.read_at(&key, start, &mut [0; 10]);
        assert!(matches!(got, Err(StoreError::Corrupt { .. })), "from {start} on: {got:?}");
    }
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..11, 10..11, 11..12, 11..11, 7..3, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        let got = s.get_range(&key, range.clone());
        assert!(matches!(got, Err(StoreError::Corrupt { .. })), "{range:?} gave {got:?}");
    }
}

fn limits_are_kept(s: &dyn Store, n: &Names) {
    let key = n.key("limit");
    s.put(&key, b"0123456789").unwrap();
    assert_eq!(s.get_at_most(&key, 10).unwrap(), b"0123456789");
    let refused = s.get_at_most(&key, 9);
    assert!(matches!(refused, Err(StoreError::TooLarge { len: 10, max: 9, .. })), "{refused:?}");
}

fn list_is_sorted_and_by_prefix(s: &dyn Store, n: &Names) {
    let names =
        ["list/b/00000002", "list/b/00000010", "list/a", "list/b-c", "list/b.d/x", "list/bb", "list/B"];
    for name in names {
        s.put(&n.key(name), b"x").unwrap();
    }
    let all = ["list/B", "list/a", "list/b-c", "list/b.d/x", "list/b/00000002", "list/b/00000010", "list/bb"];
    let cases: [(&str, &[&str]); 7] = [
        ("list/", &all),
        ("list", &all),
        ("list/b", &all[2..]),
        ("list/b/", &all[4..6]),
        ("list/b/0000001", &all[5..6]),
        ("list/c", &[]),
        ("list/a/", &[]),
    ];
    for (prefix, wanted) in cases {
        let wanted: Vec<Key> = wanted.iter().map(|name| n.key(name)).collect();
        assert_eq!(s.list(&format!("{}{prefix}", n.0)).unwrap(), wanted, "prefix {prefix}");
    }
    let everything = s.list("").unwrap();
    assert!(everything.contains(&n.key("list/a")));
    assert!(everything.is_sorted());
    for prefix in ["", "list/", "list/b", "list/none/", "none"] {
        s.settle(&format!("{}{prefix}", n.0)).unwrap();
    }
    assert_eq!(s.list(&format!("{}none", n.0)).unwrap(), []);
    assert!(matches!(s.list("../"), Err(StoreError::BadKey { .. })));
    assert!(matches!(s.settle("../"), Err(StoreError::BadKey { .. })));
}

/// Stores may spread objects named by a hash over directories of their own; that must not show.
fn hashed_names_are_found(s: &dyn Store, n: &Names) {
    let mut keys: Vec<Key> =
        (0..20u8).map(|i| n.key(&format!("hashed/{}", blake3::hash(&[i]).to_hex()))).collect();
    for key in &keys {
        s.put(key, key.name().as_bytes()).unwrap();
    }
    keys.sort_unstable();
    assert_eq!(s.list(&format!("{}hashed/", n.0)).unwrap(), keys);
    let prefix = &keys[0].as_str()[..n.0.len() + 10];
    assert!(s.list(prefix).unwrap().contains(&keys[0]), "prefix {prefix}");
    for key in &keys {
        assert_eq!(s.get(key).unwrap(), key.name().as_bytes());
    }
}

fn delete_removes(s: &dyn Store, n: &Names) {
    let (gone, stays) = (n.key("delete/deep/er/gone"), n.key("delete/stays"));
    s.put(&gone, b"x").unwrap();
    s.put(&stays, b"x").unwrap();
    s.delete(&gone).unwrap();
    s.delete(&gone).unwrap();
    s.delete(&n.key("delete/never/was")).unwrap();
    assert!(matches!(s.get(&gone), Err(StoreError::NotFound { .. })));
    assert_eq!(s.list(&n.key("delete").to_string()).unwrap(), [stays]);
    s.put(&gone, b"again").unwrap();
    assert_eq!(s.get(&gone).unwrap(), b"again");
}

fn uploads_appear_at_commit(s: &dyn Store, n: &Names) {
    let (key, dropped) = (n.key("upload/done"), n.key("upload/dropped"));
    let before = s.list(&n.0).unwrap();
    let mut upload = s.upload().unwrap();
    upload.write(b"one ").unwrap();
    upload.write(b"").unwrap();
    upload.write(b"two").unwrap();
    assert_eq!(s.list(&n.0).unwrap(), before);
    upload.commit(&key).unwrap();
    assert_eq!(s.get(&key).unwrap(), b"one two");

    let mut upload = s.upload().unwrap();
    upload.write(b"never seen").unwrap();
    drop(upload);
    assert!(matches!(s.get(&dropped), Err(StoreError::NotFound { .. })));

    s.upload().unwrap().commit(&n.key("upload/empty")).unwrap();
    assert_eq!(s.size(&n.key("upload/empty")).unwrap(), 0);

    let mut upload = s.upload().unwrap();
    upload.write(b"anew").unwrap();
    upload.commit(&key).unwrap();
    assert_eq!(s.get(&key).unwrap(), b"anew");
}

/// Beyond the size of a part of a multipart upload, and of a block.
fn big_upload(s: &dyn Store, n: &Names) {
    let (key, piece) = (n.key("upload/big"), noise(1 << 20));
    let mut upload = s.upload().unwrap();
    let pieces = 24;
    for i in 0..pieces {
        upload.write(&piece[i..]).unwrap();
    }
    upload.commit(&key).unwrap();
    let len: usize = (0..pieces).map(|i| piece.len() - i).sum();
    assert_eq!(s.size(&key).unwrap(), len as u64);
    let end = s.get_range(&key, len as u64 - 1000..len as u64).unwrap();
    assert!(end == piece[piece.len() - 1000..], "the end of a big object is not what was written");
    let whole = s.get(&key).unwrap();
    assert!(
        whole[piece.len()..][..1000] == piece[1..][..1000],
        "the second piece is not where it was written"
    );
}

fn puts_are_never_seen_in_part(s: &dyn Store, n: &Names) {
    let key = n.key("whole");
    let (old, new) = (vec![b'o'; 200_000], vec![b'n'; 300_000]);
    s.put(&key, &old).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..5 {
                s.put(&key, &new).unwrap();
                s.put(&key, &old).unwrap();
            }
        });
        while !writer.is_finished() {
            let seen = s.get(&key).unwrap();
            assert!(seen == old || seen == new, "an object of {} bytes was seen in part", seen.len());
        }
    });
}

fn leases_exclude_and_end(s: &dyn Store, n: &Names) {
    let key = n.key("lease/a");
    let refused = |sharing, why: &str| match s.lease(&key, sharing) {
        Err(StoreError::Held { .. }) => {}
        Err(other) => panic!("{why}: {other}"),
        Ok(_) => panic!("{why}, and yet the lease was given"),
    };
    let held = s.hold(&key).unwrap();
    refused(Sharing::Exclusive, "held exclusively");
    refused(Sharing::Shared, "held exclusively");
    let other = s.hold(&n.key("lease/b")).unwrap();
    drop(held);
    drop(s.hold(&key).expect("free again"));

    let (one, two) = (s.lease(&key, Sharing::Shared).unwrap(), s.lease(&key, Sharing::Shared).unwrap());
    refused(Sharing::Exclusive, "held by two sharers");
    drop(one);
    refused(Sharing::Exclusive, "held by one sharer");
    drop(two);
    drop(s.hold(&key).expect("free again"));
    drop(other);

    // Of many at once one gets it, each time.
    let holders = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    if let Ok(held) = s.hold(&key) {
                        assert_eq!(
                            holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
                            0,
                            "two holders"
                        );
                        thread::yield_now();
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                }
            });
        }
    });
    assert!(!s.list(&n.0).unwrap().contains(&key), "a lease is not an object");
}

fn hostile_keys_are_refused() {
    for key in
        ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\0b", "", "a//b", "a/./b", "C:\\x", ".hidden"]
    {
        assert!(matches!(Key::new(key), Err(StoreError::BadKey { .. })), "{key:?}");
    }
}

/// Bytes that do not compress, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}
