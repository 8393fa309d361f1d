//! Exit codes and error messages.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::cli::value::BadArgument;
use wasm_ckpt::instrument::Refusal;
use wasm_ckpt::job::JobError;
use wasm_ckpt::machine::{NoFunction, NotSetUp, UnknownImport};
use wasm_ckpt::snapshot::portable::PortableError;
use wasm_ckpt::snapshot::{IdentityMismatch, SnapshotError, TreeError};
use wasm_ckpt::store::StoreError;
use wasm_ckpt::wasi::{FileProblem, InputProblem};

/// How the tool ends when it is not by the guest's own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything else.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The module is not one, or cannot be run here.
    Module = 65,
    /// A file, job or snapshot is not there.
    NotFound = 66,
    /// The module imports what there is not.
    Import = 67,
    /// A snapshot, or something else in the store, is damaged.
    Damaged = 68,
    /// Another live process runs the job, or has taken it over.
    Held = 69,
    /// The snapshot cannot be resumed here: another module or settings, files that have changed.
    Mismatch = 70,
    /// The name belongs to a job that runs another command.
    OtherCommand = 71,
    /// The store cannot be used: permissions, something else than a store.
    Store = 73,
    /// The store is full.
    Full = 74,
    /// Paused: it can be resumed.
    Paused = 75,
    /// The store or the snapshot is of a newer version of the program.
    Newer = 76,
    /// The guest trapped.
    Trapped = 134,
}

/// The code for a wrong command line.
pub const USAGE: u8 = Exit::Usage as u8;

/// What `--help` says of them.
pub const HELP: &str = "\
Exit codes:
  the guest's own, or
    1  anything not named below
    2  the command line is wrong
   65  the module is not one, or cannot be run here
   66  a file, job or snapshot does not exist
   67  the module imports something that this host does not have
   68  a snapshot, or something else in the store, is damaged
   69  another process runs the job, or has taken it over
   70  the snapshot cannot be resumed here (other module, settings or files)
   71  the job's name belongs to another command
   73  the store cannot be used
   74  the store is full
   75  paused: the same command or `wasm-ckpt resume` goes on
   76  the store or snapshot is of a newer version
  134  the guest trapped
  141  who reads the output has gone: of `run`, `resume`, `export` and `cp`
  130, 143  a second SIGINT or SIGTERM: stopped at once, the last snapshot is intact

The store is --store, else $WASM_CKPT_STORE, else $XDG_STATE_HOME/wasm-ckpt, else
~/.local/state/wasm-ckpt. Compiled code is kept in $WASM_CKPT_CACHE, else
$XDG_CACHE_HOME/wasm-ckpt, else ~/.cache/wasm-ckpt.";

/// An error of the command itself, with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// An error with a hint.
pub fn failure(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Failure { exit, message: message.into(), hint: Some(hint.into()) }.into()
}

/// Whether a pipe that we write to has no reader any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Prints the error with its causes and a hint on standard error, and gives the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    let mut text = String::new();
    let mut said = String::new();
    for (nth, cause) in error.chain().enumerate() {
        let line = cause.to_string();
        // Some errors tell their cause themselves.
        if nth > 0 && (line.is_empty() || said.contains(&line)) {
            continue;
        }
        text += &format!("{}{line}\n", if nth == 0 { "error: " } else { "  caused by: " });
        said = line;
    }
    let (exit, hint) = classify(error);
    if let Some(hint) = hint {
        text += &format!("  hint: {hint}\n");
    }
    let _ = io::stderr().write_all(plain(&text).as_bytes());
    exit as u8
}

/// So many characters of what belongs in a line, and cannot leave it.
pub fn printable(text: &str, most: usize) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    text.chars().take(most).flat_map(escaped).collect()
}

/// The text with what steers a terminal made visible: names may be of the program's making.
pub fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c != '\n' && c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::new();
    for c in text.chars() {
        if steers(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// The code and the hint of the first cause that is known.
fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    let full = |e: &io::Error| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let known = error.chain().find_map(|cause| {
        if cause.downcast_ref().is_some_and(full) {
            return Some((Exit::Full, Some("make room, and do the same again: nothing is lost".to_string())));
        }
        if let Some(e) = cause.downcast_ref::<Failure>() {
            return Some((e.exit, e.hint.clone()));
        }
        let job = cause.downcast_ref().map(of_job);
        let store = || cause.downcast_ref().map(of_store);
        let module = || of_module(cause);
        job.or_else(store).or_else(module).or_else(|| of_snapshot(cause))
    });
    let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    known.unwrap_or_else(|| match error.chain().any(|e| e.downcast_ref().is_some_and(missing)) {
        true => (Exit::NotFound, Some("check the path".to_string())),
        false => (Exit::Failed, None),
    })
}

fn of_job(error: &JobError) -> (Exit, Option<String>) {
    let exit = match error {
        JobError::BadName { .. } | JobError::Ambiguous { .. } => Exit::Usage,
        JobError::Held { .. } | JobError::Fenced { .. } => Exit::Held,
        JobError::OtherCommand { .. } => Exit::OtherCommand,
        JobError::NotFound { .. }
        | JobError::NoSnapshot { .. }
        | JobError::Released { .. }
        | JobError::NoFile { .. }
        | JobError::Ended { .. } => Exit::NotFound,
        JobError::Undelivered { .. } => Exit::Paused,
        JobError::DamagedLog { .. } | JobError::DamagedSnapshot { .. } => Exit::Damaged,
        JobError::NewerLog { .. } => Exit::Newer,
        JobError::ForeignDirectories { .. }
        | JobError::InputDiffers { .. }
        | JobError::InputShort { .. }
        | JobError::InputUnknown { .. } => Exit::Mismatch,
    };
    if let JobError::DamagedSnapshot { job, before: Some(before), .. } = error {
        let before = before.short();
        let hint =
            format!("the snapshot `{before}` before it is whole: `wasm-ckpt resume {job} --from {before}`");
        return (exit, Some(hint));
    }
    (exit, error.hint().map(str::to_string))
}

fn of_store(error: &StoreError) -> (Exit, Option<String>) {
    let exit = match error {
        StoreError::NotFound { .. } | StoreError::Corrupt { .. } => Exit::Damaged,
        StoreError::Held { .. } | StoreError::Lapsed { .. } => Exit::Held,
        StoreError::NewerVersion { .. } => Exit::Newer,
        StoreError::Full { .. } => Exit::Full,
        StoreError::NotAStore { .. }
        | StoreError::Unsafe { .. }
        | StoreError::Denied { .. }
        | StoreError::Io { .. } => Exit::Store,
        StoreError::BadAddress { .. } => Exit::Usage,
        StoreError::BadKey { .. } | StoreError::TooLarge { .. } => Exit::Failed,
    };
    (exit, error.hint().map(str::to_string))
}

fn of_module(cause: &(dyn std::error::Error + 'static)) -> Option<(Exit, Option<String>)> {
    if let Some(refusal) = cause.downcast_ref::<Refusal>() {
        let hint = match refusal {
            Refusal::NotWasm(_) => Some("give a `.wasm` file that was built for wasm32-wasip1"),
            Refusal::LegacyExceptions { .. } => Some(
                "translate it by Binaryen (`wasm-opt --translate-to-exnref IN.wasm -o OUT.wasm`), or compile with `-mllvm -wasm-use-legacy-eh=false`",
            ),
            Refusal::TooLarge { .. } => {
                Some("split the function, or compile it with less inlining (`-fno-inline`, `-Oz`)")
            }
            Refusal::TooMany { .. } => Some("split the module, or link it with fewer of them"),
            _ => None,
        };
        return Some((Exit::Module, hint.map(str::to_string)));
    }
    if let Some(NotSetUp { trapped, .. }) = cause.downcast_ref() {
        return Some((if *trapped { Exit::Trapped } else { Exit::Module }, None));
    }
    if cause.is::<UnknownImport>() {
        let hint = "build the program for wasm32-wasip1, or run it with the library and give it the function";
        return Some((Exit::Import, Some(hint.to_string())));
    }
    if let Some(none) = cause.downcast_ref::<NoFunction>() {
        let hint = match none.wanted.as_str() {
            wasm_ckpt::job::START => "this is a library: call one of its functions with `--invoke FUNCTION`",
            _ => "name one of these functions",
        };
        return Some((Exit::Module, Some(hint.to_string())));
    }
    cause.downcast_ref::<BadArgument>().map(|bad| (Exit::Usage, Some(bad.hint())))
}

fn of_snapshot(cause: &(dyn std::error::Error + 'static)) -> Option<(Exit, Option<String>)> {
    let hint = |text: &str| Some(text.to_string());
    if cause.is::<IdentityMismatch>() {
        return Some((
            Exit::Mismatch,
            hint("resume it with the module and the build that wrote it, or start anew with `run --new`"),
        ));
    }
    if cause.is::<FileProblem>() {
        return Some((
            Exit::Mismatch,
            hint("put the file back, or take what has its name now with `--force`"),
        ));
    }
    if let Some(problem) = cause.downcast_ref::<InputProblem>() {
        let text = match problem {
            InputProblem::NoFile { .. } => "redirect the file to it: `< FILE`",
            InputProblem::Changed { .. } => "give it the same file, or take this one as it is with `--force`",
        };
        return Some((Exit::Mismatch, hint(text)));
    }
    match cause.downcast_ref::<SnapshotError>() {
        Some(SnapshotError::NewerFormat { .. }) => return Some((Exit::Newer, hint("use the newer program"))),
        Some(_) => {
            return Some((Exit::Damaged, hint("an earlier snapshot may be whole: `ls --snapshots JOB`")));
        }
        None => {}
    }
    match cause.downcast_ref::<PortableError>() {
        Some(PortableError::OtherFormat { .. }) => return Some((Exit::Newer, hint("use the newer program"))),
        // Its cause says more.
        Some(PortableError::Sink { .. } | PortableError::Snapshot(_)) | None => {}
        Some(_) => return Some((Exit::Damaged, hint("export it again; nothing was taken over"))),
    }
    match cause.downcast_ref::<TreeError>() {
        Some(TreeError::Corrupt { .. } | TreeError::TooLong { .. }) => {
            Some((Exit::Damaged, hint("an earlier snapshot may be whole: `ls --snapshots JOB`")))
        }
        _ => None,
    }
}
