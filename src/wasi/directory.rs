//! Reading a directory.

use super::{
    Wasi,
    errno::{Errno, Outcome, Stop, done},
    fdtable::OpenDirectory,
    memory,
    types::{self, DIRENT_LEN, Filetype},
};

impl Wasi {
    /// Writes entries of a directory from `cookie` on, until they end or the buffer is full; the last
    /// may be cut off. Gives the number of bytes written.
    ///
    /// Reading from the start (cookie 0) fixes the names, in ascending order, until all were read: a
    /// guest that deletes while it reads misses none.
    pub fn fd_readdir(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        buf: u32,
        buf_len: u32,
        cookie: u64,
        used: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            memory::check(mem, used, 1, 4)?;
            let out = memory::bytes_mut(mem, buf, buf_len)?;
            let n = read_directory(self.fds.directory_mut(fd)?, out, cookie)?;
            Ok(memory::write_u32(mem, used, n)?)
        })
    }
}

fn read_directory(open: &mut OpenDirectory, out: &mut [u8], cookie: u64) -> Outcome<u32> {
    let listing = match &mut open.listing {
        Some(listing) if cookie != 0 => listing,
        other => other.insert(open.dir.list()?),
    };
    let own_ino = open.dir.attributes()?.ino;
    let dots = [".", ".."].into_iter().map(|name| (name, own_ino, Filetype::Directory));
    let entries = dots.chain(listing.iter().map(|entry| (entry.name.as_str(), entry.ino, entry.kind)));
    let mut used = 0;
    for ((name, ino, kind), next) in entries.zip(1u64..).skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
        let header: [u8; DIRENT_LEN] = types::dirent(next, ino, name.len() as u32, kind);
        for part in [&header, name.as_bytes()] {
            let n = part.len().min(out.len() - used);
            out[used..used + n].copy_from_slice(&part[..n]);
            used += n;
        }
        if used == out.len() {
            return Ok(used as u32);
        }
    }
    // All read: the names need not be kept, nor saved, any longer.
    open.listing = None;
    Ok(used as u32)
}
