//! What the suites share: the table of guest programs, and guests that are moved from instance to instance.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasm_ckpt::digest::{ChunkId, SnapshotId};
use wasm_ckpt::machine::{
    Engine, Functions, Instance, MemoryTrees, Module, Settings, Slice, Until, WASI_SECTION,
};
use wasm_ckpt::snapshot;
use wasm_ckpt::wasi::{
    ClockMode, Config, Contents, Dirs, DiskConfig, Host, Interrupt, OutputBuffer, Preopen, Restore, Stdin,
    Wasi,
};

/// A line of `guests/runs.tsv`.
#[derive(Debug, Clone)]
pub struct Run {
    pub name: String,
    pub program: PathBuf,
    pub slow: bool,
    pub stdin: Option<PathBuf>,
    pub directories: String,
    pub args: Vec<String>,
}

pub fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests")
}

/// All runs whose program is there. Other people's programs are fetched by `guests/fetch.sh`; what is missing
/// is named.
pub fn runs() -> Vec<Run> {
    let table = std::fs::read_to_string(guests().join("runs.tsv")).unwrap();
    let lines = table.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let all = lines.map(|line| {
        let f: Vec<&str> = line.split('\t').collect();
        Run {
            name: f[0].to_string(),
            program: guests().join(f[1]),
            slow: f[2] == "slow",
            stdin: (f[3] != "-").then(|| guests().join(f[3])),
            directories: f[4].to_string(),
            args: f
                .get(5)
                .map_or(vec![], |a| a.split(' ').filter(|a| !a.is_empty()).map(String::from).collect()),
        }
    });
    let (here, missing): (Vec<Run>, Vec<Run>) = all.partition(|run| run.program.exists());
    for run in missing.iter().filter(|run| !run.slow) {
        assert!(
            std::env::var_os("CI").is_none_or(|v| v.is_empty()),
            "{} is not there: guests/fetch.sh gets it",
            run.name
        );
        println!("SKIPPED {}: run guests/fetch.sh first", run.name);
    }
    here
}

/// An engine for an instruction set, with compiled code kept in the build directory between tests.
pub fn engine(target: Option<&str>) -> Engine {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-cache");
    let target = target.map(String::from);
    // The interpreter is to give the same bits.
    let canonical_nans = true;
    Engine::new(Settings { target, canonical_nans, code_cache: Some(cache), ..Settings::default() }).unwrap()
}

/// A run's directory and streams.
pub struct Place {
    pub run: Run,
    /// The guest's directory is on a private disk, and its time follows its fuel.
    private: bool,
    dir: tempfile::TempDir,
    stdout: OutputBuffer,
    stderr: OutputBuffer,
}

impl Place {
    pub fn new(run: &Run) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Some(modules) = run.directories.strip_prefix("tree:") {
            let script = guests().join("tasks/make_tree.sh");
            let made = Command::new(script).arg(dir.path().join("src")).arg(modules).status().unwrap();
            assert!(made.success());
            std::fs::create_dir(dir.path().join("out")).unwrap();
        }
        let (stdout, stderr) = (OutputBuffer::default(), OutputBuffer::default());
        Self { run: run.clone(), private: false, dir, stdout, stderr }
    }

    /// With its directory on a private disk, where it has one.
    pub fn private(run: &Run) -> Self {
        Self { private: run.directories != "-", ..Self::new(run) }
    }

    fn preopens(&self) -> Vec<Preopen> {
        let open =
            |host: &Path, guest: &str| Preopen { host: host.into(), guest: guest.into(), read_only: false };
        match self.run.directories.as_str() {
            "-" => vec![],
            "work" if self.private => vec![open(&guests().join("tasks"), "/tasks")],
            "work" => vec![open(self.dir.path(), "/work"), open(&guests().join("tasks"), "/tasks")],
            _ if self.private => vec![],
            _ => vec![open(self.dir.path(), "/")],
        }
    }

    fn disks(&self) -> Vec<DiskConfig> {
        let guest = if self.run.directories == "work" { "/work" } else { "/" };
        // Of an empty directory it would take over the time.
        let source = (self.run.directories != "work").then(|| self.dir.path().into());
        let disk = || DiskConfig { guest: guest.into(), source, limit: 1 << 30 };
        self.private.then(disk).into_iter().collect()
    }

    /// Where it is on a private disk, brings what the guest has written to its directory.
    pub fn collect(&self, guest: &mut Instance) {
        for disk in self.disks() {
            guest.wasi().unwrap().sync_out(&disk.guest, self.dir.path(), "test").unwrap();
        }
    }

    fn host(&self) -> Host {
        let stdin = match &self.run.stdin {
            Some(path) => Stdin::File { file: std::fs::File::open(path).unwrap(), base: 0 },
            None => Stdin::Null,
        };
        let (stdout, stderr) = (Box::new(self.stdout.clone()), Box::new(self.stderr.clone()));
        Host { stdin, stdout, stderr, interrupt: Interrupt::new().unwrap() }
    }

    pub fn begin(&self, module: &Module) -> Instance {
        let program = self.run.program.file_name().unwrap().to_str().unwrap().to_string();
        let env =
            if self.run.directories.starts_with("tree:") { vec![("PWD".into(), "/".into())] } else { vec![] };
        let args = std::iter::once(program).chain(self.run.args.iter().cloned()).collect();
        let (dirs, disks, seed) = (self.preopens(), self.disks(), Some([7; 32]));
        let clock = match self.private {
            true => ClockMode::Virtual { realtime: 1 << 60 },
            false => ClockMode::Host,
        };
        let config = Config { args, env, dirs, disks, seed, clock, ..Config::default() };
        let wasi = Wasi::new(config, self.host()).unwrap();
        Instance::new(module, Some(wasi), &Functions::new(), "_start", vec![]).unwrap()
    }

    /// The paused guest's snapshot.
    pub fn snapshot(guest: &mut Instance) -> Moving {
        let mut chunks = HashMap::new();
        let state = guest
            .capture(&mut MemoryTrees::default(), &mut |id, bytes| {
                chunks.insert(id, bytes.to_vec());
                Ok(())
            })
            .unwrap();
        let (id, manifest) = snapshot::encode(&state).unwrap();
        Moving { id, manifest, chunks }
    }

    /// A fresh guest that goes on from the snapshot.
    pub fn resume(&self, module: &Module, moving: &Moving) -> Instance {
        let verified = snapshot::decode(&moving.manifest, Some(moving.id)).unwrap();
        let section = verified.state().sections.iter().find(|s| s.name == WASI_SECTION).unwrap();
        let how = Restore { dirs: Dirs::AsRecorded, accept_changed: false, ..Restore::default() };
        let fetch = &mut |id| Ok(moving.chunks[&id].clone());
        let contents = Contents {
            blobs: &verified.state().blobs,
            fetch: &mut |id| Ok(moving.chunks[&id].clone()),
            most: 1 << 30,
        };
        let wasi = Wasi::restore_with(section.version, &section.bytes, self.host(), how, contents).unwrap();
        Instance::restore(module, Some(wasi), &Functions::new(), verified.state(), fetch).unwrap().0
    }

    /// Checks what the run has printed and written against what is expected.
    pub fn check(&self, how: &str) {
        let name = &self.run.name;
        let expected = guests().join("expected");
        let out = expected.join(format!("{name}.out"));
        let out = if out.exists() {
            std::fs::read(out).unwrap()
        } else {
            let packed = expected.join(format!("{name}.out.gz"));
            Command::new("gzip").arg("-dc").arg(packed).output().unwrap().stdout
        };
        let found = self.stdout.contents();
        let at = out.iter().zip(&found).position(|(a, b)| a != b).unwrap_or(out.len().min(found.len()));
        assert!(
            out == found,
            "{name} {how}: output differs at byte {at}: expected {:?}, found {:?}; stderr: {}",
            String::from_utf8_lossy(&out[at..(at + 60).min(out.len())]),
            String::from_utf8_lossy(&found[at..(at + 60).min(found.len())]),
            String::from_utf8_lossy(&self.stderr.contents())
        );
        self.check_files(how);
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Checks the files that the run has left.
    pub fn check_files(&self, how: &str) {
        let name = &self.run.name;
        let files = guests().join("expected").join(format!("{name}.files"));
        if files.exists() {
            let below = if self.run.directories.starts_with("tree:") { "out" } else { "" };
            let script = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -r -d '\\n' sha256sum";
            let listed =
                Command::new("sh").args(["-c", script]).current_dir(self.dir.path().join(below)).output();
            let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
            assert_eq!(listed, std::fs::read_to_string(files).unwrap(), "{name} {how}: files");
        }
    }
}

/// A snapshot on its way.
pub struct Moving {
    pub id: SnapshotId,
    pub manifest: Vec<u8>,
    pub chunks: HashMap<ChunkId, Vec<u8>>,
}

/// Runs on to a fuel limit; true when the guest has ended, with exit code 0.
pub fn run_to(guest: &mut Instance, fuel: Option<u64>, what: &str) -> bool {
    match guest.run(&Until { fuel, ..Until::default() }).unwrap() {
        Slice::Finished(_) | Slice::Exited(0) => true,
        Slice::Paused => false,
        other => panic!("{what}: {other:?}"),
    }
}

/// A small generator (splitmix64), so that a failure can be repeated from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}
