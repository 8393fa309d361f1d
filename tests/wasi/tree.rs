//! The directories before and after.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::sides::DIRS;

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
