//! Instructions instead of seconds: what a machine that others use cannot blur.
//!
//! Child processes run under valgrind's cachegrind without its cache: one compiles the program, the second loads it, the third loads
//! and runs it. The difference of the last two is one run: instantiation, the guest's instructions (slices with their unwinding and
//! rewinding included) and those of host calls, none of the kernel. The processor that valgrind shows to the compiler has no AVX-512.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::clock::without_cpu_time;
use crate::host::{Ready, wasi};
use crate::programs::Program;
use crate::ways::{WAYS, build_once};

/// Instructions of one run in each way, in the order of `WAYS`.
pub struct Counts {
    pub name: String,
    pub instructions: Vec<u64>,
}

/// Counts; `None` if the program has not been fetched. What is compiled is kept below `cache`.
pub fn measure(program: &Program, cache: &Path) -> Option<Counts> {
    program.wasm()?;
    let one = |way: usize| {
        let cache = cache.join(format!("{}-{way}", program.module()));
        if !cache.exists() {
            count(program, way, 0, &cache);
        }
        count(program, way, 1, &cache).saturating_sub(count(program, way, 0, &cache))
    };
    Some(Counts { name: program.name.clone(), instructions: (0..WAYS.len()).map(one).collect() })
}

fn count(program: &Program, way: usize, runs: u32, cache: &Path) -> u64 {
    let child = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--child-count", &way.to_string(), &runs.to_string()])
        .arg(cache)
        .args(program.options())
        .output()
        .expect("valgrind is needed to count instructions");
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{told}");
    let line = told.lines().find_map(|line| line.split_once("I   refs:").or(line.split_once("I refs:")));
    let number = line.unwrap_or_else(|| panic!("no count: {told}")).1.trim().replace(',', "");
    number.parse().unwrap()
}

/// The child: number of the way, number of runs, directory of what is compiled.
pub fn child_count(program: &Program, args: &[String]) {
    let [way, runs, cache] = args else { panic!("three arguments, not {args:?}") };
    without_cpu_time();
    let way = WAYS[way.parse::<usize>().expect("a number")];
    let compiled = build_once(way, &program.wasm().expect("it was there"), Path::new(cache));
    for _ in 0..runs.parse().expect("a number") {
        Ready::new(&compiled, way, wasi(program).0).run();
    }
}

impl Counts {
    /// Against plain, of a way by its place in `WAYS`.
    pub fn ratio(&self, way: usize) -> f64 {
        self.instructions[way] as f64 / self.instructions[0] as f64
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let ways: serde_json::Map<String, Value> =
            WAYS.iter().zip(&self.instructions).map(|(way, n)| (way.name().to_string(), json!(n))).collect();
        json!({"program": self.name, "instructions": ways})
    }
}
