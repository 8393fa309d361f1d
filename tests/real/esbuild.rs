//! esbuild over a tree of a thousand files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::guests;
use crate::harness::{Ended, Program, fetched, in_ci, reference, straight_and_moved};

fn bundle(esbuild: &Path, dir: &Path, modules: u32) -> Program {
    let script = guests().join("tasks/make_tree.sh");
    let made = Command::new(script).arg(dir.join("src")).arg(modules.to_string()).status().unwrap();
    assert!(made.success());
    fs::create_dir(dir.join("out")).unwrap();
    let args = [
        "--bundle",
        "src/index.ts",
        "--minify",
        "--sourcemap",
        "--jsx=transform",
        "--jsx-factory=h",
        "--target=es2019",
        "--log-level=warning",
        "--outfile=out/bundle.js",
        "--metafile=out/meta.json",
    ];
    let mut program = Program::new(esbuild.to_path_buf(), &args).dir(dir, "/", false);
    program.env = vec![("PWD", "/")];
    program
}

#[test]
fn a_tree_of_a_thousand_files_is_bundled_alike() {
    let Some(esbuild) = fetched("esbuild.wasm") else { return };
    let modules = if in_ci() { 1000 } else { 250 };
    let run = |how: &dyn Fn(&Program) -> Ended| {
        let dir = tempfile::tempdir().unwrap();
        let ended = how(&bundle(&esbuild, dir.path(), modules));
        let files: BTreeMap<String, Vec<u8>> = fs::read_dir(dir.path().join("out"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap()))
            .collect();
        (ended, files)
    };
    let (ended, expected) = run(&reference);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "plain");
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        ["bundle.css", "bundle.css.map", "bundle.js", "bundle.js.map", "meta.json"]
    );
    assert!(expected["bundle.js"].len() > 50_000);
    let seed = u64::from(std::process::id());
    println!("seed of the moves: {seed}");
    // Its threads of control depend on time: the fuel is not the same each time, nor need it be.
    for ((found, files), how) in straight_and_moved(run, |fuel| fuel * 9 / 10, 5, seed) {
        assert_eq!(found, ended, "{how}");
        for (name, content) in &expected {
            assert!(files.get(name) == Some(content), "{how}: {name} differs");
        }
        assert_eq!(files.len(), expected.len(), "{how}");
    }
}
