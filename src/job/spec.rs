//! What a job runs: all that makes one run another one.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::digest::ModuleId;
use crate::machine::{Functions, Instance, Module};
use crate::snapshot::{State, Value};
use crate::wasi::{self, ClockMode, ClockState};

/// What a job runs. Two runs of the same `Spec` are the same job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The module.
    pub module: ModuleId,
    /// The program's name: the guest's first argument.
    pub program: String,
    /// The guest's other arguments.
    pub args: Vec<String>,
    /// The guest's environment, by name.
    pub env: Vec<(String, String)>,
    /// The host directories that it sees.
    pub dirs: Vec<SpecDir>,
    /// The exported function that is called, and its arguments; `_start` without any unless told.
    pub call: (String, Vec<Value>),
    /// Seed of the guest's random generator; chosen by the system if not given.
    pub seed: Option<[u8; 32]>,
    /// Which time the guest is given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clock: ClockMode,
    /// The private disks that it is given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disks: Vec<SpecDisk>,
    /// NaN results have the same bits on all instruction sets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub canonical_nans: bool,
}

/// A private disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecDisk {
    /// The guest's name for its root directory.
    pub guest: String,
    /// What it is filled with at the start: the absolute path of a directory or tar archive.
    pub source: Option<String>,
    /// Most bytes that its files may take up.
    pub limit: u64,
}

/// What is not said in a log or in the hash of a command, so that those from before it could be said stay
/// what they are.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A host directory that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecDir {
    /// Where it is on the host: an absolute path.
    pub host: String,
    /// The guest's name for it.
    pub guest: String,
    /// The guest may not change anything in it.
    pub read_only: bool,
}

/// The function that a program begins with.
pub const START: &str = "_start";

impl Spec {
    /// A program that is called without anything.
    pub fn program(module: ModuleId, program: &str) -> Self {
        Self {
            module,
            program: program.to_string(),
            args: vec![],
            env: vec![],
            dirs: vec![],
            call: (START.to_string(), vec![]),
            seed: None,
            clock: ClockMode::default(),
            disks: vec![],
            canonical_nans: false,
        }
    }

    /// A call of an exported function.
    pub fn invoke(module: ModuleId, function: &str, args: Vec<Value>) -> Self {
        Self { call: (function.to_string(), args), ..Self::program(module, function) }
    }

    /// What a snapshot's program was called with.
    ///
    /// # Errors
    /// The snapshot's WASI state cannot be read.
    pub fn of_state(state: &State) -> anyhow::Result<Self> {
        let call = (state.call.export.clone(), state.call.args.clone());
        let canonical_nans = state.identity.canonical_nans;
        let mut spec = Self { call, canonical_nans, ..Self::program(state.identity.module, "") };
        if let Some(wasi) = super::wasi_state(state)? {
            let mut args = wasi.args.into_iter();
            spec.program = args.next().unwrap_or_default();
            spec.args = args.collect();
            let split = |pair: String| match pair.split_once('=') {
                Some((name, value)) => (name.to_string(), value.to_string()),
                None => (pair, String::new()),
            };
            spec.env = wasi.env.into_iter().map(split).collect();
            let dir = |root: wasi::Root| SpecDir {
                host: String::from_utf8_lossy(&root.host).into_owned(),
                guest: root.guest,
                read_only: root.read_only,
            };
            spec.dirs = wasi.roots.into_iter().map(dir).collect();
            let disk = |disk: wasi::DiskState| SpecDisk {
                guest: disk.guest,
                source: None,
                limit: super::DISK_LIMIT,
            };
            spec.disks = wasi.disks.into_iter().map(disk).collect();
            spec.clock = match wasi.clock {
                ClockState::Host { .. } => ClockMode::Host,
                ClockState::Fixed { realtime, .. } => ClockMode::Fixed { realtime },
                ClockState::Virtual { realtime, .. } => ClockMode::Virtual { realtime },
            };
        }
        Ok(spec)
    }

    /// What differs from `given`, each as one phrase; nothing if they are the same.
    pub fn differences(&self, given: &Self) -> Vec<String> {
        // Named one by one, so that a new field does not compile before it is compared.
        let Self { module, program, args, env, dirs, call, seed, clock, disks, canonical_nans } = self;
        let shown_dirs = |dirs: &[SpecDir]| {
            let shown =
                |d: &SpecDir| format!("{}::{}{}", d.host, d.guest, if d.read_only { ":ro" } else { "" });
            dirs.iter().map(shown).collect::<Vec<_>>()
        };
        // Values may be secret, so only names are told.
        let names = |env: &[(String, String)]| env.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        let env_text = match names(env) == names(&given.env) {
            true => ("other values".to_string(), format!("{:?}", names(env))),
            false => (format!("{:?}", names(env)), format!("{:?}", names(&given.env))),
        };
        let quoted = |list: &[String]| format!("{list:?}");
        let list = [
            ("module", *module == given.module, module.short(), given.module.short()),
            ("program", *program == given.program, program.clone(), given.program.clone()),
            ("arguments", *args == given.args, quoted(args), quoted(&given.args)),
            ("environment", *env == given.env, env_text.0, env_text.1),
            ("directories", *dirs == given.dirs, quoted(&shown_dirs(dirs)), quoted(&shown_dirs(&given.dirs))),
            ("function", *call == given.call, shown_call(call), shown_call(&given.call)),
            ("seed", *seed == given.seed, "another".to_string(), "this one".to_string()),
            ("disks", *disks == given.disks, shown_disks(disks), shown_disks(&given.disks)),
            ("clock", *clock == given.clock, format!("{clock:?}"), format!("{:?}", given.clock)),
            (
                "canonical NaNs",
                *canonical_nans == given.canonical_nans,
                canonical_nans.to_string(),
                given.canonical_nans.to_string(),
            ),
        ];
        list.into_iter()
            .filter(|(_, same, ..)| !same)
            .map(|(what, _, has, given)| format!("{what}: it has {has}, given is {given}"))
            .collect()
    }

    /// The command in words, for lists.
    pub fn shown(&self) -> String {
        let mut words = vec![self.program.clone()];
        match self.call.0.as_str() {
            START => words.extend(self.args.iter().cloned()),
            _ => words = vec![shown_call(&self.call)],
        }
        words.join(" ")
    }

    /// Checks that a run of this can begin: its function, arguments, imports and directories are there. Runs
    /// nothing, and stores nothing.
    ///
    /// # Errors
    /// As [`Instance::new`] and [`Wasi::new`](wasi::Wasi::new).
    pub fn check(&self, module: &Module, functions: &Functions) -> anyhow::Result<()> {
        let null = || Box::new(wasi::OutputBuffer::default());
        let interrupt = wasi::Interrupt::new()?;
        let host = wasi::Host { stdin: wasi::Stdin::Null, stdout: null(), stderr: null(), interrupt };
        let mut config = self.wasi_config([0; 32]);
        for disk in &mut config.disks {
            // Only looked at: filling it takes its time.
            if let Some(source) = disk.source.take() {
                let explain = || format!("`{}`, of which a disk is filled", source.display());
                std::fs::File::open(&source).with_context(explain)?;
            }
        }
        let wasi = wasi::Wasi::new(config, host)?;
        Instance::new(module, Some(wasi), functions, &self.call.0, self.call.1.clone()).map(drop)
    }

    /// The WASI side that a run of this begins with.
    pub(super) fn wasi_config(&self, seed: [u8; 32]) -> wasi::Config {
        let preopen = |dir: &SpecDir| wasi::Preopen {
            host: dir.host.clone().into(),
            guest: dir.guest.clone(),
            read_only: dir.read_only,
        };
        let disk = |disk: &SpecDisk| wasi::DiskConfig {
            guest: disk.guest.clone(),
            source: disk.source.clone().map(Into::into),
            limit: disk.limit,
        };
        wasi::Config {
            args: std::iter::once(self.program.clone()).chain(self.args.iter().cloned()).collect(),
            env: self.env.clone(),
            dirs: self.dirs.iter().map(preopen).collect(),
            disks: self.disks.iter().map(disk).collect(),
            scratch: None,
            clock: self.clock,
            hash_inputs: false,
            seed: Some(seed),
        }
    }
}

fn shown_disks(disks: &[SpecDisk]) -> String {
    let shown = |d: &SpecDisk| match &d.source {
        Some(source) => format!("{}={source} of {} bytes", d.guest, d.limit),
        None => format!("{} of {} bytes", d.guest, d.limit),
    };
    format!("{:?}", disks.iter().map(shown).collect::<Vec<_>>())
}

/// A call in words: `fib(24)`.
fn shown_call((function, args): &(String, Vec<Value>)) -> String {
    let args: Vec<_> = args.iter().map(shown_value).collect();
    format!("{function}({})", args.join(", "))
}

/// A value in words: integers as signed, floats as numbers.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::I32(v) => (*v as i32).to_string(),
        Value::I64(v) => (*v as i64).to_string(),
        Value::F32(v) => f32::from_bits(*v).to_string(),
        Value::F64(v) => f64::from_bits(*v).to_string(),
        Value::V128(v) => format!("{v:#034x}"),
        Value::Func(Some(index)) => format!("func {index}"),
        Value::Exn(Some(exn)) => format!("exception of tag {}", exn.tag),
        Value::Func(None) | Value::Exn(None) | Value::Null => "null".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named_and_no_secret() {
        let one = Spec::program(ModuleId::of(b"a"), "a.wasm");
        assert!(one.differences(&one).is_empty());
        let other = Spec {
            module: ModuleId::of(b"b"),
            program: "b.wasm".into(),
            args: vec!["x".into()],
            env: vec![("KEY".into(), "secret".into())],
            dirs: vec![SpecDir { host: "/h".into(), guest: "/g".into(), read_only: true }],
            call: ("fib".into(), vec![Value::I32(7)]),
            seed: Some([1; 32]),
            clock: ClockMode::Fixed { realtime: 7 },
            disks: vec![SpecDisk { guest: "/w".into(), source: None, limit: 1 }],
            canonical_nans: true,
        };
        let found = one.differences(&other).join("\n");
        for what in [
            "module",
            "canonical NaNs",
            "program",
            "arguments",
            "environment",
            "directories",
            "function",
            "seed",
            "clock",
            "disks",
        ] {
            assert!(found.contains(&format!("{what}: it has")), "{what} in {found}");
        }
        assert!(found.contains("/h::/g:ro") && found.contains("fib(7)") && !found.contains("secret"));
    }
}
