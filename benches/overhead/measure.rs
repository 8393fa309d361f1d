//! Rounds: in each, a program runs once in every way in each layout, in an order that changes from round to round.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::clock::Took;
use crate::host::{Ready, wasi};
use crate::layout::shifted;
use crate::programs::{Program, Source};
use crate::ways::{Built, Compiled, WAYS, build, build_once};

/// A ratio of the times of the middle layout, and the least and the largest ratio of a layout. Beside it the middle one of the layouts' ratios, and
/// the ratio of the least times: where they disagree, the machine was busy, or it is the layout that decides.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    pub median: f64,
    pub paired: f64,
    pub least: f64,
    pub low: f64,
    pub high: f64,
}

/// What a program took.
pub struct Row {
    pub name: String,
    pub group: &'static str,
    pub module: String,
    /// Median of plain in the middle layout, in seconds of processor time.
    pub plain: f64,
    /// Quartiles of all times of plain against it: the noise, and what the layout does.
    pub noise: (f64, f64),
    /// Processor time against plain's, in the order of `WAYS` without plain.
    pub cpu: Vec<Ratio>,
    /// Wall time against plain's, in the same order.
    pub wall: Vec<Ratio>,
}

/// What a module took to be made ready, in the order of `WAYS`.
pub struct ModuleRow {
    pub name: String,
    pub bytes: u64,
    pub compile: Vec<f64>,
    pub code: Vec<u64>,
    pub rewrite: f64,
}

/// Modules that have been compiled, by name.
pub struct Modules {
    layouts: usize,
    /// By layout, in the order of `WAYS`.
    built: HashMap<String, Vec<Vec<Compiled>>>,
    pub rows: Vec<ModuleRow>,
}

/// Modules up to this size are compiled this often, for the least.
const SMALL: (usize, usize) = (1 << 20, 3);
/// Modules above this size are compiled in so many layouts at most.
pub const LARGE: (usize, usize) = (4 << 20, 3);

impl Modules {
    /// None yet; each will be compiled in so many layouts.
    pub fn new(layouts: usize) -> Self {
        Modules { layouts, built: HashMap::new(), rows: vec![] }
    }

    /// The program's module in all layouts and ways; `None` if it has not been fetched.
    fn get(&mut self, program: &Program) -> Option<&[Vec<Compiled>]> {
        let name = program.module();
        if !self.built.contains_key(&name) {
            let wasm = program.wasm()?;
            let times = if wasm.len() <= SMALL.0 { SMALL.1 } else { 1 };
            let mut built: Vec<Vec<Built>> = vec![];
            for _ in 0..times {
                built.push(WAYS.iter().map(|way| fresh(|cache| build(*way, &wasm, cache))).collect());
            }
            if !matches!(program.source, Source::Text(_)) {
                self.rows.push(module_row(&name, wasm.len(), &built));
            }
            let mut layouts = vec![built.pop()?.into_iter().map(|built| built.compiled).collect()];
            let count = if wasm.len() <= LARGE.0 { self.layouts } else { self.layouts.min(LARGE.1) };
            for layout in 1..count {
                let wasm = shifted(&wasm, layout);
                layouts.push(WAYS.iter().map(|way| fresh(|cache| build_once(*way, &wasm, cache))).collect());
            }
            self.built.insert(name.clone(), layouts);
        }
        self.built.get(&name).map(Vec::as_slice)
    }
}

/// With an empty cache, which is gone afterwards.
fn fresh<T>(build: impl FnOnce(&Path) -> T) -> T {
    build(tempfile::tempdir().unwrap().path())
}

fn module_row(name: &str, bytes: usize, built: &[Vec<Built>]) -> ModuleRow {
    let least =
        |value: &dyn Fn(&[Built]) -> f64| built.iter().map(|b| value(b)).fold(f64::INFINITY, f64::min);
    ModuleRow {
        name: name.to_string(),
        bytes: bytes as u64,
        compile: (0..WAYS.len()).map(|way| least(&|b| b[way].compile.cpu)).collect(),
        code: built[0].iter().map(|b| b.code).collect(),
        rewrite: least(&|b| b[1].rewrite.map_or(0.0, |took| took.cpu)),
    }
}

/// Runs a program so many rounds in each layout; `None` if it has not been fetched.
pub fn measure(program: &Program, modules: &mut Modules, rounds: usize) -> Option<Row> {
    let layouts = modules.get(program)?;
    // By layout and way.
    let mut samples: Vec<Vec<Vec<Took>>> = vec![vec![vec![]; WAYS.len()]; layouts.len()];
    let mut expected = None;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    // One round before those that count.
    for round in 0..=rounds {
        for (built, samples) in layouts.iter().zip(&mut samples) {
            for way in shuffled(WAYS.len(), &mut random) {
                let (wasi, out) = wasi(program);
                let took = Ready::new(&built[way], WAYS[way], wasi).run();
                let printed = out.contents();
                let expected = expected.get_or_insert_with(|| printed.clone());
                assert!(*expected == printed, "{}: {} prints something else", program.name, WAYS[way].name());
                if round > 0 {
                    samples[way].push(took);
                }
            }
        }
    }
    Some(row(program, &samples))
}

/// The numbers below `count` in another order each time.
fn shuffled(count: usize, random: &mut u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        order.swap(i, (*random % (i as u64 + 1)) as usize);
    }
    order
}

fn row(program: &Program, samples: &[Vec<Vec<Took>>]) -> Row {
    let medians = |way: usize, time: fn(&Took) -> f64| -> Vec<f64> {
        samples.iter().map(|ways| middle(ways[way].iter().map(time))).collect()
    };
    let all =
        |way: usize, time: fn(&Took) -> f64| sorted(samples.iter().flat_map(|ways| &ways[way]).map(time));
    let ratio = |way: usize, time: fn(&Took) -> f64| {
        let (plain, other) = (medians(0, time), medians(way, time));
        let ratios = sorted(plain.iter().zip(&other).map(|(plain, other)| other / plain));
        Ratio {
            median: middle(other.into_iter()) / middle(plain.into_iter()),
            paired: at(&ratios, 0.5),
            least: all(way, time)[0] / all(0, time)[0],
            low: ratios[0],
            high: ratios[ratios.len() - 1],
        }
    };
    let plain = middle(medians(0, |took| took.cpu).into_iter());
    let times = all(0, |took| took.cpu);
    Row {
        name: program.name.clone(),
        group: program.group,
        module: program.module(),
        plain,
        noise: (at(&times, 0.25) / plain, at(&times, 0.75) / plain),
        cpu: (1..WAYS.len()).map(|way| ratio(way, |took| took.cpu)).collect(),
        wall: (1..WAYS.len()).map(|way| ratio(way, |took| took.wall)).collect(),
    }
}

/// The median.
fn middle(values: impl Iterator<Item = f64>) -> f64 {
    at(&sorted(values), 0.5)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// A quantile of sorted values, which are not none.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

/// The geometric mean; 1 of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        (sum, count) = (sum + value.ln(), count + 1);
    }
    (sum / f64::from(count.max(1))).exp()
}

impl Row {
    /// All of it.
    pub fn json(&self) -> Value {
        let ways = |ratios: &[Ratio]| -> Value {
            let each = WAYS[1..].iter().zip(ratios).map(|(way, r)| {
                let all = json!({
                    "ratio": r.median, "paired": r.paired, "least": r.least, "low": r.low, "high": r.high,
                });
                (way.name().to_string(), all)
            });
            each.collect::<serde_json::Map<_, _>>().into()
        };
        json!({
            "program": self.name, "group": self.group, "module": self.module, "plain_seconds": self.plain,
            "noise": [self.noise.0, self.noise.1], "cpu": ways(&self.cpu), "wall": ways(&self.wall),
        })
    }
}

impl ModuleRow {
    /// Compile time against plain's, of a way by its place in `WAYS`.
    pub fn compile_ratio(&self, way: usize) -> f64 {
        self.compile[way] / self.compile[0]
    }

    /// Code size against plain's.
    pub fn code_ratio(&self, way: usize) -> f64 {
        self.code[way] as f64 / self.code[0] as f64
    }

    /// All of it; seconds of processor time.
    pub fn json(&self) -> Value {
        let ways: serde_json::Map<String, Value> = WAYS
            .iter()
            .enumerate()
            .map(|(i, way)| {
                (
                    way.name().to_string(),
                    json!({"compile_seconds": self.compile[i], "code_bytes": self.code[i]}),
                )
            })
            .collect();
        json!({"module": self.name, "bytes": self.bytes, "rewrite_seconds": self.rewrite, "ways": ways})
    }
}
