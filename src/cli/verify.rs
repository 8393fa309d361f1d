//! `verify`: is what is stored whole?

use anyhow::Result;

use super::exit::{Exit, failure};
use super::export::snapshot_of;
use super::store::StoreArgs;
use wasm_ckpt::Jobs;
use wasm_ckpt::job::Inventory;
use wasm_ckpt::store::objects;

/// Check the whole store, or one job's last snapshot or a snapshot
///
/// Reads everything: packs, modules, snapshots, the logs of jobs, what they have read from pipes, and the output and disks
/// of those that have ended; and names what is damaged. Changes nothing, but for marking packs that are damaged,
/// so that new snapshots do not rely on them; jobs may run meanwhile.
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
            let chunks = jobs.unless_released(snapshot.id(), jobs.check(snapshot.state()))?;
            super::print(&format!("snapshot {} is whole: {chunks} chunks\n", snapshot.id()))
        }
        None => everything(&jobs),
    }
}

fn everything(jobs: &Jobs) -> Result<()> {
    let Inventory { jobs, snapshots, modules, packs, chunks, bytes, damaged } = jobs.verify()?;
    super::print(&format!(
        "{jobs} jobs, {snapshots} snapshots, {modules} modules, {packs} packs with {chunks} chunks ({bytes} bytes)\n",
    ))?;
    if damaged.is_empty() {
        return super::print("everything is whole\n");
    }
    for line in &damaged {
        super::print(&format!("damaged: {line}\n"))?;
    }
    let message = format!("{} things in the store are damaged", damaged.len());
    Err(failure(Exit::Damaged, message, "snapshots that are not named are whole, and can be resumed"))
}
