//! Instructions instead of seconds: what a machine that others use cannot blur.
//!
//! A child process runs the program once, and another twice, both under valgrind's cachegrind without its cache; the difference is
//! one run: instantiation, the guest's instructions (slices with their unwinding and rewinding included) and those of host
//! calls, none of the kernel and none of compilation. The processor that valgrind shows to the compiler has no AVX-512.

use std::process::Command;

use serde_json::{Value, json};

use crate::clock::without_cpu_time;
use crate::host::{Ready, wasi};
use crate::programs::{self, Program};
use crate::ways::{WAYS, Way, build};

/// Instructions of one run in each way, in the order of `WAYS`.
pub struct Counts {
    pub name: String,
    pub instructions: Vec<u64>,
}

/// Counts; `None` if the program has not been fetched.
pub fn measure(program: &Program) -> Option<Counts> {
    program.wasm()?;
    let count = |way: &Way| count(program, *way, 2).saturating_sub(count(program, *way, 1));
    Some(Counts { name: program.name.clone(), instructions: WAYS.iter().map(count).collect() })
}

fn count(program: &Program, way: Way, runs: u32) -> u64 {
    let child = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--child-count", &program.name, way.name(), &runs.to_string()])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .expect("valgrind is needed to count instructions");
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{told}");
    let line = told.lines().find_map(|line| line.split_once("I   refs:").or(line.split_once("I refs:")));
    let number = line.unwrap_or_else(|| panic!("no count: {told}")).1.trim().replace(',', "");
    number.parse().unwrap()
}

/// The child: runs a program by its name, in a way by its name, so many times.
pub fn child_count(name: &str, way: &str, runs: u32) {
    without_cpu_time();
    let program = programs::all().into_iter().find(|program| program.name == name).expect("a program");
    let way = WAYS.into_iter().find(|w| w.name() == way).expect("a way");
    let cache = tempfile::tempdir().unwrap();
    let built = build(way, &program.wasm().expect("it was there"), cache.path());
    for _ in 0..runs {
        Ready::new(&built.compiled, way, wasi(&program).0).run();
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
