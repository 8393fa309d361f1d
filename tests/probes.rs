//! Feature probes: straight, and paused, captured, encoded, decoded and restored at every point.

use wasm_ckpt::machine::{Engine, Functions, Instance, MemoryTrees, Module, Settings, Slice, Until};
use wasm_ckpt::snapshot::{self, Value};

fn instance(module: &Module) -> Instance {
    Instance::new(module, None, &Functions::new(), "run", vec![]).unwrap()
}

fn straight(module: &Module) -> (Vec<Value>, u64) {
    let mut instance = instance(module);
    match instance.run(&Until::default()).unwrap() {
        Slice::Finished(values) => (values, instance.fuel()),
        other => panic!("{other:?}"),
    }
}

fn moved(module: &Module, every: u64, most: usize) -> (Vec<Value>, u64, usize) {
    let mut guest = instance(module);
    let mut chunks = std::collections::HashMap::new();
    let mut pauses = 0;
    loop {
        let fuel = (pauses < most).then(|| guest.fuel() + every);
        match guest.run(&Until { fuel, ..Until::default() }).unwrap() {
            Slice::Finished(values) => return (values, guest.fuel(), pauses),
            Slice::Paused => {}
            other => panic!("{other:?}"),
        }
        pauses += 1;
        let mut trees = MemoryTrees::default();
        let state = guest
            .capture(&mut trees, &mut |id, bytes| {
                chunks.insert(id, bytes.to_vec());
                Ok(())
            })
            .unwrap();
        let (id, manifest) = snapshot::encode(&state).unwrap();
        let verified = snapshot::decode(&manifest, Some(id)).unwrap();
        let fetch = &mut |id| Ok(chunks[&id].clone());
        let (next, _) = Instance::restore(module, None, &Functions::new(), verified.state(), fetch).unwrap();
        guest = next;
    }
}

#[test]
fn every_probe() {
    let engine = Engine::new(Settings::default()).unwrap();
    let mut failed = vec![];
    let only = std::env::var("PROBE").ok();
    for entry in std::fs::read_dir(std::env::var("PROBES").unwrap_or("guests/probes".into())).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "wat")
            || only.as_ref().is_some_and(|o| !path.to_str().unwrap().contains(o))
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = text
            .lines()
            .find_map(|l| l.strip_prefix(";; EXPECT: "))
            .map(|e| e.trim().parse::<i64>().unwrap());
        let wasm = wat::parse_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let module = engine.compile(&wasm).unwrap();
            let (values, fuel) = straight(&module);
            let n = if let Value::I64(n) = values[0] { n as i64 } else { panic!("{values:?}") };
            assert_eq!(Some(n), expected);
            let every = fuel / 300;
            let (again, fuel_again, pauses) = moved(&module, every, 400);
            assert_eq!((&again, fuel_again), (&values, fuel), "after {pauses} pauses");
            println!("{}: fuel {fuel}, {pauses} pauses", path.file_name().unwrap().display());
        }));
        if outcome.is_err() {
            failed.push(path);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
