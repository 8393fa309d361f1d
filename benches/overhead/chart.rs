//! The chart: a line a program, with bars for the rewritten program, wasmtime's fuel and its epochs; plain is the line at 1.
//! It follows the reader's light or dark setting, and has no background of its own.

use std::fmt::Write;

use crate::measure::Ratio;
use crate::report::{Report, machine};
use crate::ways::{WAYS, Way};

/// Pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 64.0;
const LINE: f64 = 20.0;
const HEAD: f64 = 26.0;
/// Bars end here; the largest of a line has its number beside it then.
const RATIO_MAX: f64 = 3.0;

/// Class of the bar, place in `Row::cpu`, offset in the line and height.
const BARS: [(&str, usize, f64, f64); 4] = [
    ("ours", Way::Rewritten as usize - 1, 1.0, 6.0),
    ("nan", Way::OtherNan as usize - 1, 7.5, 3.0),
    ("fuel", Way::Fuel as usize - 1, 11.0, 3.0),
    ("epochs", Way::Epochs as usize - 1, 14.5, 3.0),
];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:10px}.head{font-weight:600}\
.grid{stroke:#d0d7de;stroke-width:1}.plain{stroke:#24292f;stroke-width:1.5}.ours{fill:#0969da}.nan{fill:#54aeff}\
.fuel{fill:#bc4c00}.epochs{fill:#bf8700}.spread{stroke:#24292f;stroke-width:1}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.plain,.spread{stroke:#e6edf3}.ours{fill:#58a6ff}\
.nan{fill:#1f6feb}.fuel{fill:#f0883e}.epochs{fill:#d29922}}";

fn x(ratio: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * ratio.min(RATIO_MAX) / RATIO_MAX
}

/// The chart as SVG.
pub fn svg(report: &Report) -> String {
    let groups = report.groups();
    let height = TOP + groups.len() as f64 * HEAD + report.rows.len() as f64 * LINE + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>Running time of each program against plain wasmtime</title>\n<style>{STYLE}</style>\n"
    );
    frame(&mut out, height);
    let mut y = TOP;
    for group in groups {
        let mean = report.mean(1, Some(group));
        let _ = writeln!(out, "<text class=\"head\" x=\"8\" y=\"{}\">{group}: {mean:.2}x</text>", y + 18.0);
        y += HEAD;
        for row in report.rows.iter().filter(|row| row.group == group) {
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 13.0,
                row.name
            );
            for (class, way, offset, thick) in BARS {
                bar(&mut out, class, &row.cpu[way], y + offset, thick);
            }
            spread(&mut out, &row.cpu[0], y + 4.0);
            let most = row.cpu.iter().map(|r| r.median).fold(0.0, f64::max);
            if most > RATIO_MAX {
                let (x, y) = (x(RATIO_MAX) + 4.0, y + 13.0);
                let _ = writeln!(out, "<text class=\"small\" x=\"{x}\" y=\"{y}\">{most:.1}x</text>");
            }
            y += LINE;
        }
    }
    let _ =
        writeln!(out, "<text class=\"small\" x=\"8\" y=\"{}\">{}</text>\n</svg>", height - 10.0, machine());
    out
}

/// Key, scale and the line of plain.
fn frame(out: &mut String, height: f64) {
    let mut at = LEFT;
    for (class, way, ..) in BARS {
        let name = match WAYS[way + 1] {
            Way::OtherNan => format!("rewritten, {}", Way::OtherNan.name()),
            way @ (Way::Fuel | Way::Epochs) => format!("wasmtime's {}", way.name()),
            way => way.name().to_string(),
        };
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{at}\" y=\"12\" width=\"14\" height=\"10\"/><text x=\"{}\" y=\"21\">{name}</text>",
            at + 19.0
        );
        at += 40.0 + 6.6 * name.len() as f64;
    }
    let _ = writeln!(
        out,
        "<line class=\"plain\" x1=\"{at}\" y1=\"11\" x2=\"{at}\" y2=\"23\"/><text x=\"{}\" y=\"21\">plain</text>",
        at + 8.0
    );
    for step in 0..=6 {
        let ratio = f64::from(step) * 0.5;
        let class = if step == 2 { "plain" } else { "grid" };
        let at = x(ratio);
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{}\"/>",
            TOP - 6.0,
            height - 32.0
        );
        let _ = writeln!(
            out,
            "<text class=\"small\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{ratio}x</text>",
            TOP - 12.0
        );
    }
}

fn bar(out: &mut String, class: &str, ratio: &Ratio, y: f64, thick: f64) {
    let width = x(ratio.median) - LEFT;
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{thick}\"/>"
    );
}

/// The least and the largest ratio of a layout.
fn spread(out: &mut String, ratio: &Ratio, y: f64) {
    let _ = writeln!(
        out,
        "<line class=\"spread\" x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
        x(ratio.low),
        x(ratio.high)
    );
}
