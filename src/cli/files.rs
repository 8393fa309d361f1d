//! `files`: what is on the private disks of a job.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;

use super::common;
use super::exit::{Exit, failure};
use super::store::StoreArgs;
use wasm_ckpt::JobName;
use wasm_ckpt::wasi::{Filetype, Item};

/// List the files on the private disks of a job
///
/// They are those of the job's last snapshot or, if it has ended, of its end; it may be running meanwhile. Each line
/// is kind and size in bytes, a `*` if it changed since the disk was filled, time of change (UTC, seconds since 1970),
/// and path. `wasm-ckpt cp` copies them out.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt files nightly
  wasm-ckpt files nightly /work/logs --json")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Only those that changed since the disk was filled
    #[arg(long)]
    changed: bool,

    /// Print JSON: sizes in bytes, times in ns since 1970
    #[arg(long)]
    json: bool,

    /// The job
    #[arg(value_name = "JOB", value_parser = common::parse_name)]
    job: JobName,

    /// A path of the program; everything at and below it
    #[arg(value_name = "PATH", default_value = "/")]
    path: String,
}

/// Lists.
pub fn main(args: Args) -> Result<()> {
    let disks = args.store.existing()?.disks(&args.job)?;
    let found = disks.list(&args.path);
    if found.is_empty() {
        let names: Vec<_> = disks.guests().map(|disk| format!("`{disk}`")).collect();
        let (message, hint) = match names.is_empty() {
            true => {
                (format!("job `{}` has no private disk", args.job), "`run --disk /PATH` gives it one".into())
            }
            false => (
                format!("there is no `{}` on the private disks of job `{}`", args.path, args.job),
                format!("its disks are {}", names.join(", ")),
            ),
        };
        return Err(failure(Exit::NotFound, message, hint));
    }
    let wanted = found.iter().filter(|(_, item)| item.changed || !args.changed);
    if args.json {
        let list: Vec<_> = wanted.map(|(path, item)| shown_json(path, item)).collect();
        return super::print(&format!("{}\n", serde_json::to_string(&list)?));
    }
    let mut text = String::new();
    for (path, item) in wanted {
        let (kind, changed) = (kind(item.kind), if item.changed { "*" } else { " " });
        let target = item.target.map_or(String::new(), |target| format!(" -> {}", target.escape_debug()));
        let seconds = item.mtim / 1_000_000_000;
        // Names are the guest's: nothing of them may reach a terminal as a command.
        writeln!(text, "{kind} {:>12} {changed} {seconds:>10} {}{target}", item.size, path.escape_debug())?;
    }
    super::print(&text)
}

fn kind(kind: Filetype) -> &'static str {
    match kind {
        Filetype::Directory => "dir ",
        Filetype::SymbolicLink => "link",
        _ => "file",
    }
}

fn shown_json(path: &str, item: &Item<'_>) -> serde_json::Value {
    json!({
        "path": path,
        "kind": kind(item.kind).trim_end(),
        "size": item.size,
        "links": item.nlink,
        "modified": item.mtim,
        "changed": item.changed,
        "target": item.target,
    })
}
