//! `cp`: files out of the private disks of a job.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::exit::{Exit, failure};
use super::store::StoreArgs;
use wasm_ckpt::JobName;
use wasm_ckpt::job::{JobError, StoredDisks};
use wasm_ckpt::wasi::Filetype;

/// Copy a file or directory out of the private disks of a job
///
/// It is that of the job's last snapshot or, if it has ended, of its end; the job may be running meanwhile. A file
/// goes to standard output (`-`), into a file, or into a directory that exists; a directory becomes a new one.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt cp nightly:/work/report.txt -
  wasm-ckpt cp nightly:/work/db.sqlite .
  wasm-ckpt cp nightly:/work/logs logs-of-tonight")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// The job, and a path of its program
    #[arg(value_name = "JOB:PATH")]
    from: String,

    /// Where to: `-`, a file, or a directory
    #[arg(value_name = "TO")]
    to: PathBuf,
}

/// Copies.
pub fn main(args: Args) -> Result<()> {
    let (job, path) = args.from.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
        failure(Exit::Usage, format!("`{}` names no file of a job", args.from), "write it as JOB:/PATH")
    })?;
    let job: JobName = job.parse()?;
    let disks = args.store.existing()?.disks(&job)?;
    let none = || JobError::NoFile { path: path.to_string() };
    let kind = disks.list(path).first().map(|(_, item)| item.kind).ok_or_else(none)?;
    if kind != Filetype::Directory {
        if args.to == Path::new("-") {
            let mut out = io::stdout().lock();
            disks.read(path, &mut |bytes| Ok(out.write_all(bytes)?))?;
            return Ok(out.flush()?);
        }
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let to = if args.to.is_dir() { args.to.join(name) } else { args.to.clone() };
        return super::whole::write(&to, 0o666, |file| copy(&disks, path, file, &to));
    }
    if args.to == Path::new("-") {
        let hint = "name a directory to be made, or `wasm-ckpt files` lists what is in it";
        return Err(failure(Exit::Usage, format!("`{path}` is a directory"), hint));
    }
    copy_directory(&disks, path, &args.to)
}

/// Writes a file's content.
fn copy(disks: &StoredDisks, path: &str, mut file: &File, to: &Path) -> Result<()> {
    let explain = || format!("cannot write `{}`", to.display());
    disks.read(path, &mut |bytes| file.write_all(bytes).with_context(explain))
}

/// Makes a new directory like the one at `path`. It is new, and links come last: so nothing that the guest has made
/// leads anywhere else.
fn copy_directory(disks: &StoredDisks, path: &str, to: &Path) -> Result<()> {
    let found = disks.list(path);
    let Some((top, _)) = found.first() else { bail!("`{path}` has gone") };
    let below = format!("{}/", top.trim_end_matches('/'));
    if let Some((other, _)) = found[1..].iter().find(|(guest, _)| !guest.starts_with(&below)) {
        let message = format!("`{path}` is above several disks, of which `{top}` and `{other}` are two");
        return Err(failure(Exit::Usage, message, "copy each of them by its own name"));
    }
    fs::create_dir(to).with_context(|| format!("cannot make the directory `{}`", to.display()))?;
    let mut links = vec![];
    for (guest, item) in &found[1..] {
        let inside = &guest[below.len()..];
        let to = to.join(inside);
        match (item.kind, item.target) {
            (Filetype::Directory, _) => {
                fs::create_dir(&to)
                    .with_context(|| format!("cannot make the directory `{}`", to.display()))?;
            }
            (_, Some(target)) => links.push((to, target)),
            _ => {
                let explain = || format!("cannot write `{}`", to.display());
                copy(disks, guest, &File::create_new(&to).with_context(explain)?, &to)?;
            }
        }
    }
    for (to, target) in links {
        let explain = || format!("cannot make the symbolic link `{}`", to.display());
        std::os::unix::fs::symlink(target, &to).with_context(explain)?;
    }
    Ok(())
}
