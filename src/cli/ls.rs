//! `ls`: the jobs of the store, or the snapshots of one.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::json;

use super::common;
use super::cost;
use super::exit::printable;
use super::store::StoreArgs;
use wasm_ckpt::job::{Ending, Event, Status};
use wasm_ckpt::{JobName, Jobs};

/// List the jobs, or the snapshots of a job
///
/// A job is `running` (a live process has it), `paused` (it was left in good order, here or where it comes from),
/// `interrupted` (its process died), or has ended: `exit CODE`, `returned`, `trapped`.
///
/// Of a snapshot: the program's memory; the pages of it that were dirty, that is, may have changed since the one
/// before, and how they were found; what it has added to the store; for how long the program stood still; and when,
/// counted from then, it was durable. The program runs on meanwhile.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt ls
  wasm-ckpt ls --snapshots nightly --json")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// List the snapshots of this job, oldest first
    #[arg(long, value_name = "JOB", value_parser = common::parse_name)]
    snapshots: Option<JobName>,

    /// Print JSON: times in ms since 1970 or µs, sizes in bytes
    #[arg(long)]
    json: bool,
}

/// So many characters of a command are shown.
const COMMAND_MAX: usize = 200;

/// Lists.
pub fn main(args: Args) -> Result<()> {
    if let Some(job) = &args.snapshots {
        return snapshots(&args.store.existing()?, job, args.json);
    }
    let text = match args.store.if_any()? {
        Some(jobs) => list(&jobs, args.json)?,
        None => {
            eprintln!("wasm-ckpt: there is no store in `{}` yet", args.store.place()?);
            if args.json { "[]\n".to_string() } else { String::new() }
        }
    };
    super::print(&text)
}

fn list(jobs: &Jobs, json: bool) -> Result<String> {
    let mut rows = vec![];
    let mut objects = vec![];
    for name in jobs.names()? {
        let found = jobs.existing(&name).and_then(|status| Ok((status, jobs.kept(&name)?)));
        let (status, kept) = match found {
            Ok(found) => found,
            Err(error) => {
                // One broken job must not hide the others.
                rows.push([
                    name.to_string(),
                    "damaged".into(),
                    String::new(),
                    String::new(),
                    String::new(),
                    format!("{error}"),
                ]);
                objects.push(json!({ "job": name.as_str(), "state": "damaged", "error": error.to_string() }));
                continue;
            }
        };
        let state = state(jobs, &name, &status)?;
        rows.push([
            name.to_string(),
            state.clone(),
            status.fuel().to_string(),
            kept.to_string(),
            ago(status.changed),
            printable(&status.begin.spec.shown(), COMMAND_MAX),
        ]);
        objects.push(json!({
            "job": name.as_str(),
            "state": state,
            "fuel": status.fuel(),
            "snapshots": kept,
            "snapshot": status.snapshot().map(|id| id.to_string()),
            "began": status.began,
            "changed": status.changed,
            "command": status.begin.spec.shown(),
            "module": status.begin.spec.module.to_string(),
        }));
    }
    if json {
        return Ok(serde_json::to_string_pretty(&objects)? + "\n");
    }
    if rows.is_empty() {
        return Ok(String::new());
    }
    let head = ["JOB", "STATE", "FUEL", "SNAPSHOTS", "CHANGED", "COMMAND"].map(str::to_string);
    Ok(table(head, &rows))
}

fn state(jobs: &Jobs, name: &JobName, status: &Status) -> Result<String> {
    Ok(match &status.done {
        Some(done) => shown_ending(&done.ending),
        None if jobs.is_held(name)? => "running".to_string(),
        // One that has come from elsewhere was paused there.
        None if status.stopped || status.claim.is_none() && status.snapshot().is_some() => {
            "paused".to_string()
        }
        None => "interrupted".to_string(),
    })
}

/// How a program ended, in a word or two.
pub fn shown_ending(ending: &Ending) -> String {
    match ending {
        Ending::Returned(values) if values.is_empty() => "exit 0".to_string(),
        Ending::Returned(_) => "returned".to_string(),
        Ending::Exited(code) => format!("exit {code}"),
        Ending::Trapped { .. } => "trapped".to_string(),
    }
}

fn snapshots(jobs: &Jobs, name: &JobName, json: bool) -> Result<()> {
    jobs.existing(name)?;
    let mut rows = vec![];
    let mut objects = vec![];
    for entry in jobs.history(name)? {
        let Event::Commit(commit) = entry.event else { continue };
        rows.push([
            commit.snapshot.short(),
            commit.fuel.to_string(),
            ago(entry.time),
            cost::size(commit.memory),
            commit.dirty_bytes.map_or("-".to_string(), cost::size),
            cost::size(cost::stored(&commit)),
            cost::time(commit.pause_us),
            Some(commit.durable_us).filter(|us| *us > 0).map_or("-".to_string(), cost::time),
            commit.source.map_or("-".to_string(), |source| source.to_string()),
        ]);
        let mut object = cost::json(&commit);
        object["snapshot"] = json!(commit.snapshot.to_string());
        object["fuel"] = json!(commit.fuel);
        object["time"] = json!(entry.time);
        objects.push(object);
    }
    if json {
        return super::print(&(serde_json::to_string_pretty(&objects)? + "\n"));
    }
    let head = ["SNAPSHOT", "FUEL", "TAKEN", "MEMORY", "DIRTY", "STORED", "PAUSE", "DURABLE", "DIRTY BY"];
    let head = head.map(str::to_string);
    super::print(&table(head, &rows))
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(head: [String; N], rows: &[[String; N]]) -> String {
    let all = || std::iter::once(&head).chain(rows);
    let mut text = String::new();
    for row in all() {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == N {
                text += cell;
                break;
            }
            let width = all().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A time in ms since 1970, as how long ago it was.
fn ago(time: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    match now.saturating_sub(time) / 1000 {
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7200 => format!("{} min ago", s / 60),
        s @ 7200..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}
