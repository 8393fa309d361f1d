//! Options of the program's streams: what of its output is printed and when, and where its input goes on.

use clap::{Args, ValueEnum};

use wasm_ckpt::job::{Delivery, From, InputFrom, Mode};

/// How the program's streams go on here.
#[derive(Args, Clone)]
pub struct StreamArgs {
    /// When output is written: at once (a reader of a pipe that outlives this process may then see again what was
    /// printed since the last snapshot), or exactly once: held back until a snapshot that covers it is stored
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::AtOnce)]
    output: When,

    /// What is printed first when a job goes on: what was printed from its start, or only what comes now. A file
    /// that is the same as before is continued; so is, with `--output exactly-once`, a pipe or terminal that is
    /// the same, unless this is given [default: start]
    #[arg(long, value_name = "WHERE", value_enum)]
    output_from: Option<Where>,

    /// What standard input gives when a job goes on that has read from a pipe: the same from its first byte on
    /// (what was read before is compared and passed over), or what comes now, behind that [default: start; for a
    /// terminal now]
    #[arg(long, value_name = "WHERE", value_enum)]
    input_from: Option<Where>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    AtOnce,
    ExactlyOnce,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    Start,
    Now,
}

impl StreamArgs {
    /// How output is delivered.
    pub fn delivery(&self) -> Delivery {
        let mode = match self.output {
            When::AtOnce => Mode::AtOnce,
            When::ExactlyOnce => Mode::ExactlyOnce,
        };
        let from = self.output_from.map(|from| match from {
            Where::Start => From::Start,
            Where::Now => From::Now,
        });
        Delivery { mode, from }
    }

    /// Where a pipe on standard input goes on.
    pub fn input_from(&self) -> Option<InputFrom> {
        self.input_from.map(|from| match from {
            Where::Start => InputFrom::Start,
            Where::Now => InputFrom::Now,
        })
    }
}
