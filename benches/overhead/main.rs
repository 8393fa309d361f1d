//! What being resumable costs: `cargo bench --bench overhead [-- [OPTIONS] NAME...]`.
//!
//! Each program runs plain, rewritten, rewritten with the other setting for NaNs, with wasmtime's fuel and with its epochs, in turn
//! in one process, in several layouts of its code (`layout.rs`) and short rounds, each in another order. The table gives the processor time of the
//! middle layout over that of plain's, and the least and largest ratio of a layout. Rewritten is what production runs: the same settings, and
//! slices at whose ends the stack is unwound and rebuilt. WASI is the project's own in all ways, so that only the guest's code differs;
//! every way must print the same.
//!
//! Beside it: compile time and code size; how soon a program starts; the speed and memory of the rewriter; and how soon a guest
//! pauses when it is asked to. `--count` counts instructions instead of time, under valgrind. `--file` measures any other program.

mod chart;
mod clock;
mod count;
mod host;
mod layout;
mod markdown;
mod measure;
mod pause;
mod programs;
mod report;
mod start;
mod ways;

use std::fs;
use std::path::PathBuf;

use clap::Parser;

use measure::Modules;
use programs::{Program, root};
use report::Report;

/// Programs whose module's start and rewriting are measured.
const STARTED: [&str; 4] = ["lua", "quickjs", "sqlite", "python"];

#[derive(Parser)]
struct Options {
    /// Programs or groups; without any, all, and all that is measured beside them.
    names: Vec<String>,
    /// Measures this module instead; what else is named are its arguments. It sees no files, its standard input is empty, its clock stands still, and
    /// it must end with exit code 0.
    #[arg(long, conflicts_with = "write")]
    file: Option<PathBuf>,
    /// Rounds of each program in each layout.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Layouts of each program's code, of which the middle one counts; modules above 4 MiB have 3 at most.
    #[arg(long, default_value_t = 5)]
    layouts: usize,
    /// Only these parts: speed, start, pause.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Counts instructions of the named programs, under valgrind; takes about a minute for each.
    #[arg(long)]
    count: bool,
    /// Writes everything to this file as JSON (`-`: standard output).
    #[arg(long)]
    json: Option<PathBuf>,
    /// Prints what the README shows.
    #[arg(long)]
    markdown: bool,
    /// Writes the chart to this file, as SVG.
    #[arg(long)]
    chart: Option<PathBuf>,
    /// Rewrites the README's tables, and the chart that it shows. Everything is measured.
    #[arg(long, conflicts_with_all = ["names", "parts", "count"])]
    write: bool,
    /// Lists the programs.
    #[arg(long)]
    list: bool,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    child_rewrite: Option<PathBuf>,
    #[arg(long, hide = true, num_args = 3)]
    child_count: Option<Vec<String>>,
}

impl Options {
    /// What is to be measured.
    fn programs(&self) -> Vec<Program> {
        match &self.file {
            Some(file) => vec![Program::of_file(file, &self.names)],
            None => programs::all().into_iter().filter(|program| self.wants(program)).collect(),
        }
    }

    fn wants(&self, program: &Program) -> bool {
        let named = |name: &String| *name == program.name || *name == program.group;
        self.names.is_empty() || self.names.iter().any(named)
    }

    /// Whether a part is to be measured: those that were asked for; else speed, and all if no program is named.
    fn part(&self, name: &str) -> bool {
        match self.parts.is_empty() {
            true => self.names.is_empty() || name == "speed",
            false => self.parts.iter().any(|part| part == name),
        }
    }
}

fn main() {
    let options = Options::parse();
    if let Some(file) = &options.child_rewrite {
        return start::child_rewrite(file);
    }
    let programs = options.programs();
    if programs.is_empty() {
        eprintln!("no program or group has such a name; --list shows all");
        std::process::exit(2);
    }
    if let Some(args) = &options.child_count {
        return count::child_count(&programs[0], args);
    }
    if options.list {
        programs.iter().for_each(|p| println!("{:14} {:20} {}", p.name, p.group, p.args.join(" ")));
        return;
    }
    let report = measure_all(&options, &programs);
    eprintln!();
    print!("{}", if options.markdown { report.markdown() } else { report.text() });
    write_files(&options, &report);
}

/// Says on standard error how far it is.
fn measure_all(options: &Options, programs: &[Program]) -> Report {
    let mut report =
        Report { rounds: options.rounds.max(1), layouts: options.layouts.max(1), ..Report::default() };
    let missing = |program: &Program| match &options.file {
        Some(file) => eprintln!("{} cannot be read", file.display()),
        None => eprintln!("{:14} is not there: guests/fetch.sh gets it", program.name),
    };
    if options.count {
        let cache = tempfile::tempdir().unwrap();
        for program in programs {
            match count::measure(program, cache.path()) {
                Some(counts) => {
                    eprint!("{}", report::count_line(&counts));
                    report.counts.push(counts);
                }
                None => missing(program),
            }
        }
        return report;
    }
    if options.part("speed") {
        let mut modules = Modules::new(report.layouts);
        for program in programs {
            match measure::measure(program, &mut modules, report.rounds) {
                Some(row) => {
                    eprint!("{}", report::line(&row));
                    report.rows.push(row);
                }
                None => missing(program),
            }
        }
        report.modules = modules.rows;
    }
    if options.part("start") {
        for program in programs.iter().filter(|p| STARTED.contains(&p.name.as_str())) {
            eprintln!("starting {}", program.name);
            report.starts.extend(start::measure(program));
        }
    }
    if options.part("pause") {
        eprintln!("pausing");
        report.pauses = pause::measure();
    }
    report
}

fn write_files(options: &Options, report: &Report) {
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", report.json());
        match file.to_str() {
            Some("-") => print!("{text}"),
            _ => fs::write(file, text).unwrap(),
        }
    }
    if let Some(file) = &options.chart {
        fs::write(file, chart::svg(report)).unwrap();
    }
    if options.write {
        fs::write(root().join(markdown::CHART), chart::svg(report)).unwrap();
        report.write_between_markers(&root().join("README.md"));
    }
}
