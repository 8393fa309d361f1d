//! What several commands have in common: store, engine, running a job and telling how it ended.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use super::cost;
use super::exit::{self, Exit, failure};
use super::names::Names;
use super::signals;
use super::store::{StoreArgs, user_dir};
use super::streams::StreamArgs;
use wasm_ckpt::job::{Ending, JobName, Mode, Notice, Sink, SpecDir, SyncOut};
use wasm_ckpt::machine::{Loading, Progress, Tracking};
use wasm_ckpt::snapshot::Identity;
use wasm_ckpt::store::Compress;
use wasm_ckpt::wasi::{Exported, Preopen, Stdin};
use wasm_ckpt::{Engine, Every, Job, Jobs, Module, Options, Outcome, Pause, Settings};

/// How the guest is compiled and run.
#[derive(Args, Clone)]
pub struct RunArgs {
    #[command(flatten)]
    pub store: StoreArgs,

    /// How often to take a snapshot: a time (500ms, 0.5s, 30s, 5m, 2h), an amount of fuel (1000000fuel, 10Mfuel), or
    /// `never` (or 0): only when it pauses
    #[arg(long, value_name = "TIME|FUEL", default_value = "30s")]
    pub every: Every,

    /// Pause, with a snapshot and exit code 75, when more fuel than this has been consumed since the program
    /// began: a number, or as in `--every` (10Mfuel)
    #[arg(long, value_name = "FUEL", value_parser = fuel)]
    pub pause_after: Option<u64>,

    /// When paused, write the snapshot's id to this file
    #[arg(long, value_name = "FILE")]
    pub id_file: Option<PathBuf>,

    /// How many snapshots of the job to keep, the last ones: a number, or `all`. Older ones are released, and freed
    /// while it runs or by `wasm-ckpt gc`
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_retain)]
    pub retain: Retain,

    /// Keep at most so many bytes of each output stream in the store, to print them again when a job goes on
    /// elsewhere: a number, or with K, M, G or T
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = parse_size)]
    pub keep_output: u64,

    /// How much effort goes into making snapshots small: `auto` (zstd level 1, or a faster one when the processor
    /// cannot keep up with the disk), `fast`, `none`, or a level of zstd from -50 to 19. Snapshot ids do not depend on
    /// it
    #[arg(long, value_name = "EFFORT", default_value_t, allow_hyphen_values = true)]
    pub compress: Compress,

    /// Hash (blake3) each file of a read-only directory that the program opens, so that going on notices any
    /// change of it, and takes a copy of it for the same; without it, size and time of change decide
    #[arg(long)]
    pub hash_inputs: bool,

    /// When the program ends by itself, write the files that have changed on its private disk to this directory,
    /// each of which appears when it is complete; `DISK=DIR` says which disk, by the program's name for it
    #[arg(long, value_name = "[DISK=]DIR", value_parser = parse_sync_out)]
    pub sync_out: Vec<SyncOut>,

    #[command(flatten)]
    pub streams: StreamArgs,

    /// Instruction set to compile for: `pulley64` is the portable interpreter [default: this machine's]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,

    /// How dirty pages are found: auto, uffd, soft-dirty or compare. For tests: all give the same snapshots
    #[arg(long, value_name = "HOW", default_value = "auto", hide = true)]
    pub dirty_tracking: Tracking,

    /// When the program goes on from a snapshot, read all of its memory before it runs; without this it runs at once, and
    /// what it touches is read when it is touched, the rest in the background
    #[arg(long)]
    pub eager: bool,

    /// Do not keep compiled code on disk
    #[arg(long)]
    pub no_cache: bool,

    /// Keep a line on the terminal with the last snapshot, and what it cost
    #[arg(long)]
    pub progress: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

impl RunArgs {
    /// The jobs in the store, which is made if there is none.
    pub fn open(&self) -> Result<Jobs> {
        Ok(self.store.open()?.with_compress(self.compress))
    }

    /// Compiles the module, or finds it in the cache; to go on from a state of this identity. Long compilations are
    /// announced on a terminal.
    pub fn compile(&self, wasm: &[u8], canonical_nans: bool, identity: Option<&Identity>) -> Result<Module> {
        let cache = std::env::var_os("WASM_CKPT_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| user_dir("XDG_CACHE_HOME", ".cache"));
        let code_cache = cache.filter(|_| !self.no_cache);
        let (target, tracking) = (self.target.clone(), self.dirty_tracking);
        let settings = Settings { target, tracking, canonical_nans, code_cache, ..Settings::default() };
        let settings = match identity {
            Some(identity) => settings.for_identity(identity),
            None => settings,
        };
        let engine = Engine::new(settings.clone()).or_else(|error| match settings.code_cache {
            // Without the cache it is slower, not wrong.
            Some(_) => {
                let engine = Engine::new(Settings { code_cache: None, ..settings });
                if engine.is_ok() {
                    self.say(&format!("compiled code is not kept: {error:#}"));
                }
                engine
            }
            None => Err(error),
        })?;
        let shown = !self.quiet && io::stderr().is_terminal();
        let mut announced = false;
        engine.compile_with(wasm, &mut |progress| match progress {
            Progress::Compiling { bytes } if shown && bytes > 1 << 20 => {
                announced = true;
                eprint!("wasm-ckpt: compiling {:.0} MB …", bytes as f64 / 1e6);
            }
            // Back to the line's beginning, and clear it.
            Progress::Done { .. } if announced => eprint!("\r\x1b[K"),
            _ => {}
        })
    }

    /// One line on standard error.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "wasm-ckpt: {}", exit::plain(text));
        }
    }

    /// Runs a job that has begun to its end, or until it is to pause. Gives the exit code.
    pub fn run(&self, job: Job, wasm: &[u8], module: &Module, how: How) -> Result<u8> {
        let name = job.name().clone();
        self.check_id_file()?;
        let pause = Pause::new()?;
        signals::pause_on(&pause)?;
        let (held, line) = (Rc::new(RefCell::new(vec![])), Rc::new(Cell::new(false)));
        let stored = job.status().is_some_and(|status| status.snapshot().is_some());
        let options = Options {
            every: self.every,
            pause_after: self.pause_after,
            pause: Some(pause),
            stdin: how.stdin,
            input_from: self.streams.input_from(),
            sinks: process_sinks()?,
            delivery: self.streams.delivery(),
            retain: self.retain.0,
            keep_output: self.keep_output,
            dirs: how.dirs,
            accept_changed: how.accept_changed,
            hash_inputs: self.hash_inputs,
            sync_out: self.sync_out.iter().map(resolve_sync_out).collect::<Result<_>>()?,
            greeting: how.greeting.filter(|_| !self.quiet).map(|line| format!("wasm-ckpt: {line}\n")),
            observe: self.observer(stored, &held, &line),
            loading: if self.eager { Loading::Eager } else { Loading::Lazy },
            stuck: Arc::new(|error| std::process::exit(exit::report(&error).into())),
            ..Options::default()
        };
        let outcome = job.run(module, options).and_then(|mut run| run.advance());
        if line.get() {
            // What follows is below it.
            eprintln!();
        }
        held.borrow_mut().drain(..).for_each(|line| self.say(&line));
        let outcome = outcome?;
        match outcome {
            Outcome::Ended(ending) => Ok(told(&ending, wasm)),
            Outcome::Paused { snapshot, fuel } => {
                let short = snapshot.short();
                self.say(&format!(
                    "paused at fuel {fuel}, snapshot {short}; `wasm-ckpt resume {name}` goes on"
                ));
                if let Some(path) = &self.id_file
                    && let Err(error) = std::fs::write(path, format!("{snapshot}\n"))
                {
                    // It is paused all the same.
                    eprintln!("error: cannot write `{}`: {error}; the id is {snapshot}", path.display());
                }
                Ok(Exit::Paused as u8)
            }
        }
    }

    /// Before it runs: after a week is too late to find out that the file cannot be made.
    fn check_id_file(&self) -> Result<()> {
        let Some(path) = &self.id_file else { return Ok(()) };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if dir.is_dir() && !path.is_dir() {
            return Ok(());
        }
        let message = format!("the id cannot be written to `{}`", path.display());
        Err(failure(Exit::Usage, message, "`--id-file FILE` takes a file in a directory that exists"))
    }

    /// Tells what happens. In a file that the program writes to as well, lines of ours would be in the way when
    /// it is cut off and continued, so they are held until the end. `line` is set while a line is kept on a terminal.
    /// `stored`: the job has a snapshot.
    fn observer(
        &self,
        mut stored: bool,
        held: &Rc<RefCell<Vec<String>>>,
        line: &Rc<Cell<bool>>,
    ) -> Box<dyn FnMut(Notice<'_>)> {
        let (this, progress) = (self.clone(), self.progress && io::stderr().is_terminal());
        let in_file = rustix::fs::fstat(rustix::stdio::stderr())
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
        let (held, line) = (held.clone(), line.clone());
        let kept = line.clone();
        let say = move |text: String| match in_file {
            true => held.borrow_mut().push(text),
            false => {
                if kept.replace(false) {
                    eprintln!();
                }
                this.say(&text);
            }
        };
        let (mut failed, mut skipped) = (false, false);
        Box::new(move |notice| match notice {
            Notice::Committed(commit) => {
                (failed, stored) = (false, true);
                if progress {
                    line.set(true);
                    eprint!(
                        "\r\x1b[Kwasm-ckpt: snapshot {} at fuel {}: {}",
                        commit.snapshot.short(),
                        commit.fuel,
                        cost::line(commit),
                    );
                }
            }
            Notice::SnapshotSkipped => {
                // Once until they keep up again.
                if !skipped && stored {
                    say("a snapshot is due before the last one is durable, and left out".to_string());
                } else if !skipped {
                    let what = "a snapshot is due before the first one is durable, and left out";
                    say(format!("{what}: until that is, the job would begin from the start"));
                }
                skipped = true;
            }
            Notice::SnapshotFailed(error) => {
                // Once until it works again.
                if !failed {
                    say(format!("no snapshot: {error:#}; the program goes on"));
                }
                failed = true;
            }
            Notice::Damaged(error) => {
                say(format!(
                    "a part of the program's memory is damaged in the store: {error:#}; it goes on, without snapshots"
                ));
            }
            Notice::ResultNotStored(error) => {
                say(format!("the program has ended, but its result is not stored: {error:#}"));
            }
            // In the way of nobody who asked for it.
            Notice::SyncedOut(disk, done) => {
                let Exported { files, bytes, .. } = done;
                say(format!("disk `{disk}`: {files} changed files, {bytes} bytes, are written out"));
            }
            Notice::OutputLost(bytes) => {
                say(format!("{bytes} bytes that were printed before are not kept and are missing here"));
            }
            Notice::PerhapsTwice(bytes) => say(perhaps_twice(bytes)),
        })
    }

    /// Prints what an ended job has printed, and gives its exit code.
    pub fn replay(&self, job: &mut Job) -> Result<u8> {
        let pause = Pause::new()?;
        signals::pause_on(&pause)?;
        let replayed = job.replay_until(process_sinks()?, self.streams.delivery(), Some(&pause))?;
        if replayed.lost > 0 {
            self.say(&format!("{} bytes that were printed are not kept", replayed.lost));
        }
        if replayed.perhaps_twice > 0 {
            self.say(&perhaps_twice(replayed.perhaps_twice));
        }
        if !self.sync_out.is_empty() {
            self.say("its disk is not written out again: `wasm-ckpt cp JOB:DISK DIR` copies it");
        }
        let wasm = job.module().unwrap_or_default();
        Ok(told(&replayed.done.ending, &wasm))
    }

    /// Whether the ended job was to print exactly once here, and its process died before all had arrived.
    pub fn owes(&self, job: &mut Job) -> Result<bool> {
        Ok(self.streams.delivery().mode == Mode::ExactlyOnce && job.owes(process_sinks()?)? > 0)
    }
}

fn perhaps_twice(bytes: u64) -> String {
    format!(
        "a process died while it delivered {bytes} bytes of output, which are delivered again: they may be there \
         twice"
    )
}

/// What a run is given beside its options.
pub struct How {
    pub stdin: Stdin,
    pub dirs: Vec<Preopen>,
    pub accept_changed: bool,
    /// What is said when the job goes on.
    pub greeting: Option<String>,
}

/// An amount of fuel.
fn fuel(text: &str) -> Result<u64, &'static str> {
    match (text.parse(), text.parse()) {
        (Ok(number), _) | (_, Ok(Every::Fuel(number))) => Ok(number),
        _ => Err("give an amount of fuel (1000000, 1000000fuel, 10Mfuel)"),
    }
}

/// Says how the program ended, where its exit code does not, and gives the exit code.
fn told(ending: &Ending, wasm: &[u8]) -> u8 {
    match ending {
        Ending::Returned(_) => 0,
        // As for every process, 8 bits of it; but no failure becomes a success.
        Ending::Exited(code) if *code != 0 && *code as u8 == 0 => u8::MAX,
        Ending::Exited(code) => *code as u8,
        Ending::Trapped { message, frames } => {
            let names = Names::of(wasm);
            let message = message.trim_start_matches("wasm trap: ");
            let mut text = format!("error: the program trapped: {message}\n");
            for (func, offset) in frames.iter().take(50) {
                text += &format!("  at {}{}\n", names.function(*func), at(*offset));
            }
            if frames.len() > 50 {
                text += &format!("  and {} more\n", frames.len() - 50);
            }
            let _ = io::stderr().write_all(exit::plain(&text).as_bytes());
            Exit::Trapped as u8
        }
    }
}

fn at(offset: Option<u64>) -> String {
    offset.map_or(String::new(), |offset| format!(" (byte {offset:#x})"))
}

/// Standard output and error of this process.
fn process_sinks() -> Result<[Sink; 2]> {
    let dup = |fd: io::Result<OwnedFd>| match fd {
        Ok(fd) => Ok(Sink::File(File::from(fd))),
        // Closed: as if it went nowhere.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => Ok(Sink::Null),
        Err(e) => Err(e),
    };
    let clone = |fd: BorrowedFd<'_>| dup(fd.try_clone_to_owned());
    Ok([clone(rustix::stdio::stdout())?, clone(rustix::stdio::stderr())?])
}

/// Reads a module's file.
pub fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let message = "the module cannot come from standard input, which is the program's";
        return Err(failure(Exit::Usage, message, "store it in a file and name that"));
    }
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the module `{}`: {error}", path.display());
        failure(Exit::NotFound, message, "check the path")
    })
}

/// `HOST[::GUEST][:ro]`
pub fn parse_dir(text: &str) -> Result<SpecDir, String> {
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text, false),
    };
    // A directory that is to be read only must not become one to write to by a slip.
    if let Some((_, suffix)) = paths.rsplit_once(':')
        && ["ro", "rw", "r0", "r", "w"].contains(&suffix.to_ascii_lowercase().as_str())
    {
        return Err(format!(
            "`:{suffix}` is not known: `:ro` is, and without it the program may write there"
        ));
    }
    let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
    if host.is_empty() || guest.is_empty() {
        return Err("give HOST, HOST::GUEST, HOST:ro or HOST::GUEST:ro".to_string());
    }
    Ok(SpecDir { host: host.to_string(), guest: guest.to_string(), read_only })
}

/// `DIR` or `DISK=DIR`
fn parse_sync_out(text: &str) -> Result<SyncOut, String> {
    let (guest, to) = match text.split_once('=') {
        Some((guest, to)) => (Some(guest.to_string()), to),
        None => (None, text),
    };
    if to.is_empty() || guest.as_deref() == Some("") {
        return Err("give DIR, or DISK=DIR".to_string());
    }
    Ok(SyncOut { guest, to: to.into() })
}

/// Makes the directory now: after a week is too late to find out that it cannot be made.
fn resolve_sync_out(sync_out: &SyncOut) -> Result<SyncOut> {
    let made = std::fs::create_dir_all(&sync_out.to).and_then(|()| sync_out.to.canonicalize());
    let to = made.with_context(|| format!("the directory `{}` cannot be made", sync_out.to.display()))?;
    Ok(SyncOut { to, ..sync_out.clone() })
}

/// A size in bytes: a whole number, and K, M, G or T for powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "give a number of bytes, such as 4096, 64K, 512M or 16G".to_string();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).ok_or_else(wrong)
}

/// How many snapshots to keep; none: all.
#[derive(Debug, Clone, Copy)]
pub struct Retain(Option<u64>);

fn parse_retain(text: &str) -> Result<Retain, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Retain(None)),
        (_, Ok(count @ 1..)) => Ok(Retain(Some(count))),
        _ => Err("give a number from 1 on, or `all`".to_string()),
    }
}

/// The directory with its absolute path, which must exist.
pub fn resolve_dir(dir: &SpecDir) -> Result<SpecDir> {
    let failed = |why: String| {
        let message = format!("the directory `{}` cannot be given to the program: {why}", dir.host);
        failure(Exit::NotFound, message, "`--dir HOST::GUEST` takes a directory that exists")
    };
    let path = Path::new(&dir.host).canonicalize().map_err(|error| failed(error.to_string()))?;
    if !path.is_dir() {
        return Err(failed("it is not a directory".to_string()));
    }
    let host =
        path.into_os_string().into_string().map_err(|_| failed("its path is not UTF-8".to_string()))?;
    Ok(SpecDir { host, ..dir.clone() })
}

/// A name given on the command line.
pub fn parse_name(text: &str) -> Result<JobName, String> {
    text.parse().map_err(|error: wasm_ckpt::JobError| error.to_string())
}
