//! What the tests of all stores use: keys, bytes, and the test program as further processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use wasm_ckpt::store::Key;

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes that do not compress.
pub fn noise(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// This test program once more, as another process that does one of the things in its test `child`, on the store that
/// this directory or URL names.
pub fn child(task: &str, place: &str, variables: &[(String, String)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--quiet"])
        .env("STORE_TEST_TASK", task)
        .env("STORE_TEST_PLACE", place)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// In such a process: what it is to do, and on which store. Nothing when the tests are run.
pub fn task() -> Option<(String, String)> {
    Some((std::env::var("STORE_TEST_TASK").ok()?, std::env::var("STORE_TEST_PLACE").unwrap()))
}

/// Waits until it says this line.
pub fn wait_for(child: &mut Child, line: &str) {
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().any(|found| found.unwrap().ends_with(line)), "the child never said `{line}`");
}

/// What processes that raced have won, by the lines `<what> true` that they print: with the process, sorted.
pub fn won_by(children: Vec<Child>) -> Vec<(String, u32)> {
    let mut won = vec![];
    for child in children {
        let id = child.id();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        let told = String::from_utf8(out.stdout).unwrap();
        won.extend(told.lines().filter_map(|line| line.strip_suffix(" true")).map(|n| (n.to_string(), id)));
    }
    won.sort_unstable();
    won
}
