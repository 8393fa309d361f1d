//! The directories before and after.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::rules::{self, LATEST, NOW};
use crate::sides::{DIRS, SCRATCH, Side};

/// Makes the directories of a guest below `host`, and something beside them that it must not reach.
pub fn make(host: &Path) {
    for (name, _, _) in DIRS {
        fs::create_dir_all(host.join(name)).unwrap();
    }
    fs::write(host.join("secret"), "secret").unwrap();
    fs::create_dir(host.join("outside")).unwrap();
    fs::write(host.join("outside/a"), "secret").unwrap();
    for name in ["data", "ro"] {
        let dir = host.join(name);
        fs::create_dir_all(dir.join("b/c/d")).unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
        fs::write(dir.join("a"), "0123456789").unwrap();
        fs::write(dir.join("b/a"), "abc").unwrap();
        fs::write(dir.join("b/c/e"), "").unwrap();
        fs::hard_link(dir.join("a"), dir.join("b/b")).unwrap();
        let big: Vec<u8> = (0..70_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(dir.join("big"), big).unwrap();
        for (target, link) in [
            ("a", "to_a"),
            ("b", "to_b"),
            ("../a", "b/to_a"),
            ("b/c", "to_c"),
            ("../outside", "up"),
            ("../../secret", "b/up"),
            ("/etc/passwd", "root"),
            ("loop", "loop"),
            ("nowhere", "dead"),
        ] {
            symlink(target, dir.join(link)).unwrap();
        }
    }
}

/// Everything below `host`: paths, types, link counts, contents or targets, and times where the guest has set them.
pub fn list(host: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(host, host, &mut found);
    found.sort();
    found
}

/// Everything below a descriptor, as its guest finds it: paths, types, link counts, contents or targets, and times where
/// the guest has set them.
pub fn list_by_calls(side: &mut dyn Side, fd: u64) -> Vec<String> {
    let mut found = Vec::new();
    walk_by_calls(side, fd, "", &mut found);
    found
}

fn walk_by_calls(side: &mut dyn Side, fd: u64, below: &str, found: &mut Vec<String>) {
    const OUT: u64 = SCRATCH as u64;
    const NAME: u32 = SCRATCH + 0x200;
    const LIST: u32 = SCRATCH + 0x1000;
    const DATA: u32 = SCRATCH + 0x2000;
    for (name, kind) in rules::listing(side, fd).unwrap().into_iter().skip(2) {
        side.put(NAME, &name);
        let (at, len) = (u64::from(NAME), name.len() as u64);
        assert_eq!(side.errno("path_filestat_get", &[fd, 0, at, len, OUT]), 0);
        let [links, size, mtime] = [24, 32, 48].map(|field| side.get_u64(SCRATCH + field));
        let path = format!("{below}{}", name.escape_ascii());
        let content = match kind {
            3 => {
                assert_eq!(side.errno("path_open", &[fd, 0, at, len, 2, 2, 2, 0, OUT]), 0);
                let inner = u64::from(side.get_u32(SCRATCH));
                walk_by_calls(side, inner, &format!("{path}/"), found);
                assert_eq!(side.errno("fd_close", &[inner]), 0);
                String::new()
            }
            7 => {
                let told = side.errno("path_readlink", &[fd, at, len, u64::from(DATA), 5000, OUT]);
                let len = if told == 0 { side.get_u32(SCRATCH) } else { 0 };
                format!("{told} -> {}", side.get(DATA, len).escape_ascii())
            }
            _ => {
                assert_eq!(side.errno("path_open", &[fd, 0, at, len, 0, 2, 2, 0, OUT]), 0);
                let file = u64::from(side.get_u32(SCRATCH));
                side.put(LIST, &[DATA.to_le_bytes(), 0x8000u32.to_le_bytes()].concat());
                let (mut hash, mut read) = (blake3::Hasher::new(), 0);
                while read < 1 << 20 {
                    assert_eq!(side.errno("fd_read", &[file, u64::from(LIST), 1, OUT]), 0);
                    let n = side.get_u32(SCRATCH);
                    if n == 0 {
                        break;
                    }
                    hash.update(&side.get(DATA, n));
                    read += n;
                }
                assert_eq!(side.errno("fd_close", &[file]), 0);
                format!("{size} bytes {}", &hash.finalize().to_hex()[..16])
            }
        };
        let time = match mtime {
            LATEST.. => "late".to_string(),
            mtime if NOW.contains(&mtime) => "now".to_string(),
            mtime => mtime.to_string(),
        };
        found.push(format!("{path}: type {kind}, {links} links, {content}, {time}"));
    }
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if meta.is_dir() {
            walk(root, &path, found);
            "directory".to_string()
        } else {
            format!("{} bytes {}", meta.len(), content_of(&path, meta.len()))
        };
        // What was not set is the time of this test.
        let time = match meta.mtime() {
            1_600_000_000..4_000_000_000 => "now".to_string(),
            seconds => format!("{seconds}.{:09}", meta.mtime_nsec()),
        };
        found.push(format!("{name}: {content}, {} links, mode {:o}, {time}", meta.nlink(), meta.mode()));
    }
}

/// What tells one content from another: of a file that is too large to be read, the beginning.
fn content_of(path: &Path, len: u64) -> String {
    let mut content = Vec::new();
    fs::File::open(path).unwrap().take(1 << 20).read_to_end(&mut content).unwrap();
    assert!(content.len() as u64 == len.min(1 << 20));
    blake3::hash(&content).to_hex()[..16].to_string()
}
