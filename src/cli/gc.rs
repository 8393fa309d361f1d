//! `gc`: frees what nothing needs.

use anyhow::Result;
use serde_json::json;

use super::store::StoreArgs;

/// Free what no job needs any more, and make few packs of many small ones
///
/// Frees the snapshots that jobs have released (`--retain`), those of ended jobs, and those from before a job was begun
/// anew; rewrites packs most of which is not needed. Jobs may run beside it. A running job does the same for itself, a
/// little at a time; so this is for what ended jobs have left, or to have all of it free now.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt gc
  wasm-ckpt gc --json")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Print JSON: sizes in bytes
    #[arg(long)]
    json: bool,
}

/// Frees, and says what.
pub fn main(args: Args) -> Result<()> {
    let freed = args.store.existing()?.gc()?;
    // Rewriting can make packs bigger by some bytes.
    let net = freed.bytes as i128 - freed.new_bytes as i128;
    if args.json {
        let object = json!({
            "snapshots": freed.snapshots,
            "modules": freed.modules,
            "packs_removed": freed.packs,
            "bytes_removed": freed.bytes,
            "packs_written": freed.new_packs,
            "bytes_written": freed.new_bytes,
        });
        return super::print(&(serde_json::to_string_pretty(&object)? + "\n"));
    }
    super::print(&format!(
        "freed {net} bytes: {} snapshots, {} modules, {} packs ({} new ones hold what is needed of them)\n",
        freed.snapshots, freed.modules, freed.packs, freed.new_packs,
    ))
}
