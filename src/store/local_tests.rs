//! Tests of the local store on the real file system; those with other processes are in `tests/store_local.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    super::conformance::all(&Local::open(dir.path().join("deep/er/store")).unwrap());
}

#[test]
fn what_it_makes_is_private_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    Local::open(&root).unwrap().put(&key("a/b"), b"x").unwrap();
    let store = Local::existing(&root).unwrap();
    assert_eq!(store.get(&key("a/b")).unwrap(), b"x");
    for (path, mode) in [("", 0o700), ("objects/a", 0o700), ("objects/a/b", 0o600), ("format", 0o600)] {
        let permissions = fs::metadata(root.join(path)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{path:?}");
    }
    assert_eq!(fs::read_to_string(root.join("format")).unwrap(), "wasm-ckpt store\nformat 1\n");
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn other_directories_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Local::existing(dir.path()), Err(StoreError::NotFound { .. })));
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let refused = Local::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StoreError::NotAStore { .. }), "{refused}");
    assert!(matches!(Local::open(dir.path().join("letter.txt")), Err(StoreError::NotAStore { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn other_formats_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(Local::open(dir.path()).unwrap());
    let format = dir.path().join("format");
    fs::write(&format, "wasm-ckpt store\nformat 7\n").unwrap();
    let refused = Local::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StoreError::NewerVersion { found: 7, known: FORMAT, .. }), "{refused:?}");
    assert!(refused.to_string().ends_with("has format 7, and this program knows formats up to 1"));
    for damaged in ["", "wasm-ckpt store\n", "wasm-ckpt store\nformat 0\n", "other\nformat 1\n", "\u{0}\u{0}"]
    {
        fs::write(&format, damaged).unwrap();
        assert!(matches!(Local::open(dir.path()), Err(StoreError::Corrupt { .. })), "{damaged:?}");
    }
}

#[test]
fn a_store_half_made_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["tmp", "objects"] {
        fs::create_dir(dir.path().join(part)).unwrap();
    }
    fs::write(dir.path().join("tmp/1-0"), "wasm-ck").unwrap();
    Local::open(dir.path()).unwrap().put(&key("a"), b"x").unwrap();
    assert!(Local::existing(dir.path()).is_ok());
}

#[test]
fn temporaries_of_the_dead_go_and_those_of_the_living_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let mut upload = store.upload().unwrap();
    upload.write(b"slowly ").unwrap();
    let fresh = dir.path().join("tmp/1-fresh");
    fs::write(&fresh, "just made").unwrap();
    let old = dir.path().join("tmp/1-old");
    fs::write(&old, "left").unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for file in fs::read_dir(dir.path().join("tmp")).unwrap() {
        let path = file.unwrap().path();
        if path != fresh {
            fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
        }
    }
    drop(Local::open(dir.path()).unwrap());
    assert!(fresh.exists() && !old.exists());
    upload.write(b"but alive").unwrap();
    upload.commit(&key("done")).unwrap();
    assert_eq!(store.get(&key("done")).unwrap(), b"slowly but alive");
}

#[test]
fn an_object_is_not_also_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    for store in [&Local::open(dir.path()).unwrap() as &dyn Store, &super::Memory::new()] {
        store.put(&key("a/b"), b"x").unwrap();
        for bad in ["a", "a/b/c", "a/b/c/d"] {
            let refused = store.put(&key(bad), b"y").err().unwrap();
            assert!(matches!(refused, StoreError::BadKey { .. }), "{bad}: {refused:?}");
            assert!(store.create(&key(bad), b"y").is_err_and(|e| matches!(e, StoreError::BadKey { .. })));
        }
        assert_eq!(store.get(&key("a/b")).unwrap(), b"x");
    }
}

#[test]
fn deleting_a_job_leaves_no_directories() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    store.put(&key("jobs/x/log/1"), b"x").unwrap();
    store.delete(&key("jobs/x/log/1")).unwrap();
    assert!(!dir.path().join("objects/jobs/x").exists());
    assert!(dir.path().join("objects/jobs").exists());
    drop(store.hold(&key("jobs/x")).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("locks")).unwrap().count(), 0);
}
