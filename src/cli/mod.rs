//! The command line: one file per subcommand. The guest owns standard output of `run` and `resume`; what the
//! tool has to say there goes to standard error.

mod common;
mod cost;
mod cp;
mod exit;
mod export;
mod files;
mod gc;
mod import;
mod inspect;
mod ls;
mod names;
mod output;
mod resume;
mod rm;
mod run;
mod signals;
mod store;
mod streams;
mod value;
mod verify;
mod whole;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

/// Runs WebAssembly programs (wasm32-wasip1) unmodified, and resumes them after any crash.
#[derive(Parser)]
#[command(name = "wasm-ckpt", version, after_help = exit::HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Resume(resume::Args),
    Output(output::Args),
    Ls(ls::Args),
    Inspect(inspect::Args),
    Files(files::Args),
    Cp(cp::Args),
    Verify(verify::Args),
    Export(export::Args),
    Import(import::Args),
    Rm(rm::Args),
    Gc(gc::Args),
}

/// Does what the command line says, and gives the exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, and end well.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { 0 };
        }
    };
    // A program whose reader has gone ends like that, and who is given part of a file has no use for it. Of what is
    // printed the reader has read enough.
    let broken_pipe = match cli.command {
        Command::Run(_) | Command::Resume(_) | Command::Export(_) | Command::Cp(_) => 128 + 13,
        _ => 0,
    };
    let result = match cli.command {
        Command::Run(args) => run::main(args),
        Command::Resume(args) => resume::main(args),
        Command::Output(args) => output::main(args),
        Command::Ls(args) => ls::main(args).map(|()| 0),
        Command::Inspect(args) => inspect::main(args).map(|()| 0),
        Command::Files(args) => files::main(args).map(|()| 0),
        Command::Cp(args) => cp::main(args).map(|()| 0),
        Command::Verify(args) => verify::main(args).map(|()| 0),
        Command::Export(args) => export::main(args).map(|()| 0),
        Command::Import(args) => import::main(args).map(|()| 0),
        Command::Rm(args) => rm::main(args).map(|()| 0),
        Command::Gc(args) => gc::main(args).map(|()| 0),
    };
    result.unwrap_or_else(|error| match exit::is_broken_pipe(&error) {
        true => broken_pipe,
        false => exit::report(&error),
    })
}

/// Prints to standard output, which is the tool's own but for `run` and `resume`. Whether somebody reads it does not
/// change how the command ends.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(exit::plain(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
