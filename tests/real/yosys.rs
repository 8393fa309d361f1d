//! Yosys, which is C++ with exceptions: 46,000 functions, in whose largest nearly each of 5,000 calls has something to be cleaned up behind it.

use std::fs;
use std::path::Path;

use crate::harness::{Ended, Program, fetched, reference, straight_and_moved};

/// A multiplier, a memory, and a choice.
const DESIGN: &str = "
module top #(parameter W = 12)(input clk, input [W-1:0] a, b, input sel, output reg [2*W-1:0] p, output same);
  reg [W-1:0] x, y;
  reg [7:0] memory [0:63];
  wire [2*W-1:0] one = x * y, other = y * x;
  assign same = one == other;
  always @(posedge clk) begin
    x <= sel ? a ^ (b >> 3) : a + b;
    y <= b + memory[a[5:0]];
    memory[b[5:0]] <= p[7:0];
    case (a[3:0])
      0: p <= one; 1: p <= other + x; 2: p <= one - y; 3: p <= {x, y};
      default: p <= p + 1;
    endcase
  end
endmodule
";
/// What needs none of its files.
const COMMANDS: &str = "read_verilog /work/design.v; hierarchy -check -top top; proc; flatten; opt -full; wreduce; peepopt; alumacc; \
                        share -aggressive; opt -full; memory; opt; write_rtlil /work/out.il; simplemap; opt -full; clean; \
                        write_verilog /work/out.v; write_json /work/out.json";
const WRITTEN: [&str; 3] = ["out.il", "out.v", "out.json"];

fn synthesis(yosys: &Path, dir: &Path, commands: &str) -> Program {
    fs::write(dir.join("design.v"), DESIGN).unwrap();
    Program::new(yosys.to_path_buf(), &["-q", "-p", commands]).dir(dir, "/work", false)
}

#[test]
fn a_circuit_is_made_alike() {
    let Some(yosys) = fetched("yosys.wasm") else { return };
    let run = |how: &dyn Fn(&Program) -> Ended| {
        let dir = tempfile::tempdir().unwrap();
        let ended = how(&synthesis(&yosys, dir.path(), COMMANDS));
        (ended, WRITTEN.map(|name| fs::read(dir.path().join(name)).unwrap()))
    };
    let expected = run(&reference);
    assert_eq!(expected.0, Ended { code: Some(0), out: String::new(), err: String::new() }, "plain");
    assert!(expected.1.iter().all(|content| content.len() > 50_000));
    let seed = u64::from(std::process::id());
    println!("seed of the moves: {seed}");
    for (found, how) in straight_and_moved(run, |fuel| fuel * 9 / 10, 40, seed) {
        assert!(found == expected, "{how}: {:?}", found.0);
    }
}

/// It throws its errors through all that is on the stack, and catches them where it began.
#[test]
fn an_error_is_told_alike() {
    let Some(yosys) = fetched("yosys.wasm") else { return };
    let commands = "read_verilog /work/design.v; proc; select top; cd top; chparam -set W 0 nothing; hierarchy -top missing";
    let run = |how: &dyn Fn(&Program) -> Ended| {
        let dir = tempfile::tempdir().unwrap();
        how(&synthesis(&yosys, dir.path(), commands))
    };
    let expected = run(&reference);
    assert_eq!(expected.code, Some(1), "{}", expected.err);
    assert!(expected.err.contains("ERROR: "), "{}", expected.err);
    for (found, how) in straight_and_moved(run, |fuel| fuel, 20, 7) {
        assert_eq!(found, expected, "{how}");
    }
}
