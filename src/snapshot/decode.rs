//! Manifest to state. The bytes are untrusted: hash before parse, every count bounded before it is used.

use super::check::check;
use super::encode::{FORMAT, HEADER, MAGIC, to_bytes};
use super::limits::*;
use super::reader::{Read, Reader};
use super::{
    Blob, Call, Exn, Frame, FrameKind, Identity, Memory, Section, SnapshotError, State, Table, Value,
};
use crate::digest::{ChunkId, ModuleId, SnapshotId};

/// A state that came out of a manifest by all checks. The only way to get one is [`decode`].
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    id: SnapshotId,
    state: State,
}

impl Verified {
    /// The snapshot's id.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, to keep.
    pub fn into_state(self) -> State {
        self.state
    }
}

/// Reads a manifest. With an `expected` id it must be the one of that name.
///
/// Checks, in this order: size, id, magic, format, length, shape and limits of the body, rules of the
/// state, canonical form. Allocates at most 100 bytes for each byte of the manifest, and under 1 GiB
/// whatever the manifest. Not known here, and for the machine to check: what the module allows.
///
/// # Errors
/// What is wrong and where, for any bytes whatever.
pub fn decode(manifest: &[u8], expected: Option<SnapshotId>) -> Result<Verified, SnapshotError> {
    let found = manifest.len() as u64;
    if found > MANIFEST_MAX {
        return Err(SnapshotError::TooLarge { found });
    }
    let id = SnapshotId::of(manifest);
    if let Some(expected) = expected.filter(|expected| *expected != id) {
        return Err(SnapshotError::WrongId { expected, found: id });
    }
    check_header(manifest)?;
    let mut reader = Reader::new(manifest, HEADER);
    let state = read_state(&mut reader).and_then(|state| match reader.rest() {
        0 => Ok(state),
        rest => reader.fault(format!("{rest} bytes behind the state")),
    });
    let state = state.map_err(|fault| SnapshotError::Malformed {
        offset: fault.offset as u64,
        place: if fault.place.is_empty() { "state".to_string() } else { fault.place },
        problem: fault.problem,
    })?;
    check(&state)?;
    let canonical = to_bytes(&state, manifest.len())?;
    if canonical != manifest {
        // The header has been checked; beyond it, the longer form begins where the bytes differ.
        let pairs = canonical.iter().zip(manifest).skip(HEADER);
        let offset = (HEADER + pairs.take_while(|(a, b)| a == b).count()) as u64;
        return Err(SnapshotError::NotCanonical { offset });
    }
    Ok(Verified { id, state })
}

fn check_header(manifest: &[u8]) -> Result<(), SnapshotError> {
    let found = manifest.len() as u64;
    if !manifest.starts_with(&MAGIC[..manifest.len().min(MAGIC.len())]) {
        let found = manifest[..manifest.len().min(MAGIC.len())].escape_ascii().to_string();
        return Err(SnapshotError::NotASnapshot { found });
    }
    let Some((header, body)) = manifest.split_at_checked(HEADER) else {
        return Err(SnapshotError::WrongLength { expected: HEADER as u64, found });
    };
    let format = u16::from_le_bytes([header[8], header[9]]);
    match format {
        0 => return Err(SnapshotError::UnknownFormat { found: format }),
        1..=FORMAT => {}
        _ => return Err(SnapshotError::NewerFormat { found: format, newest: FORMAT }),
    }
    let mut body_len = [0; 8];
    body_len.copy_from_slice(&header[10..]);
    let body_len = u64::from_le_bytes(body_len);
    if body_len != body.len() as u64 {
        let expected = body_len.saturating_add(HEADER as u64);
        return Err(SnapshotError::WrongLength { expected, found });
    }
    Ok(())
}

fn read_state(r: &mut Reader<'_>) -> Read<State> {
    Ok(State {
        identity: r.part("identity", read_identity)?,
        fuel: r.part("fuel", Reader::u64)?,
        call: r.part("call", read_call)?,
        frames: r.part("frames", |r| r.list(FRAMES_MAX, read_frame))?,
        memories: r.part("memories", |r| r.list(MEMORIES_MAX, read_memory))?,
        globals: r.part("globals", |r| r.list(VALUES_MAX, read_indexed))?,
        tables: r.part("tables", |r| r.list(TABLES_MAX, read_table))?,
        dropped_data: r.part("dropped_data", |r| r.list(SEGMENTS_MAX, Reader::u32))?,
        dropped_elems: r.part("dropped_elems", |r| r.list(SEGMENTS_MAX, Reader::u32))?,
        sections: r.part("sections", |r| r.list(SECTIONS_MAX, read_section))?,
        blobs: r.part("blobs", |r| r.list(BLOBS_MAX, read_blob))?,
    })
}

fn read_identity(r: &mut Reader<'_>) -> Read<Identity> {
    Ok(Identity {
        module: ModuleId::from_bytes(r.id()?),
        cost_model: r.u32()?,
        canonical_nans: r.bool()?,
        deterministic_relaxed_simd: r.bool()?,
    })
}

fn read_call(r: &mut Reader<'_>) -> Read<Call> {
    Ok(Call {
        in_start: r.bool()?,
        export: r.part("export", |r| r.string(EXPORT_MAX))?,
        args: r.part("args", |r| r.list(ARGS_MAX, read_value))?,
    })
}

fn read_frame(r: &mut Reader<'_>) -> Read<Frame> {
    Ok(Frame {
        func: r.u32()?,
        offset: r.u64()?,
        kind: r.part("kind", read_kind)?,
        locals: r.part("locals", |r| r.list(VALUES_MAX, read_indexed))?,
        stack: r.part("stack", |r| r.list(VALUES_MAX, read_value))?,
    })
}

fn read_kind(r: &mut Reader<'_>) -> Read<FrameKind> {
    Ok(match r.u32()? {
        0 => FrameKind::Entry,
        1 => FrameKind::Loop,
        2 => FrameKind::Call,
        3 => FrameKind::Import,
        other => return r.fault(format!("no kind of frame has number {other}")),
    })
}

fn read_indexed(r: &mut Reader<'_>) -> Read<(u32, Value)> {
    Ok((r.u32()?, read_value(r)?))
}

fn read_value(r: &mut Reader<'_>) -> Read<Value> {
    r.spend()?;
    Ok(match r.u32()? {
        0 => Value::I32(r.u32()?),
        1 => Value::I64(r.u64()?),
        2 => Value::F32(r.u32()?),
        3 => Value::F64(r.u64()?),
        4 => Value::V128(r.u128()?),
        5 => Value::Func(r.option(Reader::u32)?),
        6 => Value::Exn(r.option(|r| r.deeper(read_exn).map(Box::new))?),
        7 => Value::Null,
        other => return r.fault(format!("no kind of value has number {other}")),
    })
}

fn read_exn(r: &mut Reader<'_>) -> Read<Exn> {
    Ok(Exn { tag: r.u32()?, fields: r.part("fields", |r| r.list(VALUES_MAX, read_value))? })
}

fn read_memory(r: &mut Reader<'_>) -> Read<Memory> {
    Ok(Memory { len: r.u64()?, root: ChunkId::from_bytes(r.id()?) })
}

fn read_table(r: &mut Reader<'_>) -> Read<Table> {
    let index = r.u32()?;
    let run = |r: &mut Reader<'_>| Ok((r.u64()?, read_value(r)?));
    Ok(Table { index, runs: r.part("runs", |r| r.list(VALUES_MAX, run))? })
}

fn read_section(r: &mut Reader<'_>) -> Read<Section> {
    Ok(Section {
        name: r.part("name", |r| r.string(NAME_MAX))?,
        version: r.u32()?,
        bytes: r.part("bytes", |r| r.bytes(MANIFEST_MAX))?,
    })
}

fn read_blob(r: &mut Reader<'_>) -> Read<Blob> {
    Ok(Blob {
        name: r.part("name", |r| r.string(NAME_MAX))?,
        len: r.u64()?,
        root: ChunkId::from_bytes(r.id()?),
    })
}
