//! `verify`: is what is stored whole?

use std::collections::HashSet;

use anyhow::Result;

use super::common::StoreArgs;
use super::exit::{Exit, Failure};
use super::export::snapshot_of;
use wasm_ckpt::Jobs;
use wasm_ckpt::store::objects;

/// Check the whole store, or one job's last snapshot or a snapshot
///
/// Reads everything: packs, modules, snapshots and the logs of jobs, and names what is damaged. Changes nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt verify
  wasm-ckpt verify nightly")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// A job, a snapshot id or its first digits, or @FILE with an id [default: everything]
    what: Option<String>,
}

/// Verifies, and says what was found.
pub fn main(args: Args) -> Result<()> {
    let jobs = args.store.existing()?;
    match &args.what {
        Some(what) => {
            let snapshot = snapshot_of(&jobs, what)?;
            objects::get_module(&**jobs.store(), snapshot.state().identity.module)?;
            let chunks = jobs.check(snapshot.state())?;
            super::print(&format!("snapshot {} is whole: {chunks} chunks\n", snapshot.id()))
        }
        None => everything(&jobs),
    }
}

fn everything(jobs: &Jobs) -> Result<()> {
    let mut damaged: Vec<String> = vec![];
    let (mut packs, mut chunks, mut bytes) = (0_u64, 0_u64, 0_u64);
    jobs.chunks().verify(&mut |report| {
        packs += 1;
        match report.result {
            Ok((count, size)) => (chunks, bytes) = (chunks + count, bytes + size),
            Err(error) => damaged.push(error.to_string()),
        }
    })?;
    let snapshots = jobs.snapshots()?;
    let mut modules = HashSet::new();
    for &id in &snapshots {
        let checked = jobs.snapshot(id).and_then(|snapshot| {
            modules.insert(snapshot.state().identity.module);
            jobs.check(snapshot.state())
        });
        if let Err(error) = checked {
            damaged.push(format!("snapshot {}: {error:#}", id.short()));
        }
    }
    let names = jobs.names()?;
    for name in &names {
        match jobs.history(name).and_then(|_| jobs.existing(name)) {
            Ok(status) => {
                modules.insert(status.begin.spec.module);
                if let Some(done) = &status.done {
                    for stream in 0..2 {
                        let fetch = &mut |id| Ok(jobs.chunks().read(id)?);
                        if let Err(error) = done.output.read(stream, fetch, &mut |_| Ok(())) {
                            damaged.push(format!("output of job `{name}`: {error:#}"));
                        }
                    }
                } else if let Some(id) = status.snapshot().filter(|id| !snapshots.contains(id)) {
                    damaged.push(format!("job `{name}` stands at snapshot {}, which is missing", id.short()));
                }
            }
            Err(error) => damaged.push(format!("{error:#}")),
        }
    }
    for &id in &modules {
        if let Err(error) = objects::get_module(&**jobs.store(), id) {
            damaged.push(format!("{error:#}"));
        }
    }
    super::print(&format!(
        "{} jobs, {} snapshots, {} modules, {packs} packs with {chunks} chunks ({bytes} bytes)\n",
        names.len(),
        snapshots.len(),
        modules.len(),
    ))?;
    if damaged.is_empty() {
        return super::print("everything is whole\n");
    }
    for line in &damaged {
        super::print(&format!("damaged: {line}\n"))?;
    }
    let message = format!("{} things in the store are damaged", damaged.len());
    Err(Failure::error(Exit::Damaged, message, "snapshots that are not named are whole, and can be resumed"))
}
