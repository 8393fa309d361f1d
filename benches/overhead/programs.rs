//! What is measured: each program is cut to some 50 to 300 ms of plain code.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Where a program comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Below `guests/`.
    File(&'static str),
    /// Anywhere.
    Other(PathBuf),
    /// Text of a module that is made here.
    Text(String),
}

/// A program with its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: String,
    pub group: &'static str,
    pub source: Source,
    /// Without the program's own name.
    pub args: Vec<String>,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A module below `guests/`; `None` where it has not been fetched.
pub fn guest(name: &str) -> Option<Vec<u8>> {
    std::fs::read(root().join("guests").join(name)).ok()
}

fn stem(file: &Path) -> String {
    file.file_stem().map_or_else(Default::default, |stem| stem.to_string_lossy().into_owned())
}

impl Program {
    /// A module that is none of the benchmark's.
    pub fn of_file(file: &Path, args: &[String]) -> Self {
        let source = Source::Other(file.to_path_buf());
        Program { name: stem(file), group: "other", source, args: args.to_vec() }
    }

    /// The benchmark's own options that name it alone.
    pub fn options(&self) -> Vec<OsString> {
        match &self.source {
            Source::Other(file) => {
                let file = ["--file".into(), file.into(), "--".into()];
                file.into_iter().chain(self.args.iter().map(OsString::from)).collect()
            }
            _ => vec![OsString::from(&self.name)],
        }
    }

    /// The module; `None` where it has not been fetched.
    pub fn wasm(&self) -> Option<Vec<u8>> {
        match &self.source {
            Source::File(name) => guest(name),
            Source::Other(file) => std::fs::read(file).ok(),
            Source::Text(text) => Some(wat::parse_str(text).unwrap()),
        }
    }

    /// Name of the module, which several programs can share.
    pub fn module(&self) -> String {
        match &self.source {
            Source::File(name) => {
                name.rsplit('/').next().unwrap_or(name).trim_end_matches(".wasm").to_string()
            }
            Source::Other(file) => stem(file),
            Source::Text(_) => self.name.clone(),
        }
    }
}

/// Group, name, file below `guests/`, arguments.
const PROGRAMS: &[(&str, &str, &str, &str)] = &[
    ("numerical", "gemm", "wasm/kernels.wasm", "gemm 1 25"),
    ("numerical", "stencil", "wasm/kernels.wasm", "stencil 1 100"),
    ("numerical", "cholesky", "wasm/kernels.wasm", "cholesky 1 80"),
    ("numerical", "mandelbrot", "wasm/kernels.wasm", "mandelbrot 1 10"),
    ("numerical", "atax", "wasm/poly.wasm", "atax 3000"),
    ("numerical", "bicg", "wasm/poly.wasm", "bicg 3000"),
    ("numerical", "syrk", "wasm/poly.wasm", "syrk 80"),
    ("numerical", "trmm", "wasm/poly.wasm", "trmm 80"),
    ("numerical", "lu", "wasm/poly.wasm", "lu 80"),
    ("numerical", "floyd", "wasm/poly.wasm", "floyd 15"),
    ("numerical", "jacobi", "wasm/poly.wasm", "jacobi 120"),
    ("numerical", "seidel", "wasm/poly.wasm", "seidel 40"),
    ("numerical", "correlation", "wasm/poly.wasm", "correlation 60"),
    ("numerical", "durbin", "wasm/poly.wasm", "durbin 300"),
    ("numerical", "nbody", "wasm/nbody.wasm", "400000"),
    ("numerical", "orbits", "wasm/numbers.wasm", "orbits 333"),
    ("numerical", "gauss", "wasm/numbers.wasm", "gauss 362"),
    ("numerical", "filter", "wasm/numbers.wasm", "filter 284"),
    ("numerical", "fft", "wasm/numbers.wasm", "fft 398"),
    ("numerical", "julia", "wasm/numbers.wasm", "julia 484"),
    ("numerical", "blocked", "wasm/numbers.wasm", "blocked 567"),
    ("numerical", "rays", "wasm/numbers.wasm", "rays 216"),
    ("numerical", "collatz", "wasm/numbers.wasm", "collatz 685"),
    ("calls", "fib", "wasm/kernels.wasm", "fib 1 20"),
    ("calls", "tak", "wasm/mixed.wasm", "tak 200"),
    ("calls", "acker", "wasm/mixed.wasm", "acker 300"),
    ("calls", "deep", "wasm/ackermann.wasm", "6 2000 800"),
    ("calls", "mutual", "wasm/mixed.wasm", "mutual 1000"),
    ("calls", "leaf", "wasm/mixed.wasm", "leaf 2000"),
    ("calls", "queens", "wasm/mixed.wasm", "queens 1500"),
    ("calls", "sudoku", "wasm/sudoku.wasm", "60"),
    ("calls", "virtual", "wasm/mixed.wasm", "virtual 400"),
    ("calls", "shapes", "wasm/kernels.wasm", "shapes 1 25"),
    ("calls", "trees", "wasm/mixed.wasm", "trees 700"),
    ("calls", "permute", "wasm/assorted.wasm", "permute 400"),
    ("calls", "treap", "wasm/assorted.wasm", "treap 40"),
    ("calls", "matcher", "wasm/assorted.wasm", "matcher 80"),
    ("calls", "hanoi", "wasm/machines.wasm", "hanoi 279"),
    ("calls", "tictactoe", "wasm/machines.wasm", "tictactoe 512"),
    ("calls", "coroutine", "wasm/machines.wasm", "coroutine 156"),
    ("calls", "avl", "wasm/structures.wasm", "avl 212"),
    ("calls", "dancing", "wasm/structures.wasm", "dancing 163"),
    ("bytes and tables", "sum", "wasm/kernels.wasm", "sum 1 80"),
    ("bytes and tables", "scan", "wasm/kernels.wasm", "scan 1 20"),
    ("bytes and tables", "crc32", "wasm/kernels.wasm", "crc32 1 30"),
    ("bytes and tables", "sieve", "wasm/kernels.wasm", "sieve 1 12"),
    ("bytes and tables", "chase", "wasm/kernels.wasm", "chase 1 12"),
    ("bytes and tables", "distance", "wasm/kernels.wasm", "distance 1 10"),
    ("bytes and tables", "utf8", "wasm/mixed.wasm", "utf8 800"),
    ("bytes and tables", "base64", "wasm/mixed.wasm", "base64 800"),
    ("bytes and tables", "tokens", "wasm/mixed.wasm", "tokens 500"),
    ("bytes and tables", "histogram", "wasm/mixed.wasm", "histogram 800"),
    ("bytes and tables", "find", "wasm/mixed.wasm", "find 600"),
    ("bytes and tables", "table", "wasm/mixed.wasm", "table 400"),
    ("bytes and tables", "life", "wasm/mixed.wasm", "life 400"),
    ("bytes and tables", "knapsack", "wasm/assorted.wasm", "knapsack 300"),
    ("bytes and tables", "distances", "wasm/assorted.wasm", "distances 200"),
    ("bytes and tables", "json", "wasm/assorted.wasm", "json 12000"),
    ("bytes and tables", "pancakes", "wasm/assorted.wasm", "pancakes 300"),
    ("bytes and tables", "pieces", "wasm/assorted.wasm", "pieces 300"),
    ("bytes and tables", "print", "wasm/assorted.wasm", "print 300"),
    ("bytes and tables", "crcslice", "wasm/coders.wasm", "crcslice 392"),
    ("bytes and tables", "huffman", "wasm/coders.wasm", "huffman 446"),
    ("bytes and tables", "lz4pack", "wasm/coders.wasm", "lz4pack 372"),
    ("bytes and tables", "lz4unpack", "wasm/coders.wasm", "lz4unpack 362"),
    ("bytes and tables", "utf16", "wasm/coders.wasm", "utf16 360"),
    ("bytes and tables", "skiplist", "wasm/structures.wasm", "skiplist 142"),
    ("bytes and tables", "wordmap", "wasm/structures.wasm", "wordmap 463"),
    ("bytes and tables", "arena", "wasm/structures.wasm", "arena 310"),
    ("bytes and tables", "graph", "wasm/structures.wasm", "graph 164"),
    ("bytes and tables", "dijkstra", "wasm/structures.wasm", "dijkstra 297"),
    ("bytes and tables", "bitboards", "wasm/numbers.wasm", "bitboards 296"),
    ("bytes and tables", "bitsieve", "wasm/numbers.wasm", "bitsieve 713"),
    ("bytes and tables", "kmp", "wasm/machines.wasm", "kmp 564"),
    ("bytes and tables", "horspool", "wasm/machines.wasm", "horspool 447"),
    ("bytes and tables", "csv", "wasm/machines.wasm", "csv 361"),
    ("bytes and tables", "subsequence", "wasm/machines.wasm", "subsequence 333"),
    ("bytes and tables", "lz", "wasm/lz.wasm", "1000000"),
    ("bytes and tables", "heap", "wasm/heap.wasm", "60000"),
    ("sorting and crypto", "quicksort", "wasm/kernels.wasm", "sort 1 20"),
    ("sorting and crypto", "heapsort", "wasm/mixed.wasm", "heapsort 60"),
    ("sorting and crypto", "radix", "wasm/mixed.wasm", "radix 500"),
    ("sorting and crypto", "callback", "wasm/mixed.wasm", "callback 100"),
    ("sorting and crypto", "sha256", "wasm/sha256.wasm", "1500"),
    ("sorting and crypto", "xtea", "wasm/mixed.wasm", "xtea 1000"),
    ("sorting and crypto", "bignum", "wasm/mixed.wasm", "bignum 10000"),
    ("sorting and crypto", "sat", "wasm/sat.wasm", "8"),
    ("sorting and crypto", "listsort", "wasm/structures.wasm", "listsort 181"),
    ("sorting and crypto", "quickselect", "wasm/structures.wasm", "quickselect 158"),
    ("sorting and crypto", "bwt", "wasm/coders.wasm", "bwt 188"),
    ("sorting and crypto", "chacha", "wasm/coders.wasm", "chacha 435"),
    ("sorting and crypto", "poly1305", "wasm/coders.wasm", "poly1305 412"),
    ("sorting and crypto", "siphash", "wasm/coders.wasm", "siphash 430"),
    ("sorting and crypto", "aes", "wasm/coders.wasm", "aes 419"),
    ("SIMD", "simd-gemm", "wasm/kernels_simd.wasm", "gemm 1 50"),
    ("SIMD", "simd-stencil", "wasm/kernels_simd.wasm", "stencil 1 150"),
    ("SIMD", "simd-sum", "wasm/kernels_simd.wasm", "sum 1 200"),
    ("SIMD", "simd-blend", "wasm/kernels_simd.wasm", "blend 1 100"),
    ("Rust", "rust-wordcount", "wasm/rust.wasm", "wordcount 900000"),
    ("Rust", "rust-btree", "wasm/rust.wasm", "btree 180000"),
    ("Rust", "rust-sortstructs", "wasm/rust.wasm", "sortstructs 140000"),
    ("Rust", "rust-graph", "wasm/rust.wasm", "graph 75000"),
    ("Rust", "rust-matmul", "wasm/rust.wasm", "matmul 380"),
    ("Rust", "rust-raytrace", "wasm/rust.wasm", "raytrace 850"),
    ("Rust", "rust-bignum", "wasm/rust.wasm", "bignum 12000"),
    ("Rust", "rust-primality", "wasm/rust.wasm", "primality 38000"),
    ("Rust", "rust-iterchain", "wasm/rust.wasm", "iterchain 600"),
    ("Rust", "rust-format", "wasm/rust.wasm", "format 50000"),
    ("Rust", "rust-shapes", "wasm/rust.wasm", "shapes 150"),
    ("Rust", "rust-expr", "wasm/rust.wasm", "expr 500"),
    ("Rust", "rust-vm", "wasm/rust.wasm", "vm 170"),
    ("Rust", "rust-editdist", "wasm/rust.wasm", "editdist 3"),
    ("Rust", "rust-queens", "wasm/rust.wasm", "queens 100"),
    ("Rust", "rust-gridbfs", "wasm/rust.wasm", "gridbfs 650"),
    ("Rust", "rust-dijkstra", "wasm/rust.wasm", "dijkstra 30000"),
    ("Rust", "rust-json", "wasm/rust.wasm", "json 25"),
    ("Rust", "rust-regex", "wasm/rust.wasm", "regex 19000"),
    ("Rust", "rust-sha", "wasm/rust.wasm", "sha 1200"),
    ("Rust", "rust-deflate", "wasm/rust.wasm", "deflate 55"),
    ("Go", "go-nbody", ".cache/go.wasm", "nbody 1400000"),
    ("Go", "go-matmul", ".cache/go.wasm", "matmul 300"),
    ("Go", "go-wordcount", ".cache/go.wasm", "wordcount 180000"),
    ("Go", "go-sortstruct", ".cache/go.wasm", "sortstruct 1"),
    ("Go", "go-format", ".cache/go.wasm", "format 11000"),
    ("Go", "go-json", ".cache/go.wasm", "json 13"),
    ("Go", "go-regexp", ".cache/go.wasm", "regexp 15000"),
    ("Go", "go-crypto", ".cache/go.wasm", "crypto 80"),
    ("Go", "go-flate", ".cache/go.wasm", "flate 65000"),
    ("Go", "go-bintrees", ".cache/go.wasm", "bintrees 14"),
    ("Go", "go-sieve", ".cache/go.wasm", "sieve 350"),
    ("Go", "go-pipeline", ".cache/go.wasm", "pipeline 110000"),
    ("Go", "go-dispatch", ".cache/go.wasm", "dispatch 3000"),
    ("Go", "go-closures", ".cache/go.wasm", "closures 1600"),
    ("Go", "go-pidigits", ".cache/go.wasm", "pidigits 1600"),
    ("Go", "go-interp", ".cache/go.wasm", "interp 15000"),
    ("Go", "go-fib", ".cache/go.wasm", "fib 35"),
    ("Go", "go-editdist", ".cache/go.wasm", "editdist 8"),
    ("Go", "go-template", ".cache/go.wasm", "template 100"),
    ("Go", "go-goparse", ".cache/go.wasm", "goparse 21"),
    ("interpreters", "vm", "wasm/vm.wasm", "6000"),
    ("interpreters", "switched", "wasm/mixed.wasm", "switched 200"),
    ("interpreters", "brain", "wasm/assorted.wasm", "brain 2000"),
    ("interpreters", "bytecode", "wasm/assorted.wasm", "bytecode 3000"),
    ("interpreters", "formula", "wasm/assorted.wasm", "formula 12000"),
    ("interpreters", "nfa", "wasm/machines.wasm", "nfa 642"),
    ("interpreters", "threaded", "wasm/machines.wasm", "threaded 252"),
    ("interpreters", "closures", "wasm/machines.wasm", "closures 332"),
    ("interpreters", "calculator", "wasm/machines.wasm", "calculator 593"),
    ("interpreters", "lua", ".cache/lua.wasm", "/tasks/task.lua 2"),
    ("interpreters", "quickjs", ".cache/quickjs.wasm", "/tasks/task.js 1"),
    ("interpreters", "sqlite", ".cache/sqlite.wasm", ":memory: /tasks/task.sql 3"),
    ("interpreters", "python-start", ".cache/python.wasm", "-c print(1)"),
    ("interpreters", "python", ".cache/python.wasm", "/tasks/task.py 4"),
];

/// All programs, in the order of the table.
pub fn all() -> Vec<Program> {
    let mut all: Vec<Program> = (1..=10)
        .map(|operations| (format!("loop-{operations}"), dense(operations)))
        .chain((1..=4).map(|operations| (format!("float-{operations}"), dense_float(operations))))
        .map(|(name, text)| Program { name, group: "dense loops", source: Source::Text(text), args: vec![] })
        .collect();
    all.extend(PROGRAMS.iter().map(|(group, name, file, args)| Program {
        name: name.to_string(),
        group,
        source: Source::File(file),
        args: args.split(' ').map(String::from).collect(),
    }));
    all
}

/// A loop of so many operations on integers, the countdown included, and the branch. Few of them wait for each
/// other, so that a processor has room for nothing else.
fn dense(operations: u32) -> String {
    const BODY: [&str; 9] = [
        "(local.set $a (i32.add (local.get $a) (local.get $i)))",
        "(local.set $b (i32.xor (local.get $b) (local.get $i)))",
        "(local.set $at (i32.and (local.get $i) (i32.const 0xfffc)))",
        "(local.set $c (i32.load (local.get $at)))",
        "(local.set $d (i32.add (local.get $d) (local.get $c)))",
        "(local.set $e (i32.rotl (local.get $e) (i32.const 5)))",
        "(local.set $f (i32.sub (local.get $f) (local.get $a)))",
        "(i32.store offset=0x10000 (local.get $at) (local.get $b))",
        "(local.set $g (i64.add (local.get $g) (i64.const 0x123456789)))",
    ];
    let body = BODY[..operations as usize - 1].join("\n        ");
    let mut kept = String::new();
    for (n, local) in ["a", "b", "at", "c", "d", "e", "f"].iter().enumerate() {
        let _ = write!(kept, "(i32.store (i32.const {}) (local.get ${local}))", 8 * n);
    }
    format!(
        "(module (memory (export \"memory\") 3)
          (func (export \"_start\") (local $i i32) (local $a i32) (local $b i32) (local $at i32) (local $c i32)
              (local $d i32) (local $e i32) (local $f i32) (local $g i64)
            (local.set $i (i32.const {}))
            (local.set $e (i32.const 0x1234567))
            (loop $next
              {body}
              (br_if $next (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
            {kept} (i64.store (i32.const 64) (local.get $g))))",
        300_000_000 / (operations + 2)
    )
}

/// A loop of so many additions and multiplications of doubles, each a chain of its own.
fn dense_float(operations: u32) -> String {
    let (mut locals, mut body, mut kept) = (String::new(), String::new(), String::new());
    for n in 0..operations {
        let (operator, constant) = if n % 2 == 0 { ("add", "1.25") } else { ("mul", "0.9999999") };
        let _ = write!(locals, "(local $x{n} f64)");
        let _ = write!(body, "(local.set $x{n} (f64.{operator} (local.get $x{n}) (f64.const {constant})))");
        let _ = write!(kept, "(f64.store (i32.const {}) (local.get $x{n}))", 8 * n);
    }
    format!(
        "(module (memory (export \"memory\") 1)
          (func (export \"_start\") (local $i i32) {locals}
            (local.set $i (i32.const 20000000))
            (loop $next {body}
              (br_if $next (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
            {kept}))"
    )
}
