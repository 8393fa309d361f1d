//! Twenty-one tasks as Rust programs have them, on the standard library and some crates. Each prints one line, which
//! follows from its name and size alone. usage: rust TASK SIZE

mod algos;
mod collections;
mod crates;
mod lang;
mod numeric;

/// A small deterministic generator (xorshift64*), the same on every target.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    /// Less than `n`.
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// FNV-1a, for checksums.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
    fn bytes(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ b as u64).wrapping_mul(0x100_0000_01b3);
        }
    }
    fn word(&mut self, word: u64) {
        self.bytes(&word.to_le_bytes());
    }
}

type Task = fn(u64) -> String;

const TASKS: &[(&str, Task)] = &[
    ("wordcount", collections::wordcount),
    ("btree", collections::btree),
    ("sortstructs", collections::sortstructs),
    ("graph", collections::graph),
    ("matmul", numeric::matmul),
    ("raytrace", numeric::raytrace),
    ("bignum", numeric::bignum),
    ("primality", numeric::primality),
    ("iterchain", numeric::iterchain),
    ("format", lang::format),
    ("shapes", lang::shapes),
    ("expr", lang::expr),
    ("vm", lang::vm),
    ("editdist", algos::editdist),
    ("queens", algos::queens),
    ("gridbfs", algos::gridbfs),
    ("dijkstra", algos::dijkstra),
    ("json", crates::json),
    ("regex", crates::regex),
    ("sha", crates::sha),
    ("deflate", crates::deflate),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let size = args.get(2).and_then(|s| s.parse().ok());
    let task = args.get(1).and_then(|name| TASKS.iter().find(|t| t.0 == name.as_str()));
    match (task, size) {
        (Some((name, run)), Some(size)) => println!("{name} {size}: {}", run(size)),
        _ => {
            eprintln!("usage: rust TASK SIZE; tasks:");
            for (name, _) in TASKS {
                eprintln!("  {name}");
            }
            std::process::exit(2);
        }
    }
}
