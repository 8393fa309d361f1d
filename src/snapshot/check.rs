//! The rules that every state keeps, beyond its shape. Checked before writing and after reading.
//!
//! Order and uniqueness make the form canonical: equal states have equal bytes. What the *module* allows
//! (an index that exists, a value of the right type) is not known here; the machine checks it.

use std::fmt::{Arguments, Display};

use super::limits::*;
use super::{Call, Exn, Frame, FrameKind, Identity, Memory, SnapshotError, State, Table, Value};
use crate::digest::ChunkId;

type Checked = Result<(), SnapshotError>;

/// Checks all rules of the format.
pub(super) fn check(state: &State) -> Checked {
    let State {
        identity: Identity { .. },
        fuel: _,
        call: Call { in_start: _, export, args },
        frames,
        memories,
        globals,
        tables,
        dropped_data,
        dropped_elems,
        sections,
        blobs,
    } = state;
    let mut values = Values { left: VALUES_MAX };
    at_most("call.export", export.len(), EXPORT_MAX)?;
    at_most("call.args", args.len(), ARGS_MAX)?;
    values.check(format_args!("call.args"), args)?;
    check_frames(frames, &mut values)?;
    at_most("memories", memories.len(), MEMORIES_MAX)?;
    for (index, Memory { len, root }) in memories.iter().enumerate() {
        check_content(format_args!("memories[{index}]"), *len, root)?;
    }
    ascending("globals", globals.iter().map(|(index, _)| index))?;
    values.check(format_args!("globals"), globals.iter().map(|(_, value)| value))?;
    at_most("tables", tables.len(), TABLES_MAX)?;
    ascending("tables", tables.iter().map(|table| table.index))?;
    tables.iter().try_for_each(|table| check_table(table, &mut values))?;
    for (place, dropped) in [("dropped_data", dropped_data), ("dropped_elems", dropped_elems)] {
        at_most(place, dropped.len(), SEGMENTS_MAX)?;
        ascending(place, dropped)?;
    }
    at_most("sections", sections.len(), SECTIONS_MAX)?;
    check_names("sections", sections.iter().map(|section| &*section.name))?;
    at_most("blobs", blobs.len(), BLOBS_MAX)?;
    check_names("blobs", blobs.iter().map(|blob| &*blob.name))?;
    let content =
        |blob: &super::Blob| check_content(format_args!("blobs.{}", blob.name), blob.len, &blob.root);
    blobs.iter().try_for_each(content)
}

/// How many more values the state may hold.
struct Values {
    left: u64,
}

impl Values {
    fn check<'a>(&mut self, place: Arguments<'_>, values: impl IntoIterator<Item = &'a Value>) -> Checked {
        values.into_iter().try_for_each(|value| self.check_value(place, value, 0))
    }

    fn check_value(&mut self, place: Arguments<'_>, value: &Value, depth: u32) -> Checked {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return invalid(place, format!("over {VALUES_MAX} values in all")),
        }
        let Value::Exn(Some(exn)) = value else { return Ok(()) };
        if depth == EXN_DEPTH_MAX {
            return invalid(place, format!("exceptions nested over {EXN_DEPTH_MAX} deep"));
        }
        let Exn { tag: _, fields } = &**exn;
        fields.iter().try_for_each(|field| self.check_value(place, field, depth + 1))
    }
}

fn check_frames(frames: &[Frame], values: &mut Values) -> Checked {
    at_most("frames", frames.len(), FRAMES_MAX)?;
    for (n, Frame { func: _, offset, kind, locals, stack }) in frames.iter().enumerate() {
        let place = format_args!("frames[{n}]");
        if (*kind == FrameKind::Call) != (n + 1 < frames.len()) {
            return invalid(place, "all frames but the innermost are in a call, and it alone is not");
        }
        let fresh = matches!(kind, FrameKind::Entry | FrameKind::Import);
        if fresh && !stack.is_empty() {
            return invalid(place, "the operand stack of a function that has not begun is not empty");
        }
        if *kind == FrameKind::Import {
            if *offset != 0 {
                return invalid(place, "an import has no offset");
            }
            if !locals.iter().map(|(index, _)| *index).eq(0..locals.len() as u32) {
                return invalid(place, "the arguments of an import are not all there, in order");
            }
        }
        ascending(format_args!("frames[{n}].locals"), locals.iter().map(|(index, _)| index))?;
        values.check(format_args!("frames[{n}].locals"), locals.iter().map(|(_, value)| value))?;
        values.check(format_args!("frames[{n}].stack"), stack)?;
    }
    Ok(())
}

fn check_table(Table { index, runs }: &Table, values: &mut Values) -> Checked {
    let place = format_args!("tables.{index}");
    let mut len = 0_u64;
    for (n, (count, value)) in runs.iter().enumerate() {
        len = len.saturating_add(*count);
        if *count == 0 || n > 0 && runs[n - 1].1 == *value {
            return invalid(place, format!("run {n} is empty, or goes on with the value before it"));
        }
        if !matches!(value, Value::Func(_) | Value::Exn(_) | Value::Null) {
            return invalid(place, format!("the value of run {n} is not a reference"));
        }
    }
    if len > TABLE_LEN_MAX {
        return invalid(place, format!("{len} elements, over the limit of {TABLE_LEN_MAX}"));
    }
    values.check(place, runs.iter().map(|(_, value)| value))
}

fn check_content(place: impl Display, len: u64, root: &ChunkId) -> Checked {
    if len > LEN_MAX {
        return invalid(place, format!("{len} bytes, over the limit of {LEN_MAX}"));
    }
    if len == 0 && *root != ChunkId::ZERO {
        return invalid(place, "no bytes, but a root");
    }
    Ok(())
}

/// Names are ascending, short, and can be shown on a terminal.
fn check_names<'a>(place: &str, names: impl Iterator<Item = &'a str> + Clone) -> Checked {
    for name in names.clone() {
        if name.is_empty() || name.chars().any(char::is_control) {
            return invalid(place, format!("the name {name:?} is empty or has control characters"));
        }
        at_most(place, name.len(), NAME_MAX)?;
    }
    ascending(place, names)
}

fn at_most(place: impl Display, count: usize, max: u64) -> Checked {
    if count as u64 <= max {
        return Ok(());
    }
    invalid(place, format!("{count}, over the limit of {max}"))
}

fn ascending<T: PartialOrd>(place: impl Display, items: impl IntoIterator<Item = T>) -> Checked {
    if items.into_iter().is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    invalid(place, "not in ascending order")
}

fn invalid(place: impl Display, problem: impl Into<String>) -> Checked {
    Err(SnapshotError::Invalid { place: place.to_string(), problem: problem.into() })
}
