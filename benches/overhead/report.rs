//! What was measured, as text, Markdown and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::count::Counts;
use crate::measure::{ModuleRow, Row, mean};
use crate::pause::Pauses;
use crate::programs::root;
use crate::start::Start;
use crate::ways::WAYS;

/// Column heads of the ways but plain.
pub fn heads() -> [&'static str; 4] {
    [1, 2, 3, 4].map(|way| WAYS[way].name())
}

/// All that a run has measured; what was not asked for is empty.
#[derive(Default)]
pub struct Report {
    pub rounds: usize,
    pub layouts: usize,
    pub rows: Vec<Row>,
    pub modules: Vec<ModuleRow>,
    pub starts: Vec<Start>,
    pub pauses: Vec<Pauses>,
    pub counts: Vec<Counts>,
}

/// The machine, and the versions of what ran on it.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let build = if cfg!(debug_assertions) { "development build" } else { "release build" };
    format!(
        "{}, {cores} cores, {} Linux {}; wasmtime {}, wasm-ckpt {} ({build}), rewriter {}, cost model {}",
        processor.unwrap_or("unknown processor"),
        std::env::consts::ARCH,
        kernel.trim().split('-').next().unwrap_or_default(),
        locked_version("wasmtime"),
        env!("CARGO_PKG_VERSION"),
        wasm_ckpt::instrument::REWRITER,
        wasm_ckpt::instrument::COST_MODEL,
    )
}

/// The version of a package that Cargo.lock names.
fn locked_version(package: &str) -> String {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).map(|(_, after)| after);
    after.and_then(|after| after.split_once('"')).map_or("?".to_string(), |(version, _)| version.to_string())
}

impl Report {
    /// The names of groups, in the order of the table.
    pub fn groups(&self) -> Vec<&'static str> {
        let mut groups: Vec<&'static str> = vec![];
        for row in &self.rows {
            if !groups.contains(&row.group) {
                groups.push(row.group);
            }
        }
        groups
    }

    /// Geometric mean of a way (by its place in `WAYS`) against plain; of one group, or of all.
    pub fn mean(&self, way: usize, group: Option<&str>) -> f64 {
        let rows = self.rows.iter().filter(|row| group.is_none_or(|group| row.group == group));
        mean(rows.map(|row| row.cpu[way - 1].median))
    }

    /// The same of the medians of the ratios within layouts, and of the least times.
    fn other_means(&self, way: usize) -> (f64, f64) {
        let ratios = || self.rows.iter().map(|row| &row.cpu[way - 1]);
        (mean(ratios().map(|r| r.paired)), mean(ratios().map(|r| r.least)))
    }

    /// The program with the largest ratio.
    pub fn worst(&self, way: usize, group: Option<&str>) -> Option<&Row> {
        let rows = self.rows.iter().filter(|row| group.is_none_or(|group| row.group == group));
        rows.max_by(|a, b| a.cpu[way - 1].median.total_cmp(&b.cpu[way - 1].median))
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", machine());
        self.text_speed(&mut out);
        self.text_modules(&mut out);
        self.text_starts(&mut out);
        if !self.counts.is_empty() {
            let _ =
                writeln!(out, "\ninstructions        plain {}", heads().map(|h| format!("{h:>13}")).join(""));
            self.counts.iter().for_each(|counts| out.push_str(&count_line(counts)));
        }
        if !self.pauses.is_empty() {
            let _ = writeln!(
                out,
                "\nfrom a request to the pause, ms     guest's time: median, worst    wall: median, worst"
            );
            for pause in &self.pauses {
                let ms = [pause.cpu.0, pause.cpu.1, pause.wall.0, pause.wall.1]
                    .map(|s| format!("{:>10.2}", s * 1e3));
                let verdict = if pause.kept() { "" } else { "   over 20 ms" };
                let _ = writeln!(out, "{:36} {}{verdict}", pause.shape, ms.join(""));
            }
        }
        out
    }

    fn text_speed(&self, out: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let heads = heads().map(|head| format!("{head:>20}")).join("");
        let _ = writeln!(
            out,
            "processor time, ratio of the middle one of {} layouts, {} rounds in each (least and largest ratio of a layout)",
            self.layouts, self.rounds
        );
        let _ = writeln!(out, "                plain ms  quartiles{heads}");
        for group in self.groups() {
            for row in self.rows.iter().filter(|row| row.group == group) {
                out.push_str(&line(row));
            }
            self.text_mean(out, group, Some(group));
        }
        self.text_mean(out, "all programs", None);
        let others: Vec<(f64, f64)> = (1..WAYS.len()).map(|way| self.other_means(way)).collect();
        let shown = |value: fn(&(f64, f64)) -> f64| -> String {
            others.iter().map(|means| format!("{:>7.3}x            ", value(means))).collect()
        };
        let _ = writeln!(out, "= {:33} {}", "  by ratios within layouts", shown(|means| means.0));
        let _ = writeln!(out, "= {:33} {}", "  by least times", shown(|means| means.1));
        let worst = (1..WAYS.len()).filter_map(|way| {
            let row = self.worst(way, None)?;
            Some(format!("{} {:.2}x ({})", WAYS[way].name(), row.cpu[way - 1].median, row.name))
        });
        let _ = writeln!(out, "worst: {}", worst.collect::<Vec<_>>().join(", "));
    }

    fn text_mean(&self, out: &mut String, name: &str, group: Option<&str>) {
        let means: String =
            (1..WAYS.len()).map(|way| format!("{:>7.3}x            ", self.mean(way, group))).collect();
        let _ = writeln!(out, "= {name:33} {means}");
    }

    fn text_modules(&self, out: &mut String) {
        if self.modules.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\ncompile time (processor) and code size      plain  {}",
            heads().map(|h| format!("{h:>15}")).join("")
        );
        for row in &self.modules {
            let ratios = (1..WAYS.len())
                .map(|way| format!("  {:>5.2}x {:>5.2}x", row.compile_ratio(way), row.code_ratio(way)));
            let (bytes, compile, code) = (row.bytes, row.compile[0] * 1e3, row.code[0]);
            let _ = writeln!(
                out,
                "{:13} {bytes:>9} B {compile:>9.1} ms {code:>9} B{}",
                row.name,
                ratios.collect::<String>()
            );
        }
        let of = |way: usize| {
            let compile = mean(self.modules.iter().map(|row| row.compile_ratio(way)));
            format!("  {compile:>5.2}x {:>5.2}x", mean(self.modules.iter().map(|row| row.code_ratio(way))))
        };
        let _ = writeln!(out, "= {:48}{}", "geometric mean", (1..WAYS.len()).map(of).collect::<String>());
    }

    fn text_starts(&self, out: &mut String) {
        if self.starts.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\nstart, ms: cold plain, ours; cached plain, ours      rewriting, MB of code/s: 1 core, all; memory of any module, and times its size"
        );
        for start in &self.starts {
            let times = [start.cold.0, start.cold.1, start.cached.0, start.cached.1]
                .map(|s| format!("{:>10.2}", s * 1e3));
            let _ = writeln!(
                out,
                "{:13} {} {:>10.1} {:>8.1} {:>14}",
                start.module,
                times.join(""),
                start.speed_one(),
                start.speed_all(),
                start.memory()
            );
        }
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let ways = || WAYS.iter().enumerate().skip(1);
        let means: serde_json::Map<String, Value> =
            ways().map(|(i, way)| (way.name().to_string(), json!(self.mean(i, None)))).collect();
        json!({
            "machine": machine(), "layouts": self.layouts, "rounds": self.rounds, "geometric_means": means,
            "programs": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "modules": self.modules.iter().map(ModuleRow::json).collect::<Vec<_>>(),
            "starts": self.starts.iter().map(Start::json).collect::<Vec<_>>(),
            "pauses": self.pauses.iter().map(Pauses::json).collect::<Vec<_>>(),
            "counts": self.counts.iter().map(Counts::json).collect::<Vec<_>>(),
        })
    }
}

/// A program's line, as it is printed as soon as it is known.
pub fn line(row: &Row) -> String {
    let ratios: String =
        row.cpu.iter().map(|r| format!("{:>7.3}x ({:.2}-{:.2})", r.median, r.low, r.high)).collect();
    format!("{:14} {:>8.1}  {:.2}-{:.2} {ratios}\n", row.name, row.plain * 1e3, row.noise.0, row.noise.1)
}

/// A program's line of instructions, as it is printed as soon as it is known.
pub fn count_line(counts: &Counts) -> String {
    let ratios: String = (1..WAYS.len()).map(|way| format!("{:>12.3}x", counts.ratio(way))).collect();
    format!("{:13} {:>11} {ratios}\n", counts.name, counts.instructions[0])
}
