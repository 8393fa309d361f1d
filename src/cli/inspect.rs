//! `inspect`: what a paused program is.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value as Json, json};

use super::cost;
use super::export::snapshot_of;
use super::names::Names;
use super::store::StoreArgs;
use wasm_ckpt::job::{Commit, Printed, shown_value, wasi_state};
use wasm_ckpt::snapshot::{Extents, Frame, FrameKind, Memory, State};
use wasm_ckpt::store::objects;
use wasm_ckpt::wasi::{self, Descriptor};
use wasm_ckpt::{Jobs, Value};

/// Show a snapshot: call stack with locals, memories, open files, sizes
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt inspect nightly
  wasm-ckpt inspect 3f9a12c0 --json")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Print JSON: sizes in bytes, values as text
    #[arg(long)]
    json: bool,

    /// Show all frames of the call stack, not only the 50 innermost and outermost
    #[arg(long)]
    all: bool,

    /// A job (its last snapshot), a snapshot id or its first digits, or @FILE with an id
    what: String,
}

/// Shows.
pub fn main(args: Args) -> Result<()> {
    let jobs = args.store.existing()?;
    let snapshot = snapshot_of(&jobs, &args.what)?;
    let state = snapshot.state();
    // Without the module it is the same with numbers for names.
    let module = objects::get_module(&**jobs.store(), state.identity.module).unwrap_or_default();
    let names = Names::of(&module);
    let view = View {
        memories: jobs.unless_released(snapshot.id(), memories(&jobs, state))?,
        printed: Printed::of_state(state)?,
        wasi: wasi_state(state)?,
        cost: cost::of(&jobs, snapshot.id()),
        state,
        names: &names,
    };
    let (id, manifest) = (snapshot.id().to_string(), snapshot.manifest().len());
    let text = match args.json {
        true => serde_json::to_string_pretty(&view.json(&id, manifest))? + "\n",
        false => view.text(&id, manifest, if args.all { usize::MAX } else { 50 }),
    };
    super::print(&text)
}

struct View<'a> {
    state: &'a State,
    names: &'a Names,
    /// What is not zero in the memories of the state.
    memories: Vec<Extents>,
    printed: Printed,
    wasi: Option<wasi::State>,
    /// What it cost the job that has taken it.
    cost: Option<Commit>,
}

const PAGE: u64 = wasm_ckpt::snapshot::PAGE as u64;
/// Runs of pages that are told.
const RUNS_MAX: usize = 1000;

fn memories(jobs: &Jobs, state: &State) -> Result<Vec<Extents>> {
    let extents = |memory: &Memory| {
        let fetch = &mut |id| Ok(jobs.chunks().read(id)?);
        Ok(Extents::of(memory.root, memory.len, RUNS_MAX, fetch)?)
    };
    state.memories.iter().map(extents).collect()
}

impl View<'_> {
    fn text(&self, id: &str, manifest: usize, frames: usize) -> String {
        let State { identity, fuel, call, globals, tables, .. } = self.state;
        let mut text = String::new();
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "{label:10} {value}");
        };
        line("snapshot", id.to_string());
        line("module", identity.module.to_string());
        line(
            "settings",
            format!(
                "fuel cost model v{}, canonical NaNs {}, deterministic relaxed SIMD {}",
                identity.cost_model,
                on(identity.canonical_nans),
                on(identity.deterministic_relaxed_simd)
            ),
        );
        line("fuel", fuel.to_string());
        let args: Vec<_> = call.args.iter().map(shown_value).collect();
        let start = if call.in_start { " (in the start function before it)" } else { "" };
        line("call", format!("{}({}){start}", call.export, args.join(", ")));
        line("manifest", format!("{manifest} bytes"));
        if let Some(commit) = &self.cost {
            let by = commit.source.map_or(String::new(), |source| format!(" (dirty pages by {source})"));
            let how = commit.restored.map_or(String::new(), |how| format!(" (after a {how} restore)"));
            line("cost", format!("{}{by}{how}", cost::line(commit)));
        }
        for (index, (memory, found)) in self.state.memories.iter().zip(&self.memories).enumerate() {
            let (len, Extents { pages, count, runs }) = (memory.len, found);
            line("memory", format!("{index}: {len} bytes, {pages} of {} pages not zero", len.div_ceil(PAGE)));
            for (start, end) in runs.iter().take(8) {
                line("", format!("   {start:#010x}..{end:#010x}  {} bytes", end - start));
            }
            if *count > 8 {
                line("", format!("   and {} more ranges", count - 8));
            }
        }
        line("globals", format!("{} that can change", globals.len()));
        for (index, value) in globals.iter().take(8) {
            line("", format!("{index}: {}", typed(value)));
        }
        for table in tables {
            let len: u64 = table.runs.iter().map(|(count, _)| count).sum();
            line("table", format!("{}: {len} elements", table.index));
        }
        for (name, stream) in ["stdout", "stderr"].iter().zip(self.printed.streams) {
            line(name, format!("{} bytes printed, {} kept", stream.written, stream.kept));
        }
        if let Some(wasi) = &self.wasi {
            line("stdin", format!("{} bytes read", wasi.streams.stdin_read));
            for (fd, descriptor) in &wasi.descriptors {
                if let Some(shown) = shown_descriptor(wasi, descriptor) {
                    line("open", format!("{fd}: {shown}"));
                }
            }
        }
        text += &self.backtrace(frames);
        text
    }

    /// The call stack, innermost first.
    fn backtrace(&self, most: usize) -> String {
        let frames = &self.state.frames;
        let mut text = format!("call stack, innermost first: {} frames\n", frames.len());
        for (nth, frame) in frames.iter().rev().enumerate() {
            if nth >= most && frames.len() - nth > most {
                if nth == most {
                    let _ = writeln!(text, "  … {} frames", frames.len() - 2 * most);
                }
                continue;
            }
            let _ = writeln!(
                text,
                "  #{nth} {} ({}, byte {:#x}, {})",
                self.names.function(frame.func),
                frame.func,
                frame.offset,
                shown_kind(frame.kind)
            );
            for (local, value) in &frame.locals {
                let name = self.names.of_local(frame.func, *local).map_or(String::new(), |n| format!(" {n}"));
                let _ = writeln!(text, "       local {local}{name} = {}", typed(value));
            }
            if !frame.stack.is_empty() {
                let values: Vec<_> = frame.stack.iter().map(typed).collect();
                let _ = writeln!(text, "       stack: {}", values.join(", "));
            }
        }
        text
    }

    fn json(&self, id: &str, manifest: usize) -> Json {
        let State { identity, fuel, call, frames, globals, tables, .. } = self.state;
        let memories: Vec<_> = self
            .memories
            .iter()
            .zip(&self.state.memories)
            .map(|(found, m)| json!({ "len": m.len, "pages": found.pages, "ranges": found.runs }))
            .collect();
        let tables: Vec<_> = tables
            .iter()
            .map(|t| json!({ "index": t.index, "len": t.runs.iter().map(|(n, _)| n).sum::<u64>() }))
            .collect();
        let open: Vec<_> = self
            .wasi
            .iter()
            .flat_map(|wasi| wasi.descriptors.iter().map(move |(fd, d)| (fd, wasi, d)))
            .filter_map(|(fd, wasi, d)| {
                shown_descriptor(wasi, d).map(|what| json!({ "fd": fd, "what": what }))
            })
            .collect();
        let [stdout, stderr] = self.printed.streams.map(|s| json!({ "written": s.written, "kept": s.kept }));
        json!({
            "snapshot": id,
            "module": identity.module.to_string(),
            "cost_model": identity.cost_model,
            "canonical_nans": identity.canonical_nans,
            "deterministic_relaxed_simd": identity.deterministic_relaxed_simd,
            "fuel": fuel,
            "call": {
                "function": call.export,
                "args": call.args.iter().map(typed).collect::<Vec<_>>(),
                "in_start": call.in_start,
            },
            "manifest_bytes": manifest,
            "cost": self.cost.as_ref().map(cost::json),
            "memories": memories,
            "globals": globals.iter().map(|(i, v)| json!([i, typed(v)])).collect::<Vec<_>>(),
            "tables": tables,
            "stdin_read": self.wasi.as_ref().map(|wasi| wasi.streams.stdin_read),
            "stdout": stdout,
            "stderr": stderr,
            "open": open,
            "frames": frames.iter().rev().map(|f| self.frame_json(f)).collect::<Vec<_>>(),
        })
    }

    fn frame_json(&self, frame: &Frame) -> Json {
        let local = |(index, value): &(u32, Value)| json!({ "index": index, "name": self.names.of_local(frame.func, *index), "value": typed(value) });
        json!({
            "function": frame.func,
            "name": self.names.of_function(frame.func),
            "offset": frame.offset,
            "at": shown_kind(frame.kind),
            "locals": frame.locals.iter().map(local).collect::<Vec<_>>(),
            "stack": frame.stack.iter().map(typed).collect::<Vec<_>>(),
        })
    }
}

fn on(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn shown_kind(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Entry => "function entry",
        FrameKind::Loop => "loop",
        FrameKind::Call => "call",
        FrameKind::Import => "import",
    }
}

/// A value with its type.
fn typed(value: &Value) -> String {
    let ty = match value {
        Value::I32(_) => "i32",
        Value::I64(_) => "i64",
        Value::F32(_) => "f32",
        Value::F64(_) => "f64",
        Value::V128(_) => "v128",
        Value::Func(_) => "funcref",
        Value::Exn(_) => "exnref",
        Value::Null => "ref",
    };
    format!("{ty} {}", shown_value(value))
}

/// An open file or directory in words; nothing for the three streams.
fn shown_descriptor(wasi: &wasi::State, descriptor: &Descriptor) -> Option<String> {
    let access = |access: &wasi::Access| match (access.readable, access.writable) {
        (_, false) => "read",
        (false, true) => "write",
        (true, true) => "read and write",
    };
    let disk = |disk: u32| wasi.disks.get(disk as usize).map_or("?", |disk| disk.guest.as_str());
    Some(match descriptor {
        Descriptor::Stream(_) => return None,
        Descriptor::DiskDirectory { disk: on, preopen: true, .. } => {
            format!("{}/ (private disk)", disk(*on).trim_end_matches('/'))
        }
        Descriptor::DiskDirectory { disk: on, ino, .. } => format!("directory {ino} of disk {}", disk(*on)),
        Descriptor::DiskFile { disk: on, ino, access: how, position } => {
            format!("file {ino} of disk {} at byte {position} ({})", disk(*on), access(how))
        }
        Descriptor::Directory(dir) => format!("{}/", wasi.guest_path(&dir.place).trim_end_matches('/')),
        Descriptor::File(file) => {
            let path = wasi.guest_path(&file.place);
            let how = access(&file.access);
            let gone = if file.gone { ", removed" } else { "" };
            format!("{path} at byte {} of {} ({how}{gone})", file.position, file.identity.size)
        }
    })
}
