//! A disk that can be full.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::Tool;

/// A small file system for the store, gone when dropped; none where one may not mount.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of so many bytes, as `mount` reads them.
    pub fn new(tool: &Tool, size: &str) -> Option<Self> {
        let dir = tool.path("store");
        fs::create_dir(&dir).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&dir)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        // Not by `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this needs to mount a tmpfs, so to be root");
        None
    }

    /// Leaves no room.
    pub fn fill(&self) {
        let (mut len, mut count) = (1 << 20, 0);
        fs::create_dir_all(self.0.join("work")).unwrap();
        while len > 0 {
            count += 1;
            let path = self.0.join("work").join(format!("fill-{count}"));
            if fs::write(&path, vec![7; len]).is_err() {
                let _ = fs::remove_file(path);
                len /= 2;
            }
        }
    }

    /// Gives the room back.
    pub fn free(&self) {
        for entry in fs::read_dir(self.0.join("work")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("fill-") {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
