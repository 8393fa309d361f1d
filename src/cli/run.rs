//! `run`: a program, from its start or from where it was interrupted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::common::{self, How, RunArgs};
use super::exit::{Exit, failure};
use super::value;
use wasm_ckpt::job::{JobError, START, SpecDir, SpecDisk};
use wasm_ckpt::machine::NoFunction;
use wasm_ckpt::wasi::{ClockMode, Stdin};
use wasm_ckpt::{Functions, JobName, Module, Spec};

/// Run a program; the same command again goes on where it was interrupted
///
/// The program is a `.wasm` file for wasm32-wasip1, run as it is. A run is a job in the store. It is known by
/// what is run: module, arguments, environment, directories, disks, seed, clock, working directory and a file on
/// standard input.
/// When it was interrupted, by whatever, the same command goes on from the last snapshot, and says so; when it
/// has ended, the same command starts anew. With `--job NAME`, an ended job gives its stored output and exit
/// code instead.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt run --dir data::/data prog.wasm --input /data/in.txt
  wasm-ckpt run --job nightly --every 5m prog.wasm > report.txt
  wasm-ckpt run --invoke fib fib.wasm 30

Exit code: the program's own, 75 when paused, 134 for a trap; `wasm-ckpt --help` lists all.")]
pub struct Args {
    #[command(flatten)]
    common: RunArgs,

    /// Give the program a host directory: the path on the host, the program's name for it (the same, unless
    /// told), and `:ro` if it may not write there; can be repeated
    #[arg(long, value_name = "HOST[::GUEST][:ro]", value_parser = common::parse_dir)]
    dir: Vec<SpecDir>,

    /// Give the program a private disk: a directory that is part of the snapshot and goes back with it, whatever
    /// becomes of this host's files; empty, or filled at the start from a directory or a tar archive; can be
    /// repeated. `wasm-ckpt files` and `cp` look into it, `--sync-out` writes it out
    #[arg(long, value_name = "GUEST[=SOURCE]", value_parser = parse_disk)]
    disk: Vec<(String, Option<String>)>,

    /// Room on each private disk: a number of bytes, or with K, M, G or T
    #[arg(long, value_name = "BYTES", default_value = "16G", value_parser = common::parse_size)]
    disk_limit: u64,

    /// Give the program an environment variable; without a value, that of this environment; can be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Call this exported function with the arguments, instead of the program's start, and print its results
    #[arg(long, value_name = "FUNCTION")]
    invoke: Option<String>,

    /// Name of the job, by which it is found whatever the working directory [default: made of what is run]
    #[arg(long, value_name = "NAME", value_parser = common::parse_name)]
    job: Option<JobName>,

    /// Start anew, whatever there is under the name
    #[arg(long)]
    new: bool,

    /// Seed of the program's random numbers: a whole number, or 64 hex digits [default: from the system]
    #[arg(long, value_name = "SEED", value_parser = parse_seed)]
    seed: Option<[u8; 32]>,

    /// Which time the program is given: `host`; `virtual`, which follows the fuel (1 ns a unit) and waits for
    /// nothing; or `fixed`, which stands but for 1 us a look. The last two make a run a function of its inputs,
    /// and begin at 2000-01-01, unless told (`virtual=SECONDS`, since 1970)
    #[arg(long, value_name = "CLOCK", default_value = "host", value_parser = parse_clock)]
    clock: ClockMode,

    /// Give NaNs the same bits on every instruction set, so that snapshots of floating-point programs have the same ids
    /// there; such code takes 2 to 4 times as long. Without it they are the same on machines of one instruction set
    #[arg(long)]
    canonical_nans: bool,

    /// Go on even if files that the program had read or open, or its file on standard input, have changed in a way that
    /// cannot be mended
    #[arg(long, visible_alias = "force")]
    accept_changed: bool,

    /// The program, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FILE.wasm [ARG]..."
    )]
    program: Vec<std::ffi::OsString>,
}

/// Runs, and gives the exit code.
pub fn main(args: Args) -> Result<u8> {
    let path = PathBuf::from(&args.program[0]);
    let wasm = common::read_module(&path)?;
    let mut module = args.common.compile(&wasm, args.canonical_nans, None)?;
    let spec = spec(&args, &path, &module)?;
    let disks: Vec<String> = spec.disks.iter().map(|disk| disk.guest.clone()).collect();
    for sync_out in &args.common.sync_out {
        let which = "`--disk GUEST` gives it one, and `--sync-out GUEST=DIR` says which is meant";
        sync_out.disk(&disks).map_err(|error| failure(Exit::Usage, error.to_string(), which))?;
    }
    let stdin = Stdin::inherit().context("standard input cannot be used")?;
    let jobs = args.common.open()?;
    let name = match &args.job {
        Some(name) => name.clone(),
        None => derived_name(&spec, &stdin, &path)?,
    };
    let mut job = jobs.hold(&name)?;
    let mut greeting = None;
    let status = job.status().filter(|_| !args.new).cloned();
    match status {
        Some(status) => {
            let differences = status.begin.spec.differences(&spec);
            // A derived name is a hash of the command, so this is about given ones.
            if !differences.is_empty() {
                return Err(JobError::OtherCommand { job: name, differences }.into());
            }
            match (&status.done, args.job.is_some()) {
                (Some(_), true) => {
                    args.common.say(&format!("job `{name}` has ended: this is its stored output"));
                    return args.common.replay(&mut job);
                }
                (Some(_), false) if args.common.owes(&mut job)? => {
                    args.common.say(&format!("job `{name}` has ended: this is the rest of its output"));
                    return args.common.replay(&mut job);
                }
                (Some(_), false) => begin(&mut job, &wasm, &module, spec)?,
                (None, _) => {
                    let from = status.snapshot().map_or("the start".to_string(), |id| {
                        format!("fuel {} (snapshot {})", status.fuel(), id.short())
                    });
                    let was = if status.stopped { "paused" } else { "interrupted" };
                    greeting = Some(format!("job `{name}` was {was}: going on from {from}"));
                    // It may have begun with an earlier version.
                    if let Some(snapshot) = job.snapshot()?
                        && let identity = &snapshot.state().identity
                        && *identity != module.identity()
                    {
                        module = args.common.compile(&wasm, args.canonical_nans, Some(identity))?;
                    }
                }
            }
        }
        None => begin(&mut job, &wasm, &module, spec)?,
    }
    let how = How { stdin, dirs: vec![], accept_changed: args.accept_changed, greeting };
    args.common.run(job, &wasm, &module, how)
}

/// Begins the job, if it can be run at all.
fn begin(job: &mut wasm_ckpt::Job, wasm: &[u8], module: &Module, spec: Spec) -> Result<()> {
    spec.check(module, &Functions::new())?;
    job.begin(wasm, spec)
}

fn spec(args: &Args, path: &Path, module: &Module) -> Result<Spec> {
    let mut given = vec![];
    for arg in &args.program[1..] {
        given.push(arg.to_str().map(str::to_string).ok_or_else(|| {
            let message = format!("the argument {arg:?} is not UTF-8, and programs take nothing else");
            failure(Exit::Usage, message, "give another argument")
        })?);
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut spec = Spec::program(module.id(), &name);
    spec.seed = args.seed;
    spec.clock = args.clock;
    spec.canonical_nans = args.canonical_nans;
    let disk = |(guest, source): &(String, Option<String>)| {
        let source = source.as_deref().map(resolve_source).transpose()?;
        Ok(SpecDisk { guest: guest.clone(), source, limit: args.disk_limit })
    };
    spec.disks = args.disk.iter().map(disk).collect::<Result<_>>()?;
    spec.dirs = args.dir.iter().map(common::resolve_dir).collect::<Result<_>>()?;
    spec.env = args.env.iter().map(|text| variable(text)).collect::<Result<_>>()?;
    let function = args.invoke.as_deref().unwrap_or(START);
    let ty = module.function(function).ok_or_else(|| NoFunction {
        wanted: function.to_string(),
        found: module.functions().map(|(name, _)| name.to_string()).collect(),
    })?;
    if args.invoke.is_some() {
        spec.call = (function.to_string(), value::parse_all(function, &ty, &given)?);
    } else {
        if ty.params().len() > 0 {
            let message = format!("`{START}` takes arguments, which the start of a program does not");
            return Err(failure(Exit::Module, message, "call it with `--invoke` and its arguments"));
        }
        spec.args = given;
    }
    Ok(spec)
}

/// `GUEST` or `GUEST=SOURCE`
fn parse_disk(text: &str) -> Result<(String, Option<String>), String> {
    let (guest, source) = match text.split_once('=') {
        Some((guest, source)) => (guest, Some(source.to_string())),
        None => (text, None),
    };
    if guest.is_empty() || source.as_deref() == Some("") {
        return Err("give GUEST, or GUEST=SOURCE".to_string());
    }
    Ok((guest.to_string(), source))
}

/// The absolute path of what a disk is filled from, which must exist.
fn resolve_source(source: &str) -> Result<String> {
    let failed = |why: String| {
        let message = format!("a disk cannot be filled from `{source}`: {why}");
        failure(
            Exit::NotFound,
            message,
            "`--disk GUEST=SOURCE` takes a directory or a tar archive that exists",
        )
    };
    let path = Path::new(source).canonicalize().map_err(|error| failed(error.to_string()))?;
    path.into_os_string().into_string().map_err(|_| failed("its path is not UTF-8".to_string()))
}

fn variable(text: &str) -> Result<(String, String)> {
    let fault = |message: String, hint: &str| Err(failure(Exit::Usage, message, hint));
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_string()),
        None => match std::env::var(text) {
            Ok(value) => (text, value),
            Err(_) => {
                let message = format!("the environment has no variable `{text}`, or it is not UTF-8");
                return fault(message, "give its value: `--env NAME=VALUE`");
            }
        },
    };
    match name {
        "" => fault(format!("`{text}` has no name"), "write it as NAME=VALUE"),
        name => Ok((name.to_string(), value)),
    }
}

pub fn parse_seed(text: &str) -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    match text.parse::<u64>() {
        Ok(number) => seed[..8].copy_from_slice(&number.to_le_bytes()),
        Err(_) => {
            let id: wasm_ckpt::digest::ChunkId =
                text.parse().map_err(|_| "give a whole number, or 64 hex digits".to_string())?;
            seed = *id.as_bytes();
        }
    }
    Ok(seed)
}

/// Wall time at which the clocks that are not the host's begin, in seconds since 1970: 2000-01-01.
const BEGINNING: u64 = 946_684_800;

fn parse_clock(text: &str) -> Result<ClockMode, String> {
    let wrong = || "give `host`, `fixed`, `virtual`, or `fixed=SECONDS` or `virtual=SECONDS`".to_string();
    let (kind, seconds) = match text.split_once('=') {
        Some((kind, seconds)) => (kind, seconds.parse().map_err(|_| wrong())?),
        None => (text, BEGINNING),
    };
    let realtime = seconds.checked_mul(1_000_000_000).ok_or("so far the clock does not go".to_string())?;
    match kind {
        "host" if kind == text => Ok(ClockMode::Host),
        "fixed" => Ok(ClockMode::Fixed { realtime }),
        "virtual" => Ok(ClockMode::Virtual { realtime }),
        _ => Err(wrong()),
    }
}

/// The name of a job without a name: what is run, and where.
fn derived_name(spec: &Spec, stdin: &Stdin, path: &Path) -> Result<JobName> {
    use std::os::unix::fs::MetadataExt;
    let cwd = std::env::current_dir().context("the working directory cannot be found out")?;
    let file = match stdin {
        Stdin::File { file, base } => {
            let meta = file.metadata()?;
            Some((meta.dev(), meta.ino(), *base))
        }
        _ => None,
    };
    let text = serde_json::to_vec(&("job 1", spec, cwd.as_os_str().as_encoded_bytes(), file))?;
    let hash = blake3::hash(&text).to_hex();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(JobName::derived(&stem, &hash[..12]))
}
