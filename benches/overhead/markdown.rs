//! The README's tables, between two marker comments.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::measure::{LARGE, mean};
use crate::report::{Report, heads, machine};
use crate::ways::WAYS;

const BEGIN: &str = "<!-- overhead: written by `cargo bench --bench overhead -- --write` -->";
const END: &str = "<!-- /overhead -->";
/// The chart's place in the repository.
pub const CHART: &str = "benches/overhead.svg";

/// Begins a table.
fn head(out: &mut String, cells: &[&str]) {
    let _ = writeln!(out, "\n| {} |\n|{}", cells.join(" | "), "---|".repeat(cells.len()));
}

impl Report {
    /// What the README shows.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}.\n", machine());
        self.groups_table(&mut out);
        let _ = writeln!(out, "\n![Running time of each program against plain wasmtime]({CHART})\n");
        self.programs_table(&mut out);
        self.modules_table(&mut out);
        self.starts_table(&mut out);
        self.pauses_table(&mut out);
        out
    }

    fn groups_table(&self, out: &mut String) {
        let [ours, nan, ..] = heads();
        head(
            out,
            &[
                "running time against plain",
                "programs",
                &format!("**{ours}**"),
                "worst",
                nan,
                "wasmtime's fuel",
                "its epochs",
            ],
        );
        let all = self.groups().into_iter().map(Some).chain([None]);
        for group in all {
            let rows = self.rows.iter().filter(|row| group.is_none_or(|group| row.group == group)).count();
            let Some(worst) = self.worst(1, group) else { continue };
            let means: Vec<String> =
                (1..WAYS.len()).map(|way| format!("{:.2}x", self.mean(way, group))).collect();
            let name = group.unwrap_or("**all, geometric mean**");
            let _ = writeln!(
                out,
                "| {name} | {rows} | **{}** | {:.2}x `{}` | {} | {} | {} |",
                means[0], worst.cpu[0].median, worst.name, means[1], means[2], means[3]
            );
        }
    }

    fn programs_table(&self, out: &mut String) {
        let _ = writeln!(out, "<details><summary>Each program</summary>\n");
        let _ = writeln!(
            out,
            "Processor time of the middle one of {} layouts of the code ({} of modules above {} MiB), {} rounds in each; in brackets the least and the largest ratio of a layout.",
            self.layouts,
            self.layouts.min(LARGE.1),
            LARGE.0 >> 20,
            self.rounds
        );
        head(out, &[&["program", "plain, ms"][..], &heads()].concat());
        for row in &self.rows {
            let cells: Vec<String> =
                row.cpu.iter().map(|r| format!("{:.2}x ({:.2}-{:.2})", r.median, r.low, r.high)).collect();
            let _ = writeln!(out, "| `{}` | {:.1} | {} |", row.name, row.plain * 1e3, cells.join(" | "));
        }
        let _ = writeln!(out, "\n</details>");
    }

    fn modules_table(&self, out: &mut String) {
        if self.modules.is_empty() {
            return;
        }
        head(out, &[&["compile time, code size against plain"][..], &heads()].concat());
        let shown = self.modules.iter().filter(|row| row.bytes > 200_000);
        let lines = shown
            .map(|row| (format!("`{}`", row.name), vec![row]))
            .chain([("all modules, geometric mean".to_string(), self.modules.iter().collect())]);
        for (name, rows) in lines {
            let cell = |way: usize| {
                let compile = mean(rows.iter().map(|row| row.compile_ratio(way)));
                format!("{compile:.2}x, {:.2}x", mean(rows.iter().map(|row| row.code_ratio(way))))
            };
            let _ =
                writeln!(out, "| {name} | {} |", (1..WAYS.len()).map(cell).collect::<Vec<_>>().join(" | "));
        }
    }

    fn starts_table(&self, out: &mut String) {
        if self.starts.is_empty() {
            return;
        }
        head(
            out,
            &[
                "ms to the first instruction",
                "cold, plain",
                "cold",
                "from the cache, plain",
                "from the cache",
                "rewriting: MB of code a second, one core, all",
                "its memory: for any module, and times the module's size",
            ],
        );
        for start in &self.starts {
            let ms = [start.cold.0, start.cold.1, start.cached.0, start.cached.1]
                .map(|s| format!("{:.1}", s * 1e3));
            let _ = writeln!(
                out,
                "| `{}` | {} | {:.0}, {:.0} | {} |",
                start.module,
                ms.join(" | "),
                start.speed_one(),
                start.speed_all(),
                start.memory()
            );
        }
    }

    fn pauses_table(&self, out: &mut String) {
        if self.pauses.is_empty() {
            return;
        }
        head(out, &["ms of the guest's time from a request to the pause", "median", "worst"]);
        for pause in &self.pauses {
            let _ =
                writeln!(out, "| {} | {:.1} | {:.1} |", pause.shape, pause.cpu.0 * 1e3, pause.cpu.1 * 1e3);
        }
    }

    /// Puts the tables between the markers of a file.
    pub fn write_between_markers(&self, file: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let (head, rest) =
            text.split_once(BEGIN).unwrap_or_else(|| panic!("{}: no `{BEGIN}`", file.display()));
        let (_, tail) = rest.split_once(END).unwrap_or_else(|| panic!("{}: no `{END}`", file.display()));
        fs::write(file, format!("{head}{BEGIN}\n{}{END}{tail}", self.markdown())).unwrap();
    }
}
