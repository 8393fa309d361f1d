//! How soon a guest stops when it is asked to: from the request until it is paused, worst of many, over loops of several
//! shapes, in processor time of the guest (and by the wall, which has the machine's noise in it).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_ckpt::machine::{Instance, Slice, Until};
use wasm_ckpt::{Engine, Functions, Settings};

use crate::clock::cpu_time;

/// Requests of each shape.
const REQUESTS: u32 = 40;
/// What is promised.
const BOUND: f64 = 0.020;

/// Name, and a module whose `run` goes on for a long time.
const SHAPES: &[(&str, &str)] = &[
    ("one operation", "(func (export \"run\") (local $i i64) (loop $l (local.set $i (i64.add (local.get $i) (i64.const 1))) (br $l)))"),
    (
        "nest of three loops",
        "(memory 1) (func (export \"run\") (local $i i32) (local $j i32)
           (loop $outer (local.set $i (i32.const 100))
             (loop $middle (local.set $j (i32.const 100))
               (loop $inner (i32.store (local.get $j) (i32.add (i32.load (local.get $i)) (local.get $j)))
                 (br_if $inner (local.tee $j (i32.sub (local.get $j) (i32.const 1)))))
               (br_if $middle (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
             (br $outer)))",
    ),
    (
        "divisions",
        "(func (export \"run\") (local $x i64) (local.set $x (i64.const -7))
           (loop $l (local.set $x (i64.add (i64.div_u (i64.const -1) (i64.or (local.get $x) (i64.const 1))) (i64.const 3))) (br $l)))",
    ),
    (
        "cache misses",
        "(memory 1024) (func (export \"run\") (local $x i32)
           (loop $l (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.add (i32.const 1013904223)
               (i32.load (i32.and (local.get $x) (i32.const 0x3fffffc)))))) (br $l)))",
    ),
    (
        "a 64 KiB fill a pass",
        "(memory 16) (func (export \"run\") (loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br $l)))",
    ),
    (
        "a 1 MiB fill a pass",
        "(memory 16) (func (export \"run\") (loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x100000)) (br $l)))",
    ),
    (
        "cheap passes, then 1 MiB fills",
        "(memory 16) (func (export \"run\") (local $i i32)
           (loop $again (local.set $i (i32.const 40000000))
             (loop $l (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
             (local.set $i (i32.const 400))
             (loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x100000))
               (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
             (br $again)))",
    ),
    (
        "calls",
        "(func $fib (param i32) (result i32) (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
             (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
         (func (export \"run\") (loop $l (drop (call $fib (i32.const 30))) (br $l)))",
    ),
    (
        "a stack 20,000 deep",
        "(func $down (param i32) (result i32) (local $n i32) (if (local.get 0) (then (return (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (local.get 0)))))
             (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l)) (unreachable))
         (func (export \"run\") (drop (call $down (i32.const 20000))))",
    ),
    (
        "a stack 300,000 deep",
        "(func $down (param i32) (result i32) (local $n i32) (if (local.get 0) (then (return (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (local.get 0)))))
             (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l)) (unreachable))
         (func (export \"run\") (drop (call $down (i32.const 300000))))",
    ),
];

/// How long requests took, in seconds.
pub struct Pauses {
    pub shape: &'static str,
    /// Processor time: median, and the worst.
    pub cpu: (f64, f64),
    /// By the wall.
    pub wall: (f64, f64),
}

impl Pauses {
    /// Within what is promised.
    pub fn kept(&self) -> bool {
        self.cpu.1 <= BOUND
    }

    /// All of it.
    pub fn json(&self) -> Value {
        json!({"shape": self.shape, "cpu_seconds": {"median": self.cpu.0, "worst": self.cpu.1},
            "wall_seconds": {"median": self.wall.0, "worst": self.wall.1}, "bound_seconds": BOUND})
    }
}

/// All shapes.
pub fn measure() -> Vec<Pauses> {
    let engine = Engine::new(Settings::default()).unwrap();
    SHAPES.iter().map(|(shape, text)| ask(&engine, shape, &format!("(module {text})"))).collect()
}

fn ask(engine: &Engine, shape: &'static str, text: &str) -> Pauses {
    let module = engine.compile(&wat::parse_str(text).unwrap()).unwrap();
    let mut instance = Instance::new(&module, None, &Functions::new(), "run", vec![]).unwrap();
    let (mut cpu, mut wall) = (vec![], vec![]);
    for n in 0..REQUESTS {
        // The first requests come at the very start, when the guest's pace is not known; later ones at any moment.
        let wait = Duration::from_micros(if n < 4 { 100 } else { 20_000 + u64::from(n) * 1_733 });
        let request = Arc::new(AtomicBool::new(false));
        let until = Until { request: Some(request.clone()), ..Until::default() };
        if n < 4 {
            instance = Instance::new(&module, None, &Functions::new(), "run", vec![]).unwrap();
        }
        let asked = std::thread::scope(|scope| {
            let run = scope.spawn(|| instance.run(&until).unwrap());
            std::thread::sleep(wait);
            let asked = (cpu_time(), Instant::now());
            request.store(true, Ordering::SeqCst);
            assert!(matches!(run.join().unwrap(), Slice::Paused));
            asked
        });
        cpu.push((cpu_time() - asked.0).as_secs_f64());
        wall.push(asked.1.elapsed().as_secs_f64());
    }
    let of = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[times.len() - 1])
    };
    Pauses { shape, cpu: of(cpu), wall: of(wall) }
}
