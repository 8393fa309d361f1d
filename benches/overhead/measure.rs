//! Rounds: in each, a program runs once in every way, in an order that changes from round to round.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::clock::Took;
use crate::host::{Ready, wasi};
use crate::programs::{Program, Source};
use crate::ways::{Built, WAYS, Way, build};

/// A ratio of medians; median and quartiles of the ratios within single rounds, and the ratio of the least times, beside it:
/// where they disagree, the machine was busy.
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
    /// Median of plain, in seconds of processor time.
    pub plain: f64,
    /// Quartiles of plain against its own median: the noise.
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
#[derive(Default)]
pub struct Modules {
    built: HashMap<String, Vec<Built>>,
    pub rows: Vec<ModuleRow>,
}

/// Modules up to this size are compiled this often, for the least.
const SMALL: (usize, usize) = (1 << 20, 3);

impl Modules {
    /// The program's module in all ways; `None` if it has not been fetched.
    fn get(&mut self, program: &Program) -> Option<&[Built]> {
        let name = program.module();
        if !self.built.contains_key(&name) {
            let wasm = program.wasm()?;
            let times = if wasm.len() <= SMALL.0 { SMALL.1 } else { 1 };
            let mut built: Vec<Vec<Built>> = vec![];
            for _ in 0..times {
                built.push(WAYS.iter().map(|way| fresh(*way, &wasm)).collect());
            }
            if !matches!(program.source, Source::Text(_)) {
                self.rows.push(module_row(&name, wasm.len(), &built));
            }
            self.built.insert(name.clone(), built.pop()?);
        }
        self.built.get(&name).map(Vec::as_slice)
    }
}

fn fresh(way: Way, wasm: &[u8]) -> Built {
    let cache = tempfile::tempdir().unwrap();
    build(way, wasm, cache.path())
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

/// Runs a program; `None` if it has not been fetched.
pub fn measure(program: &Program, modules: &mut Modules, rounds: usize) -> Option<Row> {
    let built = modules.get(program)?;
    let mut samples: Vec<Vec<Took>> = vec![vec![]; WAYS.len()];
    let mut expected = None;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    // One round before those that count.
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..WAYS.len()).collect();
        for i in (1..order.len()).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(i, (random % (i as u64 + 1)) as usize);
        }
        for way in order {
            let (wasi, out) = wasi(program);
            let took = Ready::new(&built[way].compiled, WAYS[way], wasi).run();
            let printed = out.contents();
            let expected = expected.get_or_insert_with(|| printed.clone());
            assert!(*expected == printed, "{}: {} prints something else", program.name, WAYS[way].name());
            if round > 0 {
                samples[way].push(took);
            }
        }
    }
    Some(row(program, &samples))
}

fn row(program: &Program, samples: &[Vec<Took>]) -> Row {
    let plain = sorted(samples[0].iter().map(|took| took.cpu));
    let median = at(&plain, 0.5);
    let ratios =
        |time: fn(&Took) -> f64| (1..WAYS.len()).map(|way| ratio(&samples[0], &samples[way], time)).collect();
    Row {
        name: program.name.clone(),
        group: program.group,
        module: program.module(),
        plain: median,
        noise: (at(&plain, 0.25) / median, at(&plain, 0.75) / median),
        cpu: ratios(|took| took.cpu),
        wall: ratios(|took| took.wall),
    }
}

fn ratio(plain: &[Took], other: &[Took], time: fn(&Took) -> f64) -> Ratio {
    let paired = sorted(plain.iter().zip(other).map(|(plain, other)| time(other) / time(plain)));
    let [plain, other] = [plain, other].map(|all| sorted(all.iter().map(time)));
    Ratio {
        median: at(&other, 0.5) / at(&plain, 0.5),
        paired: at(&paired, 0.5),
        least: at(&other, 0.0) / at(&plain, 0.0),
        low: at(&paired, 0.25),
        high: at(&paired, 0.75),
    }
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
