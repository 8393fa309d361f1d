//! The store on S3: a real server on this machine, which is also killed, and other processes beside.
#![cfg(feature = "s3")]

mod tool;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use tool::server::Server;
use tool::service;
use tool::store::{child as child_process, key, noise, task, won_by};
use wasm_ckpt::store::remote::Remote;
use wasm_ckpt::store::remote::s3::{Config, S3};
use wasm_ckpt::store::{Created, Key, Store, StoreError, conformance};

type Variables = Vec<(String, String)>;

trait OnS3 {
    fn config(&self, prefix: &str) -> Config;
    fn store(&self, prefix: &str) -> Remote;
    fn but(&self, name: &str, value: &str) -> Variables;
    fn doing(&self, task: &str) -> Child;
}

impl OnS3 for Server {
    fn config(&self, prefix: &str) -> Config {
        Config::new(&format!("{}/{prefix}", self.url), self.variables.clone()).unwrap()
    }

    fn store(&self, prefix: &str) -> Remote {
        Remote::new(Arc::new(S3::connect(self.config(prefix)).unwrap())).unwrap()
    }

    /// With another value of a variable.
    fn but(&self, name: &str, value: &str) -> Variables {
        let other = |(known, old): &(String, String)| {
            (known.clone(), if known == name { value.to_string() } else { old.clone() })
        };
        self.variables.iter().map(other).collect()
    }

    /// As another process.
    fn doing(&self, task: &str) -> Child {
        child_process(task, &format!("{}/{task}", self.url), &self.variables)
    }
}

fn why(error: &StoreError) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

/// What another process does; nothing when the tests are run.
#[test]
fn child() {
    let Some((task, url)) = task() else { return };
    let store = Remote::new(Arc::new(S3::connect(Config::from_url(&url).unwrap()).unwrap())).unwrap();
    match task.as_str() {
        "race" => {
            for n in 0..25 {
                let created = store.create(&key(&format!("log/{n}")), &std::process::id().to_le_bytes());
                println!("\n{n} {}", created.unwrap() == Created::Yes);
            }
        }
        "write" => {
            println!("\nready");
            let nonce = std::process::id();
            for n in 0.. {
                let mut upload = store.upload().unwrap();
                noise(n, UPLOADED).chunks(1 << 20).for_each(|piece| upload.write(piece).unwrap());
                upload.commit(&key(&format!("uploaded/{nonce}-{n}"))).unwrap();
                store.put(&key(&format!("put/{nonce}-{n}")), &noise(n, PUT)).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

/// Sizes of what the process that is killed writes: in parts, and whole.
const UPLOADED: usize = 20 << 20;
const PUT: usize = 6 << 20;

/// A part of the test.
type Step = fn(&mut Server);

/// All on one server, whose start takes longest.
#[test]
fn the_service() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let Some(mut server) = Server::start("s3", dir.path()) else { return };
    println!("started: {:?}", begun.elapsed());
    let steps: [(&str, Step); 10] = [
        ("conforms", |server| conformance::all(&server.store("conformance"))),
        ("what does not let us in", what_does_not_let_us_in),
        ("of several one creates", of_several_one_creates),
        ("big objects", big_objects),
        ("many keys", many_keys),
        ("others' objects", others_objects),
        ("figures", figures),
        ("a killed writer", a_killed_writer),
        ("a killed server", a_killed_server),
        ("jobs", |server| {
            service::jobs_survive(&service::on(&format!("{}/jobs", server.url), &server.variables))
        }),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        let begun = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| step(&mut server))).is_err() {
            failed.push(name);
        }
        println!("{name}: {:?}", begun.elapsed());
    }
    assert_eq!(failed, [""; 0]);
}

fn what_does_not_let_us_in(server: &mut Server) {
    let refused = |url: &str, variables: Variables| {
        let begun = Instant::now();
        let error = S3::connect(Config::new(url, variables).unwrap()).err().expect("it must be refused");
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        let text = why(&error);
        assert!(!text.contains("not-secret"), "{text}");
        (error, text)
    };
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody")] {
        let (error, text) = refused(&server.url, server.but(name, value));
        assert!(
            matches!(error, StoreError::Denied { .. }) && text.contains("check AWS_ACCESS_KEY_ID"),
            "{text}"
        );
    }
    let (error, text) = refused("s3://none", server.variables.clone());
    assert!(matches!(error, StoreError::Io { .. }) && text.contains("make the bucket"), "{text}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = &*server;
    thread::scope(|scope| {
        for host in [&nobody, "no-such-host.invalid"] {
            scope.spawn(move || {
                let nowhere = server.but("AWS_ENDPOINT_URL", &format!("http://{host}"));
                let (_, text) = refused(&server.url, nowhere);
                assert!(text.contains(host) && text.contains("check AWS_ENDPOINT_URL"), "{text}");
            });
        }
    });
}

fn of_several_one_creates(server: &mut Server) {
    let store = server.store("threads");
    let start = Barrier::new(16);
    let won: usize = thread::scope(|scope| {
        let race = |i: u8| {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                let won = |n: &u32| {
                    start.wait();
                    store.create(&key(&format!("log/{n}")), &[i]).unwrap() == Created::Yes
                };
                (0..25).filter(won).count()
            })
        };
        let racers: Vec<_> = (0..16).map(race).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, 25);

    let children: Vec<_> = (0..4).map(|_| server.doing("race")).collect();
    let mut won: Vec<_> = won_by(children).into_iter().map(|(n, _)| n).collect();
    won.dedup();
    assert_eq!((won.len(), server.store("race").list("log/").unwrap().len()), (25, 25));
}

fn big_objects(server: &mut Server) {
    let store = server.store("big");
    let resident = || -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096
    };
    let (name, whole) = (key("packs/big"), noise(1, 70_000_001));
    let before = resident();
    let mut upload = store.upload().unwrap();
    for piece in whole.chunks(777_777) {
        upload.write(piece).unwrap();
        assert!(matches!(store.size(&name), Err(StoreError::NotFound { .. })) || piece.len() < 777_777);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes of memory for an upload");
    assert_eq!(store.list("").unwrap(), []);
    upload.commit(&name).unwrap();
    assert!(store.get(&name).unwrap() == whole);
    let (len, part) = (whole.len(), 8 << 20);
    for range in [
        0..1,
        part - 1..part + 1,
        0..part,
        part..3 * part,
        5 * part - 70_000..5 * part + 70_000,
        len - 9..len,
    ] {
        let got = store.get_range(&name, range.start as u64..range.end as u64).unwrap();
        assert!(got == whole[range.clone()], "{range:?}");
    }
    let beyond = store.get_range(&name, len as u64 - 1..len as u64 + 1);
    assert!(matches!(beyond, Err(StoreError::Corrupt { .. })), "{beyond:?}");
    let (size, end) = store.get_end(&name, 100_000).unwrap();
    assert!(size == len as u64 && end == whole[len - 100_000..]);

    // At the sizes where it is done otherwise.
    for len in [part - 1, part, part + 1, 2 * part, 2 * part + 1] {
        store.put(&name, &whole[..len]).unwrap();
        assert!(store.get(&name).unwrap() == whole[..len], "{len}");
        let mut upload = store.upload().unwrap();
        upload.write(&whole[1..=len]).unwrap();
        upload.commit(&name).unwrap();
        assert!(store.get(&name).unwrap() == whole[1..=len], "{len}");
    }
    assert_eq!(store.list("").unwrap(), [name]);
    assert_eq!(uploads(server, "big"), "");
}

/// What there is of big objects that have no name yet.
fn uploads(server: &Server, prefix: &str) -> String {
    let list = format!("?list-type=2&prefix={prefix}%2F.uploads");
    let told = curl(server, "GET", &list);
    assert!(told.contains("<ListBucketResult"), "{told}");
    told.split("<Key>").skip(1).collect()
}

/// A request to the bucket by another client.
fn curl(server: &Server, method: &str, path: &str) -> String {
    let user =
        format!("{}:{}", server.variable("AWS_ACCESS_KEY_ID"), server.variable("AWS_SECRET_ACCESS_KEY"));
    let url = format!("{}/test{path}", server.variable("AWS_ENDPOINT_URL"));
    let out = Command::new("curl")
        .args(["-s", "-m", "60", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", &user, "-X", method, &url])
        .args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
        // With the length, which is 0.
        .args(if method == "PUT" { &["--data-binary", ""][..] } else { &[] })
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn many_keys(server: &mut Server) {
    let store = server.store("many");
    let mut keys: Vec<Key> = (0..2300).map(|n| key(&format!("jobs/{}/log/{:08}", n % 1100, n))).collect();
    thread::scope(|scope| {
        for keys in keys.chunks(keys.len().div_ceil(16)) {
            let store = &store;
            scope.spawn(move || keys.iter().for_each(|key| store.put(key, b"x").unwrap()));
        }
    });
    keys.sort_unstable();
    assert!(store.list("").unwrap() == keys);
    assert!(store.list("jobs/").unwrap() == keys);
    let some: Vec<_> = keys.iter().filter(|key| key.as_str().starts_with("jobs/10")).cloned().collect();
    assert!(some.len() > 200 && store.list("jobs/10").unwrap() == some);
    let mut names: Vec<String> = (0..1100).map(|n| n.to_string()).collect();
    names.sort_unstable();
    assert!(store.names("jobs/").unwrap() == names);
    assert_eq!(store.names("jobs/7/log/").unwrap(), ["00000007", "00001107", "00002207"]);
    assert_eq!(store.names("none/").unwrap(), [""; 0]);
    store.delete_all(&keys[1..]).unwrap();
    assert_eq!(store.list("").unwrap(), keys[..1]);
    store.delete_all(&keys).unwrap();
    assert_eq!(store.list("").unwrap(), []);
}

/// What is not named as ours is passed over.
fn others_objects(server: &mut Server) {
    let store = server.store("others");
    store.put(&key("a/b"), b"x").unwrap();
    let names = ["a/.hidden", "a/with%20space", ".dir/x", "a/%C3%A9"];
    for name in names {
        let told = curl(server, "PUT", &format!("/others/{name}"));
        assert_eq!(told, "", "{name}");
    }
    assert_eq!(store.list("").unwrap(), [key("a/b")]);
    assert_eq!(store.list("a").unwrap(), [key("a/b")]);
    assert_eq!(store.names("a/").unwrap(), ["b"]);
    // This one the client itself cannot read.
    curl(server, "PUT", "/others/c//d");
    let error = store.list("").unwrap_err();
    assert!(why(&error).contains("remove that object"), "{}", why(&error));
    assert_eq!(store.list("a").unwrap(), [key("a/b")]);
    // Beside the prefix, though its text begins in the same way.
    assert_eq!(server.store("other").list("").unwrap(), []);
}

fn figures(server: &mut Server) {
    let store = server.store("figures");
    let time = |what: &str, times: u32, run: &dyn Fn(u32)| {
        let begun = Instant::now();
        (0..times).for_each(run);
        println!("  {what}: {:?}", begun.elapsed() / times);
    };
    time("put of 100 bytes", 50, &|n| store.put(&key(&format!("put/{n}")), &[7; 100]).unwrap());
    time("create of 100 bytes", 50, &|n| {
        assert_eq!(store.create(&key(&format!("log/{n}")), &[7; 100]).unwrap(), Created::Yes);
    });
    let whole = noise(2, 64_000_000);
    time("upload of 64 MB", 1, &|_| {
        let mut upload = store.upload().unwrap();
        upload.write(&whole).unwrap();
        upload.commit(&key("packs/a")).unwrap();
    });
    time("get of 64 KiB of it", 50, &|n| {
        let start = u64::from(n) * 1_000_000;
        drop(store.get_range(&key("packs/a"), start..start + 65536).unwrap());
    });
    time("get of it all", 1, &|_| drop(store.get(&key("packs/a")).unwrap()));
}

fn a_killed_writer(server: &mut Server) {
    let store = server.store("write");
    let (mut checked, mut moment) = (0, 150);
    let begun = Instant::now();
    // Until some were killed after they had written something, and some in the midst of it.
    while (checked < 6 || moment < 1000) && begun.elapsed() < Duration::from_secs(60) {
        let mut child = server.doing("write");
        let out = BufReader::new(child.stdout.take().unwrap());
        assert!(out.lines().any(|line| line.unwrap().ends_with("ready")));
        thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        moment += 220;
        for found in store.list("").unwrap() {
            let n = found.name().split_once('-').unwrap().1.parse().unwrap();
            let len = if found.as_str().starts_with("put/") { PUT } else { UPLOADED };
            assert!(store.get(&found).unwrap() == noise(n, len), "{found} is not whole");
            store.delete(&found).unwrap();
            checked += 1;
        }
    }
    println!("  {checked} objects checked; left: {}", uploads(server, "write").matches("</Key>").count());
    assert!(checked >= 6, "the writers hardly came to write");
}

fn a_killed_server(server: &mut Server) {
    let store = server.store("killed");
    let mut upload = store.upload().unwrap();
    upload.write(&noise(3, 20 << 20)).unwrap();
    let big = noise(4, 10 << 20);
    store.put(&key("big"), &big).unwrap();
    for n in 0..20 {
        assert_eq!(store.create(&key(&format!("log/{n}")), &[n]).unwrap(), Created::Yes);
    }
    server.kill();

    let calls: [(&str, &(dyn Fn() -> Option<StoreError> + Sync)); 6] = [
        ("get", &|| store.get(&key("log/1")).err()),
        ("size", &|| store.size(&key("log/1")).err()),
        ("create", &|| store.create(&key("log/down"), b"x").err()),
        ("put", &|| store.put(&key("put"), b"x").err()),
        ("list", &|| store.list("log/").err()),
        ("delete", &|| store.delete(&key("log/2")).err()),
    ];
    thread::scope(|scope| {
        for (what, call) in calls {
            scope.spawn(move || {
                let begun = Instant::now();
                let error = call().expect("nobody is there");
                let (took, text) = (begun.elapsed(), why(&error));
                assert!(matches!(error, StoreError::Io { .. }), "{what}: {error:?}");
                assert!(text.contains("127.0.0.1:") && text.contains("AWS_ENDPOINT_URL"), "{what}: {text}");
                assert!(took > Duration::from_secs(20) && took < Duration::from_secs(60), "{what}: {took:?}");
            });
        }
        // Something is there, and never says anything.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", mute.local_addr().unwrap());
        let begun = Instant::now();
        let config = Config::new("s3://test", server.but("AWS_ENDPOINT_URL", &address)).unwrap();
        let error = S3::connect(config).err().expect("it says nothing");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(why(&error).contains("check AWS_ENDPOINT_URL"), "{}", why(&error));
    });

    // A call that begins while it is down, and ends when it is up again.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let begun = Instant::now();
            loop {
                match store.create(&key("log/later"), b"x") {
                    Ok(created) => return created,
                    Err(error) => assert!(begun.elapsed() < Duration::from_secs(120), "{}", why(&error)),
                }
            }
        });
        server.restart();
        assert_eq!(waiting.join().unwrap(), Created::Yes);
    });
    assert!(store.get(&key("big")).unwrap() == big);
    for n in 0..20 {
        assert_eq!(store.get(&key(&format!("log/{n}"))).unwrap(), [n]);
        assert_eq!(store.create(&key(&format!("log/{n}")), b"x").unwrap(), Created::Exists);
    }
    // Begun before, and the server knows of it still.
    upload.commit(&key("upload")).unwrap();
    assert!(store.get(&key("upload")).unwrap() == noise(3, 20 << 20));
}
