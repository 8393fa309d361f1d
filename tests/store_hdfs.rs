//! The store on HDFS, on a real NameNode and DataNode that are killed and started again.
#![cfg(feature = "hdfs")]

mod tool;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tool::server::Server;
use tool::service;
use tool::store::{child as child_process, key, noise, task, won_by};
use wasm_ckpt::store::remote::Remote;
use wasm_ckpt::store::remote::hdfs::{Config, Hdfs};
use wasm_ckpt::store::{Created, Key, Store, StoreError, conformance};

/// Who owns the store: somebody whom the NameNode does not let do everything.
const USER: &str = "worker";
/// A call that gets no answer has failed after this at the latest.
const BOUND: Duration = Duration::from_secs(50);

/// Bytes whose hash is their beginning, so that a part of them is found out.
fn sealed(n: u64, len: usize) -> Vec<u8> {
    let bytes = noise(n, len);
    [blake3::hash(&bytes).as_bytes(), &bytes[..]].concat()
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() > 32 && *blake3::hash(&bytes[32..]).as_bytes() == bytes[..32]
}

/// Past the test harness, which keeps to itself what a test that passes has to say.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A directory of that user's.
fn dir_of(server: &Server, user: &str, name: &str) -> Config {
    let superuser = server.variable("HDFS_SUPERUSER");
    let config = Config { user: Some(superuser.to_string()), ..Config::from_url(&server.url).unwrap() };
    let client = hdfs_native::sync::ClientBuilder::new().with_url(format!("hdfs://{}", config.authority));
    let client = client.with_user(superuser).build().unwrap();
    let dir = format!("/{name}");
    client.mkdirs(&dir, 0o755, true).unwrap();
    client.set_owner(&dir, Some(user), None).unwrap();
    Config { dir, user: Some(user.to_string()), ..config }
}

fn open(config: &Config) -> Remote {
    Remote::new(Arc::new(Hdfs::connect(config.clone()).unwrap())).unwrap()
}

/// As another process.
fn spawn(task: &str, config: &Config) -> Child {
    let user = ("HADOOP_USER_NAME".to_string(), config.user.clone().unwrap());
    child_process(task, &config.to_string(), &[user])
}

/// What another process does; nothing when the tests are run.
#[test]
fn child() {
    let Some((task, url)) = task() else { return };
    let store = open(&Config::from_url(&url).unwrap());
    println!("\nconnected");
    match task.as_str() {
        "race" => {
            for n in 0..15 {
                let created =
                    store.create(&key(&format!("race/{n}")), &std::process::id().to_le_bytes()).unwrap();
                println!("\n{n} {}", created == Created::Yes);
            }
        }
        "writes" => {
            for n in 0.. {
                store.put(&key("killed/put"), &sealed(n, 9 << 20)).unwrap();
                let mut upload = store.upload().unwrap();
                let bytes = sealed(n, 20 << 20);
                bytes.chunks(1 << 20).for_each(|piece| upload.write(piece).unwrap());
                upload.commit(&key(&format!("killed/upload-{}-{n}", std::process::id()))).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

#[test]
fn on_a_real_server() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start("hdfs", dir.path()) else { return };
    let config = dir_of(&server, USER, "store");
    let store = open(&config);
    figures(&store);
    let timed = |what: &str, part: &dyn Fn()| {
        let begin = Instant::now();
        part();
        say(&format!("  {what}: {:.1?}", begin.elapsed()));
    };
    // Each with keys of its own.
    thread::scope(|scope| {
        scope.spawn(|| timed("conformance", &|| conformance::all(&store)));
        scope.spawn(|| timed("threads", &|| threads_race(&store)));
        scope.spawn(|| timed("processes", &|| processes_race(&config, &store)));
        scope.spawn(|| timed("big upload", &|| a_big_upload_is_read_back(&store)));
        scope.spawn(|| timed("killed writers", &|| a_killed_writer_leaves_no_part(&config, &store)));
        scope.spawn(|| timed("lost answers", &|| a_lost_answer_is_found_out(&config, &store)));
        scope.spawn(|| timed("many keys", &|| many_keys_are_listed(&store)));
        scope.spawn(|| timed("clashes", &|| keys_that_clash_are_refused(&store)));
        scope.spawn(|| timed("permissions", &|| permissions_are_kept(&config, &server, &store)));
    });
    a_server_that_was_away(&mut server, &config, &store);
    let jobs = dir_of(&server, USER, "jobs");
    let user = ("HADOOP_USER_NAME".to_string(), USER.to_string());
    timed("jobs", &|| service::jobs_survive(&service::on(&jobs.to_string(), std::slice::from_ref(&user))));
}

fn figures(store: &dyn Store) {
    let time = |what: &str, times: u32, call: &mut dyn FnMut(u32)| {
        let begin = Instant::now();
        (0..times).for_each(&mut *call);
        say(&format!("  {what}: {:.1?}", begin.elapsed() / times));
    };
    time("put of 1 KiB", 10, &mut |n| store.put(&key(&format!("figures/put-{n}")), &noise(1, 1024)).unwrap());
    time("create of 100 bytes", 10, &mut |n| {
        assert_eq!(store.create(&key(&format!("figures/create-{n}")), &noise(1, 100)).unwrap(), Created::Yes);
    });
    let bytes = noise(2, 64_000_000);
    time("upload of 64 MB", 2, &mut |n| {
        let mut upload = store.upload().unwrap();
        bytes.chunks(1 << 20).for_each(|piece| upload.write(piece).unwrap());
        upload.commit(&key(&format!("figures/big-{n}"))).unwrap();
    });
    time("get of 64 MB", 2, &mut |n| assert!(store.get(&key(&format!("figures/big-{n}"))).unwrap() == bytes));
    time("get of a range of 64 KiB", 20, &mut |n| {
        let at = u64::from(n) * 3_000_000;
        let got = store.get_range(&key("figures/big-0"), at..at + 65536).unwrap();
        assert!(got == bytes[at as usize..][..65536]);
    });
    store.delete_all(&store.list("figures/").unwrap()).unwrap();
    assert_eq!(store.list("figures").unwrap(), []);
}

fn threads_race(store: &dyn Store) {
    let winners = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for me in 0..16u8 {
            let winners = &winners;
            scope.spawn(move || {
                for n in 0..15 {
                    // In directories that are not there yet, too.
                    let key = key(&format!("threads/{}/{n}", n / 3));
                    if store.create(&key, &[me]).unwrap() == Created::Yes {
                        winners.lock().unwrap().push((n, me));
                    }
                }
            });
        }
    });
    let mut winners = winners.into_inner().unwrap();
    winners.sort_unstable();
    assert_eq!(winners.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..15).collect::<Vec<_>>());
    for (n, me) in winners {
        assert_eq!(store.get(&key(&format!("threads/{}/{n}", n / 3))).unwrap(), [me]);
    }
}

fn processes_race(config: &Config, store: &dyn Store) {
    let children: Vec<_> = (0..4).map(|_| spawn("race", config)).collect();
    let mut winners = vec![];
    for (n, id) in won_by(children) {
        assert_eq!(store.get(&key(&format!("race/{n}"))).unwrap(), id.to_le_bytes());
        winners.push(n.parse::<u32>().unwrap());
    }
    winners.sort_unstable();
    assert_eq!(winners, (0..15).collect::<Vec<_>>());
}

/// Of two blocks, and of a length that is no multiple of anything.
fn a_big_upload_is_read_back(store: &dyn Store) {
    let (bytes, key) = (noise(3, (130 << 20) + 12_345), key("big/one"));
    let mut upload = store.upload().unwrap();
    bytes.chunks(3_000_001).for_each(|piece| upload.write(piece).unwrap());
    upload.commit(&key).unwrap();
    assert!(store.get(&key).unwrap() == bytes);
    let len = bytes.len() as u64;
    let block = 128 << 20;
    for range in [0..1, block - 1..block + 1, block..len, (8 << 20) - 5..(24 << 20) + 5, len - 1..len] {
        let wanted = &bytes[range.start as usize..range.end as usize];
        assert!(store.get_range(&key, range.clone()).unwrap() == wanted, "{range:?}");
    }
    assert!(store.get_end(&key, 100).unwrap() == (len, bytes[bytes.len() - 100..].to_vec()));
    store.delete(&key).unwrap();
}

fn a_killed_writer_leaves_no_part(config: &Config, store: &dyn Store) {
    let mut seen = 0;
    // Later and later, until enough of them have come to write something.
    for round in 0.. {
        if round >= 8 && seen > 4 {
            break;
        }
        let mut child = spawn("writes", config);
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(out.any(|line| line.unwrap() == "connected"));
        thread::sleep(Duration::from_millis(150 + 170 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        for key in store.list("killed/").unwrap() {
            assert!(is_whole(&store.get(&key).unwrap()), "{key} is a part");
            seen += 1;
            if key.name() != "put" {
                store.delete(&key).unwrap();
            }
        }
    }
}

/// Passes on what is said to the NameNode and by it. While `lose` is set, the next answer to a rename is lost, with its
/// connection.
fn passing_on(namenode: String, lose: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&namenode).unwrap());
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let (lost, lose) = (Arc::new(AtomicBool::new(false)), lose.clone());
            let losing = lost.clone();
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(len @ 1..) = client.read(&mut bytes) {
                    if bytes[..len].windows(7).any(|word| word == b"rename2")
                        && lose.swap(false, Ordering::SeqCst)
                    {
                        losing.store(true, Ordering::SeqCst);
                    }
                    server.write_all(&bytes[..len]).unwrap();
                }
                let _ = server.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(len @ 1..) = from.read(&mut bytes) {
                    if lost.load(Ordering::SeqCst) || to.write_all(&bytes[..len]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

fn a_lost_answer_is_found_out(config: &Config, store: &dyn Store) {
    let lose = Arc::new(AtomicBool::new(false));
    let authority = passing_on(config.authority.clone(), lose.clone());
    let through = open(&Config { authority, ..config.clone() });
    through.put(&key("lost/first"), b"x").unwrap();
    for n in 0..3 {
        let (created, put) = (key(&format!("lost/created-{n}")), key(&format!("lost/put-{n}")));
        lose.store(true, Ordering::SeqCst);
        assert_eq!(through.create(&created, b"mine").unwrap(), Created::Yes);
        assert!(!lose.swap(true, Ordering::SeqCst), "no answer was lost");
        assert_eq!(through.create(&created, b"another's").unwrap(), Created::Exists);
        assert!(!lose.swap(true, Ordering::SeqCst), "no answer was lost");
        through.put(&put, b"put").unwrap();
        assert!(!lose.load(Ordering::SeqCst), "no answer was lost");
        assert_eq!(store.get(&created).unwrap(), b"mine");
        assert_eq!(store.get(&put).unwrap(), b"put");
    }
}

/// More than the NameNode tells at a time.
fn many_keys_are_listed(store: &dyn Store) {
    let mut keys: Vec<Key> = (0..2200).map(|n| key(&format!("many/{:x}", n * 7919))).collect();
    thread::scope(|scope| {
        for part in keys.chunks(140) {
            scope.spawn(move || part.iter().for_each(|key| store.put(key, b"").unwrap()));
        }
    });
    keys.sort_unstable();
    assert!(store.list("many/").unwrap() == keys);
    let names = store.names("many/").unwrap();
    assert!(names.iter().map(String::as_str).eq(keys.iter().map(Key::name)));
    assert_eq!(store.names("none/").unwrap(), [""; 0]);
    assert!(store.names("").unwrap().contains(&"many".to_string()));
    thread::scope(|scope| {
        for part in keys.chunks(140) {
            scope.spawn(move || store.delete_all(part).unwrap());
        }
    });
    assert_eq!(store.list("many/").unwrap(), []);
}

fn keys_that_clash_are_refused(store: &dyn Store) {
    store.put(&key("clash/dir/object"), b"x").unwrap();
    let mut upload = store.upload().unwrap();
    upload.write(b"x").unwrap();
    let results = [
        store.put(&key("clash/dir"), b"x"),
        store.put(&key("clash/dir/object/below"), b"x"),
        store.create(&key("clash/dir"), b"x").map(|_| ()),
        store.create(&key("clash/dir/object/below"), b"x").map(|_| ()),
        upload.commit(&key("clash/dir")),
    ];
    for result in results {
        assert!(matches!(result, Err(StoreError::BadKey { .. })), "{result:?}");
    }
    // These are not there, which is no error.
    store.delete(&key("clash/dir")).unwrap();
    store.delete(&key("clash/dir/object/below")).unwrap();
    assert_eq!(store.get(&key("clash/dir/object")).unwrap(), b"x");
}

fn permissions_are_kept(config: &Config, server: &Server, store: &dyn Store) {
    store.put(&key("mine/object"), b"x").unwrap();
    let other = open(&Config { user: Some("somebody".into()), ..config.clone() });
    assert_eq!(other.get(&key("mine/object")).unwrap(), b"x");
    let errors = [
        other.put(&key("mine/object"), b"y").err(),
        other.create(&key("theirs"), b"y").err(),
        other.delete(&key("mine/object")).err(),
    ];
    for error in errors {
        let error = error.unwrap();
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains(&config.to_string()), "{error}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("somebody"), "{error:?}");
    }
    assert_eq!(store.get(&key("mine/object")).unwrap(), b"x");
    // Above the store there is nothing that one needs but to pass.
    let deep = dir_of(server, USER, "deep/er/store");
    open(&deep).put(&key("a"), b"x").unwrap();
}

fn a_server_that_was_away(server: &mut Server, config: &Config, store: &dyn Store) {
    store.put(&key("kept/small"), b"x").unwrap();
    store.put(&key("kept/big"), &sealed(7, 10 << 20)).unwrap();
    // Asleep for a short time: nobody notices.
    server.signal("-STOP");
    thread::scope(|scope| {
        let calls = [
            scope.spawn(|| store.get(&key("kept/small")).map(|_| ())),
            scope.spawn(|| store.put(&key("kept/slow"), b"x")),
            scope.spawn(|| store.create(&key("kept/created"), b"x").map(|_| ())),
        ];
        thread::sleep(Duration::from_secs(2));
        server.signal("-CONT");
        calls.into_iter().for_each(|call| call.join().unwrap().unwrap());
    });
    server.kill();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = |authority: String| Config { authority, ..config.clone() };
    let connect = |config: Config| Hdfs::connect(config).map(|_| ());
    let failing: [&(dyn Fn() -> Result<(), StoreError> + Sync); 8] = [
        &|| store.get(&key("kept/small")).map(|_| ()),
        &|| store.size(&key("kept/small")).map(|_| ()),
        &|| store.put(&key("kept/small"), b"y"),
        &|| store.create(&key("kept/new"), b"y").map(|_| ()),
        &|| store.list("kept/").map(|_| ()),
        &|| store.delete(&key("kept/small")),
        &|| connect(elsewhere(silent.local_addr().unwrap().to_string())),
        &|| connect(elsewhere("no-such-host.invalid:8020".into())),
    ];
    thread::scope(|scope| {
        let timed = |call: &dyn Fn() -> Result<(), StoreError>| {
            let begin = Instant::now();
            (call().unwrap_err(), begin.elapsed())
        };
        let calls: Vec<_> = failing.iter().map(|call| scope.spawn(move || timed(call))).collect();
        for call in calls {
            let (error, took) = call.join().unwrap();
            assert!(matches!(error, StoreError::Io { .. }) && took < BOUND, "{error:?} after {took:?}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(
                error.to_string().contains("hdfs://") && cause.contains("fs.defaultFS"),
                "{error}: {cause}"
            );
        }
    });
    // What begins while it is away is done when it is back.
    thread::scope(|scope| {
        let call = scope.spawn(|| store.create(&key("kept/late"), b"late"));
        server.restart();
        assert_eq!(call.join().unwrap().unwrap(), Created::Yes);
    });
    assert_eq!(store.get(&key("kept/small")).unwrap(), b"x");
    assert!(is_whole(&store.get(&key("kept/big")).unwrap()));
    assert_eq!(store.get(&key("kept/late")).unwrap(), b"late");
    assert!(matches!(store.get(&key("kept/new")), Err(StoreError::NotFound { .. })));
    store.put(&key("kept/small"), b"z").unwrap();
    assert_eq!(open(config).get(&key("kept/small")).unwrap(), b"z");
}
