//! Tests of the room, through a guest that is only a memory.

mod closed;
mod files;
mod hostile;
mod paths;
mod resume;
mod sandbox;
mod streams;
mod wait;

use std::path::Path;

use tempfile::TempDir;

use super::{
    Config, Dirs, Errno, Host, Interrupt, OutputBuffer, Preopen, Restore, Stdin, Stop, Wasi,
    types::{fdflags, oflags, rights},
};

pub const READ: u64 = rights::FD_READ;
pub const WRITE: u64 = rights::FD_WRITE;
pub const CREAT: u32 = oflags::CREAT;
pub const EXCL: u32 = oflags::EXCL;
pub const TRUNC: u32 = oflags::TRUNC;
pub const DIRECTORY: u32 = oflags::DIRECTORY;
pub const APPEND: u32 = fdflags::APPEND;

/// Where results go, paths, the list of buffers, and data.
pub const OUT: u32 = 0;
const PATH: u32 = 1024;
const PATH2: u32 = 8192;
const IOVS: u32 = 16384;
pub const DATA: u32 = 32768;
const MEM_LEN: usize = 4 << 20;

/// A guest: a memory, and calls with plain arguments and results.
pub struct Guest {
    pub wasi: Wasi,
    pub mem: Vec<u8>,
    pub out: OutputBuffer,
}

/// What a function that was not stopped gives.
pub type Answer<T> = Result<T, Errno>;

pub fn answer(result: Result<Errno, Stop>) -> Answer<()> {
    match result.expect("the call was stopped") {
        Errno::Success => Ok(()),
        errno => Err(errno),
    }
}

pub fn host(stdin: Stdin, out: &OutputBuffer) -> Host {
    Host {
        stdin,
        stdout: Box::new(out.clone()),
        stderr: Box::new(OutputBuffer::default()),
        interrupt: Interrupt::new().unwrap(),
    }
}

pub fn preopen(host: &Path) -> Preopen {
    Preopen { host: host.to_path_buf(), guest: "/data".to_string(), read_only: false }
}

impl Guest {
    /// A guest that has `dir` as `/data`, its descriptor 3.
    pub fn with_dir(dir: &Path) -> Self {
        Self::new(Config { dirs: vec![preopen(dir)], ..Config::default() }, Stdin::Null)
    }

    pub fn new(config: Config, stdin: Stdin) -> Self {
        let out = OutputBuffer::default();
        let wasi = Wasi::new(config, host(stdin, &out)).unwrap();
        Self { wasi, mem: vec![0; MEM_LEN], out }
    }

    /// Goes on in another process, so to speak.
    pub fn resumed(self) -> anyhow::Result<Self> {
        self.resumed_with(Restore::default())
    }

    pub fn resumed_with(self, how: Restore) -> anyhow::Result<Self> {
        let (version, bytes) = self.wasi.save()?;
        self.with_state(version, &bytes, how)
    }

    /// Goes on from an earlier state, with this guest's memory.
    pub fn with_state(self, version: u32, bytes: &[u8], how: Restore) -> anyhow::Result<Self> {
        drop(self.wasi);
        let out = self.out.clone();
        let wasi = Wasi::restore(version, bytes, host(Stdin::Null, &out), how)?;
        Ok(Self { wasi, mem: self.mem, out })
    }

    pub fn path(&mut self, path: &str) -> (u32, u32) {
        self.mem[PATH as usize..][..path.len()].copy_from_slice(path.as_bytes());
        (PATH, path.len() as u32)
    }

    pub fn path2(&mut self, path: &str) -> (u32, u32) {
        self.mem[PATH2 as usize..][..path.len()].copy_from_slice(path.as_bytes());
        (PATH2, path.len() as u32)
    }

    pub fn u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.mem[at as usize..][..4].try_into().unwrap())
    }

    pub fn u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.mem[at as usize..][..8].try_into().unwrap())
    }

    /// Lays out buffers of these lengths, one after the other; gives the list and its length.
    pub fn buffers(&mut self, lens: &[usize]) -> (u32, u32) {
        let mut at = DATA;
        for (n, len) in lens.iter().enumerate() {
            let entry = IOVS as usize + n * 8;
            self.mem[entry..][..4].copy_from_slice(&at.to_le_bytes());
            self.mem[entry + 4..][..4].copy_from_slice(&(*len as u32).to_le_bytes());
            at += *len as u32;
        }
        (IOVS, lens.len() as u32)
    }

    pub fn open(&mut self, path: &str, oflags: u32, rights: u64) -> Answer<u32> {
        self.open_at(3, path, oflags, rights, 0)
    }

    pub fn open_at(&mut self, dir: u32, path: &str, oflags: u32, rights: u64, flags: u32) -> Answer<u32> {
        let (path, len) = self.path(path);
        answer(self.wasi.path_open(&mut self.mem, dir, 1, path, len, oflags, rights, rights, flags, OUT))?;
        Ok(self.u32(OUT))
    }

    pub fn close(&mut self, fd: u32) -> Answer<()> {
        answer(self.wasi.fd_close(&mut self.mem, fd))
    }

    pub fn write(&mut self, fd: u32, data: &[u8]) -> Answer<u32> {
        let (iovs, n) = self.buffers(&[data.len()]);
        self.mem[DATA as usize..][..data.len()].copy_from_slice(data);
        answer(self.wasi.fd_write(&mut self.mem, fd, iovs, n, OUT))?;
        Ok(self.u32(OUT))
    }

    pub fn pwrite(&mut self, fd: u32, data: &[u8], offset: u64) -> Answer<u32> {
        let (iovs, n) = self.buffers(&[data.len()]);
        self.mem[DATA as usize..][..data.len()].copy_from_slice(data);
        answer(self.wasi.fd_pwrite(&mut self.mem, fd, iovs, n, offset, OUT))?;
        Ok(self.u32(OUT))
    }

    pub fn read(&mut self, fd: u32, len: usize) -> Answer<Vec<u8>> {
        self.read_into(fd, &[len])
    }

    pub fn read_into(&mut self, fd: u32, lens: &[usize]) -> Answer<Vec<u8>> {
        let (iovs, n) = self.buffers(lens);
        answer(self.wasi.fd_read(&mut self.mem, fd, iovs, n, OUT))?;
        Ok(self.mem[DATA as usize..][..self.u32(OUT) as usize].to_vec())
    }

    pub fn pread(&mut self, fd: u32, len: usize, offset: u64) -> Answer<Vec<u8>> {
        let (iovs, n) = self.buffers(&[len]);
        answer(self.wasi.fd_pread(&mut self.mem, fd, iovs, n, offset, OUT))?;
        Ok(self.mem[DATA as usize..][..self.u32(OUT) as usize].to_vec())
    }

    pub fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Answer<u64> {
        answer(self.wasi.fd_seek(&mut self.mem, fd, offset, whence, OUT))?;
        Ok(self.u64(OUT))
    }

    pub fn tell(&mut self, fd: u32) -> Answer<u64> {
        answer(self.wasi.fd_tell(&mut self.mem, fd, OUT))?;
        Ok(self.u64(OUT))
    }

    /// Type and size of what is open.
    pub fn fd_stat(&mut self, fd: u32) -> Answer<(u8, u64)> {
        answer(self.wasi.fd_filestat_get(&mut self.mem, fd, OUT))?;
        Ok((self.mem[OUT as usize + 16], self.u64(OUT + 32)))
    }

    /// Type and size of what is at a path.
    pub fn stat(&mut self, path: &str, follow: bool) -> Answer<(u8, u64)> {
        let (path, len) = self.path(path);
        answer(self.wasi.path_filestat_get(&mut self.mem, 3, follow.into(), path, len, OUT))?;
        Ok((self.mem[OUT as usize + 16], self.u64(OUT + 32)))
    }

    pub fn mkdir(&mut self, path: &str) -> Answer<()> {
        let (path, len) = self.path(path);
        answer(self.wasi.path_create_directory(&mut self.mem, 3, path, len))
    }

    pub fn unlink(&mut self, path: &str) -> Answer<()> {
        let (path, len) = self.path(path);
        answer(self.wasi.path_unlink_file(&mut self.mem, 3, path, len))
    }

    pub fn rmdir(&mut self, path: &str) -> Answer<()> {
        let (path, len) = self.path(path);
        answer(self.wasi.path_remove_directory(&mut self.mem, 3, path, len))
    }

    pub fn symlink(&mut self, target: &str, path: &str) -> Answer<()> {
        let (target, target_len) = self.path2(target);
        let (path, len) = self.path(path);
        answer(self.wasi.path_symlink(&mut self.mem, target, target_len, 3, path, len))
    }

    pub fn link(&mut self, old: &str, new: &str) -> Answer<()> {
        let (old, old_len) = self.path2(old);
        let (new, new_len) = self.path(new);
        answer(self.wasi.path_link(&mut self.mem, 3, 0, old, old_len, 3, new, new_len))
    }

    pub fn rename(&mut self, old: &str, new: &str) -> Answer<()> {
        let (old, old_len) = self.path2(old);
        let (new, new_len) = self.path(new);
        answer(self.wasi.path_rename(&mut self.mem, 3, old, old_len, 3, new, new_len))
    }

    pub fn readlink(&mut self, path: &str, room: u32) -> Answer<String> {
        let (path, len) = self.path(path);
        answer(self.wasi.path_readlink(&mut self.mem, 3, path, len, DATA, room, OUT))?;
        let link = self.mem[DATA as usize..][..self.u32(OUT) as usize].to_vec();
        Ok(String::from_utf8(link).unwrap())
    }

    /// One call of `fd_readdir`: the whole entries in its buffer, and the bytes used.
    pub fn readdir(&mut self, fd: u32, cookie: u64, room: u32) -> Answer<(Vec<(u64, String)>, u32)> {
        answer(self.wasi.fd_readdir(&mut self.mem, fd, DATA, room, cookie, OUT))?;
        let used = self.u32(OUT);
        let (mut at, mut entries) = (0, Vec::new());
        while used - at >= 24 {
            let len = self.u32(DATA + at + 16);
            if used - at - 24 < len {
                break;
            }
            let name = &self.mem[(DATA + at + 24) as usize..][..len as usize];
            entries.push((self.u64(DATA + at), String::from_utf8(name.to_vec()).unwrap()));
            at += 24 + len;
        }
        Ok((entries, used))
    }

    /// All names of a directory but the dots, read with a small buffer.
    pub fn names(&mut self, fd: u32) -> Vec<String> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let (entries, used) = self.readdir(fd, cookie, 100).unwrap();
            cookie = entries.last().map_or(cookie, |(next, _)| *next);
            names.extend(entries.into_iter().map(|(_, name)| name));
            if used < 100 {
                names.retain(|name| name != "." && name != "..");
                return names;
            }
        }
    }
}

pub fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The error's whole chain, as a user reads it.
pub fn error_of<T>(result: anyhow::Result<T>) -> String {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(e) => format!("{e:#}"),
    }
}

pub fn given(dirs: Vec<Preopen>) -> Restore {
    Restore { dirs: Dirs::Given(dirs), ..Restore::default() }
}
