//! Reads postcard's primitives from untrusted bytes.
//!
//! Written by hand, and not derived, because the bytes are hostile: a derived reader recurses as deep as
//! they say, makes up to 48 bytes of memory out of one, and cannot tell where it stands. This one
//! bounds each count before it allocates, spends from one budget of values, and names the place.

use super::limits::{EXN_DEPTH_MAX, VALUES_MAX};

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) place: String,
    pub(super) problem: String,
}

impl Fault {
    /// This fault, seen from the part that holds the place.
    fn within(mut self, part: &str) -> Self {
        let dot = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        self.place = format!("{part}{dot}{}", self.place);
        self
    }
}

pub(super) type Read<T> = Result<T, Fault>;

/// A position in untrusted bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// How many more values may come.
    values: u64,
    /// How many more exceptions may be nested here.
    depth: u32,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes` from `pos` on.
    pub(super) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos, values: VALUES_MAX, depth: EXN_DEPTH_MAX }
    }

    pub(super) fn rest(&self) -> usize {
        self.bytes.len() - self.pos
    }

    pub(super) fn fault<T>(&self, problem: impl Into<String>) -> Read<T> {
        Err(Fault { offset: self.pos, place: String::new(), problem: problem.into() })
    }

    pub(super) fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        if len > self.rest() {
            return self.fault(format!("{len} bytes wanted, {} left", self.rest()));
        }
        let taken = &self.bytes[self.pos..self.pos + len];
        self.pos += len;
        Ok(taken)
    }

    /// An unsigned number of up to `bits` bits, seven to a byte, the lowest first; the top bit of a byte
    /// says that another follows.
    fn varint(&mut self, bits: u32) -> Read<u128> {
        let mut number = 0;
        for shift in (0..bits).step_by(7) {
            let byte = self.take(1)?[0];
            let part = u128::from(byte & 0x7f);
            if bits - shift < 7 && part >> (bits - shift) != 0 {
                return self.fault(format!("a number of over {bits} bits"));
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        self.fault(format!("a number of over {bits} bits"))
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        Ok(self.varint(32)? as u32)
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        Ok(self.varint(64)? as u64)
    }

    pub(super) fn u128(&mut self) -> Read<u128> {
        self.varint(128)
    }

    pub(super) fn bool(&mut self) -> Read<bool> {
        match self.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            other => self.fault(format!("{other} where 0 or 1 belongs")),
        }
    }

    /// Reads by `read` what is present.
    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        Ok(if self.bool()? { Some(read(self)?) } else { None })
    }

    pub(super) fn id(&mut self) -> Read<[u8; 32]> {
        let mut id = [0; 32];
        id.copy_from_slice(self.take(32)?);
        Ok(id)
    }

    /// A count of things of at least one byte each.
    fn count(&mut self, max: u64) -> Read<usize> {
        let count = self.u64()?;
        if count > max {
            return self.fault(format!("{count}, over the limit of {max}"));
        }
        if count > self.rest() as u64 {
            return self.fault(format!("{count} wanted, {} bytes left", self.rest()));
        }
        Ok(count as usize)
    }

    pub(super) fn bytes(&mut self, max: u64) -> Read<Vec<u8>> {
        let len = self.count(max)?;
        Ok(self.take(len)?.to_vec())
    }

    pub(super) fn string(&mut self, max: u64) -> Read<String> {
        match String::from_utf8(self.bytes(max)?) {
            Ok(text) => Ok(text),
            Err(_) => self.fault("text that is not UTF-8"),
        }
    }

    /// Reads the part `name` by `read`; a fault in it names it.
    pub(super) fn part<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        read(self).map_err(|fault| fault.within(name))
    }

    /// Reads up to `max` things, each by `read`. What is allocated follows what has been read.
    pub(super) fn list<T>(&mut self, max: u64, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.count(max)?;
        let mut items = Vec::with_capacity(count.min(64));
        for n in 0..count {
            items.push(read(self).map_err(|fault| fault.within(&format!("[{n}]")))?);
        }
        Ok(items)
    }

    /// Takes one value off the budget.
    pub(super) fn spend(&mut self) -> Read<()> {
        match self.values.checked_sub(1) {
            Some(left) => self.values = left,
            None => return self.fault(format!("over {VALUES_MAX} values in all")),
        }
        Ok(())
    }

    /// Reads something that may hold its like, one level deeper.
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        match self.depth.checked_sub(1) {
            Some(left) => self.depth = left,
            None => return self.fault(format!("exceptions nested over {EXN_DEPTH_MAX} deep")),
        }
        let result = read(self)?;
        self.depth += 1;
        Ok(result)
    }
}
