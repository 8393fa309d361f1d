//! The outer layer of a portable stream: blocks, each compressed and each checked before it is looked into.

use std::io::{self, Read, Write};

use super::PortableError;

/// First bytes of a portable stream.
pub const MAGIC: [u8; 8] = *b"CKPTBNDL";
/// The format that is written, and the newest that is read.
pub const FORMAT: u16 = 1;

/// Bytes of a block before compression (1 MiB): enough for compression to find what repeats, and the bound
/// of what a reader keeps.
const BLOCK: usize = 1 << 20;
/// Compression level: the strongest that is not much slower than a disk.
const LEVEL: i32 = 3;

/// Writes a stream of bytes as blocks.
pub(super) struct BlockWriter<W> {
    to: W,
    /// Of all bytes written so far.
    hasher: blake3::Hasher,
    block: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl<W: Write> BlockWriter<W> {
    /// Writes the header.
    pub(super) fn new(to: W) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)?;
        let hasher = blake3::Hasher::new();
        let mut writer = Self { to, hasher, block: Vec::with_capacity(BLOCK), compressor };
        writer.put(&MAGIC)?;
        writer.put(&FORMAT.to_le_bytes())?;
        Ok(writer)
    }

    /// Takes bytes of the stream.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and the end mark.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        self.write_block()?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn write_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let compressed = self.compressor.compress(&block)?;
        let stored = if compressed.len() < block.len() { &compressed } else { &block };
        self.put(&(block.len() as u32).to_le_bytes())?;
        self.put(&(stored.len() as u32).to_le_bytes())?;
        self.put(stored)?;
        let check = self.hasher.finalize();
        self.put(check.as_bytes())?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.to.write_all(bytes)
    }
}

/// Reads the blocks as a stream of bytes.
pub(super) struct BlockReader<R> {
    from: R,
    /// Of all bytes read so far.
    hasher: blake3::Hasher,
    /// How many those are.
    offset: u64,
    block: Vec<u8>,
    /// What of the block has been handed on.
    pos: usize,
    ended: bool,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl<R: Read> BlockReader<R> {
    /// Reads and checks the header.
    pub(super) fn new(from: R) -> Result<Self, PortableError> {
        let decompressor = zstd::bulk::Decompressor::new()?;
        let hasher = blake3::Hasher::new();
        let block = Vec::new();
        let mut reader = Self { from, hasher, offset: 0, block, pos: 0, ended: false, decompressor };
        let mut magic = [0; 8];
        reader.get(&mut magic)?;
        if magic != MAGIC {
            return Err(PortableError::NotPortable { found: magic.escape_ascii().to_string() });
        }
        let mut format = [0; 2];
        reader.get(&mut format)?;
        match u16::from_le_bytes(format) {
            FORMAT => Ok(reader),
            found => Err(PortableError::OtherFormat { found, newest: FORMAT }),
        }
    }

    /// Fills `bytes` from the stream.
    pub(super) fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), PortableError> {
        while !bytes.is_empty() {
            if self.at_end()? {
                return Err(self.damaged(self.offset, "the last entry is not complete"));
            }
            let rest = &self.block[self.pos..];
            let (now, later) = bytes.split_at_mut(bytes.len().min(rest.len()));
            now.copy_from_slice(&rest[..now.len()]);
            self.pos += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// The next `len` bytes of the stream. What is allocated follows what has come.
    pub(super) fn read_vec(&mut self, len: u64) -> Result<Vec<u8>, PortableError> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let start = bytes.len();
            let part = (len - start as u64).min(BLOCK as u64) as usize;
            bytes.resize(start + part, 0);
            self.read(&mut bytes[start..])?;
        }
        Ok(bytes)
    }

    /// Whether all blocks have been handed on, and nothing follows them.
    pub(super) fn at_end(&mut self) -> Result<bool, PortableError> {
        if self.pos == self.block.len() && !self.ended {
            self.read_block()?;
        }
        Ok(self.ended)
    }

    /// How many bytes have been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn read_block(&mut self) -> Result<(), PortableError> {
        let start = self.offset;
        let raw = self.get_u32()? as usize;
        let stored = self.get_u32()? as usize;
        if raw > BLOCK || stored > raw || (stored == 0) != (raw == 0) {
            let problem = format!("a block of {raw} bytes, stored as {stored}");
            return Err(self.damaged(start, problem));
        }
        let mut bytes = vec![0; stored];
        self.get(&mut bytes)?;
        let (expected, mut found) = (self.hasher.finalize(), [0; 32]);
        self.get(&mut found)?;
        if expected != found {
            return Err(self.damaged(start, "the bytes of the block, or before it, have changed"));
        }
        self.pos = 0;
        self.ended = raw == 0;
        self.block = bytes;
        if stored < raw {
            match self.decompressor.decompress(&self.block, raw) {
                Ok(block) if block.len() == raw => self.block = block,
                Ok(short) => {
                    let problem = format!("{} bytes, not {raw}, in the block", short.len());
                    return Err(self.damaged(start, problem));
                }
                Err(error) => return Err(self.damaged(start, error.to_string())),
            }
        }
        if !self.ended {
            return Ok(());
        }
        let end = self.offset;
        match self.get(&mut [0]) {
            Err(PortableError::Truncated { .. }) => Ok(()),
            Ok(()) => Err(self.damaged(end, "something follows the end")),
            Err(error) => Err(error),
        }
    }

    fn get_u32(&mut self) -> Result<u32, PortableError> {
        let mut bytes = [0; 4];
        self.get(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn get(&mut self, bytes: &mut [u8]) -> Result<(), PortableError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PortableError::Truncated { offset: self.offset },
            _ => PortableError::Io(error),
        })?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn damaged(&self, offset: u64, problem: impl Into<String>) -> PortableError {
        PortableError::Damaged { offset, problem: problem.into() }
    }
}
