//! Files that the tool writes where it is told to.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file with these permissions, which appears when it is complete and on its disk. What is there and is no
/// regular file, such as a device or FIFO, is written to.
pub fn write(path: &Path, mode: u32, content: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let name = path.display().to_string();
    let explain = || format!("cannot write `{name}`");
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let file = OpenOptions::new().write(true).open(path).with_context(explain)?;
        return content(&file);
    }
    // Behind a symbolic link, so that the link stays.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut staging = path.clone().into_os_string();
    staging.push(format!(".{:016x}.tmp", getrandom::u64()?));
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staging);
    let file = file.with_context(explain)?;
    let written = content(&file).and_then(|()| {
        file.sync_all().with_context(explain)?;
        fs::rename(&staging, &path).with_context(explain)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where that cannot be, the file is there all the same.
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
        Ok(())
    });
    if written.is_err() {
        let _ = fs::remove_file(&staging);
    }
    written
}
