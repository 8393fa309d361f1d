//! The oracle on real programs: a run that is paused, moved and resumed prints and writes what a straight run does.

mod common;

use common::{Place, Random, Run, engine, run_to, runs};
use wasm_ckpt::Module;

/// Cuts of one run; each moves the guest to a fresh instance.
const CUTS: u64 = 20;

/// Fuel for the interpreter, which is some twenty times slower.
const PULLEY_STRETCH: u64 = 5_000_000;

fn only(name: &str) -> bool {
    std::env::var("ONLY").map_or(true, |only| only.split(',').any(|o| o == name))
}

#[test]
fn cut_at_random_and_moved_every_program_gives_the_same() {
    let modules = [engine(None), engine(Some("pulley64"))];
    for run in runs().into_iter().filter(|run| !run.slow && only(&run.name)) {
        let wasm = std::fs::read(&run.program).unwrap();
        let modules = modules.each_ref().map(|engine| engine.compile(&wasm).unwrap());
        cut_and_move(&run, &modules, Place::new);
    }
}

#[test]
fn on_a_private_disk_as_well() {
    let modules = [engine(None), engine(Some("pulley64"))];
    let has_files = |run: &Run| run.directories != "-";
    for run in runs().into_iter().filter(|run| !run.slow && only(&run.name) && has_files(run)) {
        let wasm = std::fs::read(&run.program).unwrap();
        let modules = modules.each_ref().map(|engine| engine.compile(&wasm).unwrap());
        cut_and_move(&run, &modules, Place::private);
    }
}

/// Runs a program straight, and cut at random, moved to a fresh instance at each cut and in stretches run by the
/// interpreter.
fn cut_and_move(run: &Run, [module, pulley]: &[Module; 2], place: fn(&Run) -> Place) {
    let at = place(run);
    let mut guest = at.begin(module);
    assert!(run_to(&mut guest, None, &run.name));
    at.collect(&mut guest);
    at.check("straight");
    let total = guest.fuel();

    let mut random = Random(0xc0ffee);
    let mut cuts: Vec<u64> = (0..CUTS).map(|_| random.below(total)).collect();
    cuts.sort_unstable();
    let at = place(run);
    let mut guest = at.begin(module);
    let (mut moves, mut ended) = (0, false);
    for cut in cuts {
        ended = run_to(&mut guest, Some(cut), &run.name);
        if ended {
            break;
        }
        let moving = Place::snapshot(&mut guest);
        guest = at.resume(module, &moving);
        moves += 1;
        if moves % 7 == 3 {
            // A stretch under the interpreter, and back.
            let moving = Place::snapshot(&mut guest);
            guest = at.resume(pulley, &moving);
            ended = run_to(&mut guest, Some(cut + PULLEY_STRETCH), &run.name);
            if ended {
                break;
            }
            let moving = Place::snapshot(&mut guest);
            guest = at.resume(module, &moving);
        }
    }
    // Ended already, if the last cut was within the last stretch.
    if !ended {
        // Wall time may steer a program; where it does not, the fuel is the same as well.
        assert!(run_to(&mut guest, None, &run.name));
    }
    at.collect(&mut guest);
    at.check(&format!("moved {moves} times"));
    println!("{}: {total} fuel straight, {} moved {moves} times", run.name, guest.fuel());
}

/// The state at fuel N has one id, whoever takes it and however often the run was paused before. (Files of the host
/// have times of their own, so those that there are are on a private disk.)
#[test]
fn the_snapshot_at_a_fuel_value_is_the_same_on_every_path_and_instruction_set() {
    let (native, pulley) = (engine(None), engine(Some("pulley64")));
    for run in runs().into_iter().filter(|r| !r.slow && r.program.starts_with(common::guests().join("wasm")))
    {
        if !only(&run.name) {
            continue;
        }
        let wasm = std::fs::read(&run.program).unwrap();
        let (native, pulley) = (native.compile(&wasm).unwrap(), pulley.compile(&wasm).unwrap());
        let at = 20_000_000;
        let place = Place::private(&run);
        let mut straight = place.begin(&native);
        if run_to(&mut straight, Some(at), &run.name) {
            continue;
        }
        let expected = Place::snapshot(&mut straight).id;

        let place = Place::private(&run);
        let mut chained = place.begin(&native);
        let mut random = Random(9);
        let mut cut = 0;
        let mut n = 0;
        while cut < at {
            cut = (cut + random.below(at / 4)).min(at);
            assert!(!run_to(&mut chained, Some(cut), &run.name));
            let moving = Place::snapshot(&mut chained);
            n += 1;
            let module = if n % 2 == 0 { &native } else { &pulley };
            chained = place.resume(module, &moving);
        }
        assert_eq!(
            Place::snapshot(&mut chained).id,
            expected,
            "{}: chained, native and Pulley in turn",
            run.name
        );

        let place = Place::private(&run);
        let mut interpreted = place.begin(&pulley);
        assert!(!run_to(&mut interpreted, Some(at), &run.name));
        let moving = Place::snapshot(&mut interpreted);
        assert_eq!(moving.id, expected, "{}: under Pulley", run.name);
        // And back: a native guest ends it as if nothing had happened.
        let mut back = place.resume(&native, &moving);
        assert!(run_to(&mut back, None, &run.name));
        place.collect(&mut back);
        place.check("begun under Pulley");
    }
}
