//! The store in Cassandra, on a real one: see `servers/cassandra.sh`. Or on the one at `WASM_CKPT_TEST_CASSANDRA`, such as
//! `cassandra://HOST/KEYSPACE/PREFIX`, but for the test that kills it.
#![cfg(feature = "cassandra")]

mod tool;

use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tool::server::Server;
use tool::service;
use tool::store::{child as child_process, key, noise, task, wait_for, won_by};
use wasm_ckpt::store::remote::Remote;
use wasm_ckpt::store::remote::cassandra::{Cassandra, Config};
use wasm_ckpt::store::{Created, Key, Store, StoreError, conformance};

/// Starts it in this directory; nothing if it cannot be had.
fn start(dir: &Path, remove_after: bool) -> Option<(Server, Config)> {
    let env: &[_] = if remove_after { &[("REMOVE_AFTER", "1")] } else { &[] };
    let server = Server::start_with("cassandra", dir, env)?;
    let replication = Some(server.variable("CASSANDRA_REPLICATION").to_string());
    let config = Config { replication, ..Config::from_url(&server.url).unwrap() };
    Some((server, config))
}

/// The Cassandra that most tests share.
fn shared() -> Option<Config> {
    static SERVER: OnceLock<Option<(Server, Config)>> = OnceLock::new();
    if let Some(url) = std::env::var_os("WASM_CKPT_TEST_CASSANDRA") {
        return Some(Config::from_url(url.to_str().unwrap()).unwrap());
    }
    // Nobody drops what is static: the server itself sees that this process has ended.
    let start = || start(&tempfile::tempdir().unwrap().keep(), true);
    let (_, config) = SERVER.get_or_init(start).as_ref()?;
    // The first to connect makes the tables.
    static TABLES: OnceLock<()> = OnceLock::new();
    TABLES.get_or_init(|| drop(Cassandra::connect(config).unwrap()));
    Some(config.clone())
}

fn open(config: &Config) -> Remote {
    Remote::new(Arc::new(Cassandra::connect(config).unwrap())).unwrap()
}

/// A store of a test's own; nothing if there is no Cassandra.
fn store(name: &str) -> Option<(Config, Remote)> {
    let shared = shared()?;
    let config =
        Config { prefix: format!("{}{name}-{:08x}", shared.prefix, getrandom::u32().unwrap()), ..shared };
    let store = open(&config);
    Some((config, store))
}

/// As another process.
fn spawn(task: &str, config: &Config) -> Child {
    child_process(task, &config.address(), &[])
}

/// What another process does; nothing when the tests are run.
#[test]
fn child() {
    let Some((task, url)) = task() else { return };
    let store = open(&Config::from_url(&url).unwrap());
    match task.as_str() {
        "race" => {
            for n in 0..25 {
                let me = std::process::id().to_le_bytes();
                let created = store.create(&key(&format!("log/{n}")), &me).unwrap();
                println!("\n{n} {}", created == Created::Yes);
            }
        }
        "upload" => {
            let mut upload = store.upload().unwrap();
            upload.write(&noise(0, 9 << 20)).unwrap();
            println!("\nhalf of it");
            thread::sleep(Duration::from_secs(600));
        }
        "puts" => {
            println!("\nbegun");
            for n in 0.. {
                store.put(&key("killed/put"), &vec![n as u8; (1 << 20) + n]).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

#[test]
fn conforms() {
    let Some((_, store)) = store("conforms") else { return };
    conformance::all(&store);
}

#[test]
fn of_many_threads_one_creates() {
    let Some((config, store)) = store("threads") else { return };
    // Each with a connection of its own, as other machines have.
    let others: Vec<_> = (0..4).map(|_| open(&config)).collect();
    for round in 0..5 {
        // Some of them too big for a row.
        let (key, start) = (key(&format!("log/{round:08}")), Barrier::new(16));
        let record = |i: usize| noise(i as u64, if round % 2 == 0 { 100 } else { 600_000 });
        let won: Vec<usize> = thread::scope(|scope| {
            let race = |i: usize| {
                let (key, start, store) = (&key, &start, &others[i % 4]);
                scope.spawn(move || {
                    start.wait();
                    let created = store.create(key, &record(i)).unwrap();
                    (created == Created::Yes).then_some(i)
                })
            };
            let racers: Vec<_> = (0..16).map(race).collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(won.len(), 1, "{won:?}");
        assert!(store.get(&key).unwrap() == record(won[0]));
    }
}

#[test]
fn of_several_processes_one_creates() {
    let Some((config, _)) = store("processes") else { return };
    let children: Vec<_> = (0..4).map(|_| spawn("race", &config)).collect();
    let mut won: Vec<_> = won_by(children).into_iter().map(|(n, _)| n).collect();
    assert_eq!(won.len(), 25, "{won:?}");
    won.dedup();
    assert_eq!(won.len(), 25, "{won:?}");
}

/// Also tells how long things take; see it with `--nocapture`.
#[test]
fn big_objects() {
    let Some((_, store)) = store("big") else { return };
    let timed = |what: &str, times: u32, act: &mut dyn FnMut(u32)| {
        let begun = Instant::now();
        (0..times).for_each(act);
        println!("{what}: {:?}", begun.elapsed() / times);
    };
    timed("small put", 50, &mut |n| store.put(&key(&format!("small/put/{n}")), b"some bytes").unwrap());
    timed("create", 50, &mut |n| {
        assert_eq!(store.create(&key(&format!("small/log/{n}")), b"some bytes").unwrap(), Created::Yes);
    });
    timed("small get", 50, &mut |n| drop(store.get(&key(&format!("small/put/{n}"))).unwrap()));
    let (big, len) = (key("packs/big"), 70_000_000);
    let bytes = noise(1, len);
    timed("upload of 70 MB", 1, &mut |_| {
        let mut upload = store.upload().unwrap();
        for piece in bytes.chunks(1_000_003) {
            upload.write(piece).unwrap();
        }
        upload.commit(&big).unwrap();
    });
    assert_eq!(store.size(&big).unwrap(), len as u64);
    timed("whole get of 70 MB", 1, &mut |_| assert!(store.get(&big).unwrap() == bytes));
    timed("64 KiB range", 50, &mut |n| {
        let start = n as usize * 1_300_007;
        let got = store.get_range(&big, start as u64..start as u64 + 65536).unwrap();
        assert!(got == bytes[start..start + 65536]);
    });
    let part = 512 << 10;
    for range in [
        0..1,
        part - 1..part + 1,
        part..2 * part,
        3 * part + 5..9 * part - 5,
        len - 1..len,
        part..part,
        len..len,
    ] {
        let got = store.get_range(&big, range.start as u64..range.end as u64).unwrap();
        assert!(got == bytes[range.clone()], "{range:?}");
    }
    let (size, end) = store.get_end(&big, 1 << 20).unwrap();
    assert!(size == len as u64 && end == bytes[len - (1 << 20)..]);
    // At the edges of what is in one row, and of a part.
    for len in [4095, 4096, 4097, part - 1, part, part + 1, 8 * part, 8 * part + 1] {
        store.put(&key("edge"), &bytes[..len]).unwrap();
        assert!(store.get(&key("edge")).unwrap() == bytes[..len], "{len}");
    }
    timed("removal of 70 MB", 1, &mut |_| store.delete(&big).unwrap());
    assert!(matches!(store.get(&big), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_killed_writer_leaves_no_part() {
    let Some((config, store)) = store("killed") else { return };
    let mut child = spawn("upload", &config);
    wait_for(&mut child, "half of it");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.list("").unwrap(), []);
    for round in 0..6u64 {
        let mut child = spawn("puts", &config);
        wait_for(&mut child, "begun");
        thread::sleep(Duration::from_millis(30 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        match store.get(&key("killed/put")) {
            Ok(bytes) => assert!(bytes.iter().all(|b| *b == (bytes.len() - (1 << 20)) as u8), "it is mixed"),
            Err(StoreError::NotFound { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    store.put(&key("killed/put"), b"after them").unwrap();
    assert_eq!(store.get(&key("killed/put")).unwrap(), b"after them");
}

#[test]
fn listings_of_more_than_a_page() {
    let Some((_, store)) = store("many") else { return };
    let mut keys: Vec<Key> = (0..1300).map(|n| key(&format!("packs/{:08x}", n * 7919))).collect();
    keys.extend((0..200).map(|n| key(&format!("jobs/job-{n:03}/log/{:08}", n % 3))));
    // Not by many: those that write in one directory wait for each other.
    thread::scope(|scope| {
        for some in keys.chunks(keys.len().div_ceil(3)) {
            let store = &store;
            scope.spawn(move || some.iter().for_each(|key| store.put(key, b"x").unwrap()));
        }
    });
    keys.sort_unstable();
    let begun = Instant::now();
    assert_eq!(store.list("").unwrap(), keys);
    println!("1500 keys in 400 directories listed in {:?}", begun.elapsed());
    assert_eq!(store.list("packs/").unwrap().len(), 1300);
    assert_eq!(store.list("jobs/job-00").unwrap().len(), 10);
    assert_eq!(store.list("jobs/job-007/log/").unwrap(), [key("jobs/job-007/log/00000001")]);
    assert_eq!(store.names("").unwrap(), ["jobs", "packs"]);
    store.delete(&key("jobs/job-100/log/00000001")).unwrap();
    let begun = Instant::now();
    let names = store.names("jobs/").unwrap();
    println!("names of 200 directories in {:?}", begun.elapsed());
    assert!(names.len() == 199 && names.is_sorted() && !names.contains(&"job-100".to_string()));
}

/// The message and its cause.
fn said(error: &StoreError) -> String {
    format!("{error}: {}", std::error::Error::source(error).map_or(String::new(), ToString::to_string))
}

#[test]
fn what_does_not_answer_is_said_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for url in [
        format!("cassandra://127.0.0.1:{port}/k"),
        "cassandra://127.0.0.1:1/k".into(),
        "cassandra://no.invalid/k".into(),
    ] {
        let begun = Instant::now();
        let error = Cassandra::connect(&Config::from_url(&url).unwrap()).err().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert!(matches!(error, StoreError::Io { .. }) && said(&error).contains("check"), "{}", said(&error));
        println!("{}", said(&error));
    }
}

#[test]
fn a_missing_keyspace_is_not_made_unasked() {
    let Some(config) = shared() else { return };
    let config = Config { keyspace: "is_not_there".into(), replication: None, ..config };
    let error = Cassandra::connect(&config).err().unwrap();
    assert!(said(&error).contains("CREATE KEYSPACE IF NOT EXISTS \"is_not_there\""), "{}", said(&error));
    println!("{}", said(&error));
}

#[test]
fn a_killed_server_has_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let Some((server, config)) = start(dir.path(), false) else { return };
    let config = Config { patience: Duration::from_secs(3), ..config };
    let store = open(&config);
    let big = noise(2, 3_000_000);
    store.put(&key("packs/big"), &big).unwrap();
    for n in 0..50 {
        store.create(&key(&format!("log/{n:02}")), b"record").unwrap();
    }
    // In the very moment of its acknowledgement.
    drop(server);

    let begun = Instant::now();
    for error in [store.get(&key("packs/big")).err(), store.create(&key("log/50"), b"record").err()] {
        let error = error.expect("it is down");
        assert!(
            matches!(error, StoreError::Io { .. }) && said(&error).contains("127.0.0.1"),
            "{}",
            said(&error)
        );
        println!("{}", said(&error));
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    let _server = start(dir.path(), false).expect("it has started before");
    // The connection finds it by itself, in some seconds.
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = store.size(&key("packs/big")) {
        assert!(matches!(error, StoreError::Io { .. }) && Instant::now() < end, "{}", said(&error));
    }
    assert!(store.get(&key("packs/big")).unwrap() == big);
    let log = store.list("log/").unwrap();
    assert!(log.len() == 50 || log.len() == 51, "{}", log.len());
    assert_eq!(store.create(&key("log/49"), b"other").unwrap(), Created::Exists);
    assert_eq!(store.create(&key("log/51"), b"record").unwrap(), Created::Yes);
}

#[test]
fn jobs_survive() {
    let Some((config, _)) = store("jobs") else { return };
    service::jobs_survive(&service::on(&config.address(), &[]));
}
