//! The committed guest programs are what their sources give.

use std::process::Command;

mod common;

#[test]
fn rebuilt_guests_are_the_committed_ones() {
    let check = Command::new(common::guests().join("build.sh")).arg("--check").output().unwrap();
    let told = String::from_utf8_lossy(&check.stderr);
    match check.status.code() {
        Some(0) => {}
        Some(77) if std::env::var_os("CI").is_none_or(|ci| ci.is_empty()) => {
            println!("SKIPPED: there is no toolchain for wasm32, and it cannot be installed: {told}");
        }
        code => panic!("guests/build.sh --check: {code:?}: {told}{}", String::from_utf8_lossy(&check.stdout)),
    }
}
