//! WASI against the reference implementation, and against attacks.

mod attacks;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod functions;
mod plan;
mod rules;
mod sides;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use plan::Plan;
use rules::{Next, Pair};
use sides::{DIRS, Dirs, Ours, Reference, SCRATCH, Side};
use wasm_ckpt::wasi::{Config, DiskConfig, FUNCTIONS, Preopen};

/// Calls of one sequence.
const CALLS: u32 = 60;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// What both sides are given.
#[derive(Clone, Copy)]
struct Given {
    /// Directories of the reference, below its own.
    dirs: Dirs,
    /// How ours is given the same.
    config: fn(host: &Path) -> Config,
    /// Its directories are the host's as well.
    on_host: bool,
}

const ON_HOST: Given = Given { dirs: DIRS, config: host_directories, on_host: true };
const ON_DISK: Given = Given { dirs: &[DIRS[0]], config: private_disk, on_host: false };

/// One directory, as a private disk.
fn private_disk(host: &Path) -> Config {
    let disk = DiskConfig { guest: "/data".to_string(), source: Some(host.join("data")), limit: 1 << 30 };
    Config { disks: vec![disk], ..Config::default() }
}

fn host_directories(host: &Path) -> Config {
    let dirs = DIRS.iter().map(|(name, guest, read_only)| Preopen {
        host: host.join(name),
        guest: guest.to_string(),
        read_only: *read_only,
    });
    Config { dirs: dirs.collect(), ..Config::default() }
}

/// Random sequences of calls on both sides: the same error numbers, the same bytes in memory, the same output, and the
/// same directories in the end.
///
/// `SEED` is that of the first sequence, `SEQUENCES` their number; a failure names its own seed. `SHOW=1` prints its calls.
#[test]
fn random_calls_do_what_the_reference_does() {
    differential(ON_HOST);
}

/// The same on a private disk, which is beside the reference's host directory.
#[test]
fn random_calls_on_a_private_disk_do_what_the_reference_does() {
    differential(ON_DISK);
}

/// Of each function, calls and successes.
type Compared = BTreeMap<&'static str, (u64, u64)>;

fn differential(given: Given) {
    let (first, sequences) =
        (setting("SEED", 1), setting("SEQUENCES", if given.on_host { 2000 } else { 1000 }));
    let mut differences: BTreeMap<String, (u64, u64, String)> = BTreeMap::new();
    let mut compared = BTreeMap::new();
    for seed in first..first + sequences {
        if let Err((kind, difference)) = sequence(seed, given, &mut compared) {
            differences.entry(kind).or_insert((0, seed, difference)).0 += 1;
        }
    }
    let calls: u64 = compared.values().map(|(calls, _)| calls).sum();
    println!(
        "{sequences} sequences from seed {first}: {calls} calls compared; of each function, successes: {compared:?}"
    );
    let told: String = differences
        .iter()
        .map(|(kind, (count, seed, difference))| {
            format!("\n{count} x {kind}; first with SEED={seed}: {difference}")
        })
        .collect();
    assert!(differences.is_empty(), "{told}");
    // That the test has tested anything: only these never succeed, nor is `proc_exit` among those that go on.
    const NEVER: [&str; 6] =
        ["fd_fdstat_set_rights", "proc_raise", "sock_accept", "sock_recv", "sock_send", "sock_shutdown"];
    for function in FUNCTIONS.iter().filter(|function| function.name != "proc_exit" && sequences >= 1000) {
        let (calls, successes) = compared.get(function.name).copied().unwrap_or_default();
        let enough = if NEVER.contains(&function.name) { calls > 100 } else { successes > calls / 50 };
        assert!(enough, "{}: {calls} calls, {successes} of them successful", function.name);
    }
}

/// A new directory: in memory, where there is such a file system, which is some five times faster; else, and for every
/// tenth sequence, on the disk.
fn place(seed: u64) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match !seed.is_multiple_of(10) && memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// The error is the kind of difference, and the difference itself.
fn sequence(seed: u64, given: Given, compared: &mut Compared) -> Result<(), (String, String)> {
    let (theirs, ours) = (place(seed), place(seed));
    tree::make(theirs.path());
    tree::make(ours.path());
    let mut reference = Reference::new(theirs.path(), given.dirs);
    let mut own = Ours::new((given.config)(ours.path()));
    let mut plan = Plan::new(seed);
    plan.no_huge_files = !given.on_host;
    let mut pair = Pair::new(&mut reference, &mut own);
    pair.keeps_access_times = !given.on_host;
    let mut ended = false;
    for n in 0..CALLS {
        let step = plan.step();
        if !given.on_host
            && matches!(step.call.name, "fd_close" | "fd_renumber")
            && step.call.args.contains(&3)
        {
            // By this descriptor the disk is looked at in the end.
            continue;
        }
        if std::env::var_os("SHOW").is_some() {
            println!("{n}: {}", shown(&step));
        }
        match pair.step(&step) {
            Ok(Next::GoesOn) => follow(&mut plan, &mut pair, &step),
            Ok(Next::Ended) => {
                ended = true;
                break;
            }
            Err(difference) => {
                let short: String = difference.chars().filter(|c| !c.is_ascii_digit()).take(20).collect();
                return Err((
                    format!("{}: {short}", step.call.name),
                    format!("call {n}, {}: {difference}", shown(&step)),
                ));
            }
        }
    }
    for (name, (calls, successes)) in &pair.compared {
        let all = compared.entry(name).or_default();
        *all = (all.0 + calls, all.1 + successes);
    }
    // What a call with a bad pointer did before the program was stopped need not be the same.
    if ended {
        return Ok(());
    }
    let printed = |side: &mut dyn Side| side.printed();
    if printed(pair.reference) != printed(pair.ours) {
        return Err(("output".to_string(), String::new()));
    }
    let (theirs, ours) = match given.on_host {
        true => (tree::list(theirs.path()), tree::list(ours.path())),
        false => (tree::list_by_calls(pair.reference, 3), tree::list_by_calls(pair.ours, 3)),
    };
    let only =
        |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    if theirs != ours {
        let told = format!(
            "only the reference has {:#?}, only ours {:#?}",
            only(&theirs, &ours),
            only(&ours, &theirs)
        );
        return Err(("directories".to_string(), told));
    }
    Ok(())
}

/// Tells the generator of descriptors that came and went.
fn follow(plan: &mut Plan, pair: &mut Pair, step: &plan::Step) {
    if !matches!(step.call.name, "path_open" | "fd_close" | "fd_renumber") {
        return;
    }
    (plan.files, plan.directories) = (vec![], vec![3, 3, 3, 3]);
    for fd in 3..40 {
        if pair.ours.errno("fd_fdstat_get", &[fd, u64::from(SCRATCH)]) == 0 {
            let directory = pair.ours.get(SCRATCH, 1) == [3];
            if directory { &mut plan.directories } else { &mut plan.files }.push(fd as u32);
        }
    }
}

fn shown(step: &plan::Step) -> String {
    let puts: Vec<String> = step
        .puts
        .iter()
        .map(|(at, bytes)| format!("{at:#x}: \"{}\"", bytes[..bytes.len().min(100)].escape_ascii()))
        .collect();
    format!("{} {:x?} with {}", step.call.name, step.call.args, puts.join(", "))
}
