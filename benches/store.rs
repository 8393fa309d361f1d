//! How fast a full snapshot goes into a local store, beside what it can be no faster than: hashing its pages, zstd,
//! and the disk, each alone and on all cores.
//!
//! `cargo bench --bench store`, or with `--profile dev`; `-- MIB` says how much (512), and `WASM_CKPT_BENCH_DIR`
//! where (the system's directory for temporary files). Best of three, MB/s of what is hashed or compressed; for the
//! disk, of what is written. On a busy machine these compare badly, so there is also the processor time, in ns a byte,
//! and which part of it is what hashing and compressing take alone.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wasm_ckpt::digest::ChunkId;
use wasm_ckpt::snapshot::{Dirty, Tree};
use wasm_ckpt::store::{Chunks, Compress, Key, Local, Store, Written};

const PAGE: usize = 4096;
const FRAME: usize = 64 << 10;

fn main() {
    let mib = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(512);
    let dir = match std::env::var_os("WASM_CKPT_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    looking(dir.path());
    for (name, fill) in [("like memory", memory as fn(&mut [u8])), ("noise", noise)] {
        let mut bytes = vec![0; mib << 20];
        fill(&mut bytes);
        println!("\n{name}, {mib} MiB, {} cores", cores());
        reading(&bytes, dir.path());
        table(&bytes, dir.path());
    }
}

fn table(bytes: &[u8], dir: &Path) {
    let hash = rate(bytes.len(), || {
        each(bytes, PAGE, || {
            |page: &[u8]| {
                std::hint::black_box(blake3::hash(page));
            }
        })
    });
    println!("  blake3 of pages    {:7.0} MB/s {:5.2} ns/B", hash.wall, hash.cpu);
    let disk = rate(bytes.len(), || write(bytes, dir));
    println!("  disk, {:5} MiB    {:7.0} MB/s {:5.2} ns/B", bytes.len() >> 20, disk.wall, disk.cpu);
    for compress in ["auto", "1", "-1", "-5", "-20", "none"].map(|text| text.parse::<Compress>().unwrap()) {
        let zstd = match compress {
            Compress::Level(level) => rate(bytes.len(), || each(bytes, FRAME, || compressor(level))),
            _ => Rate { wall: f64::MAX, cpu: 0.0 },
        };
        let mut stored = 1;
        let rate = rate(bytes.len(), || stored = snapshot(bytes, dir, compress).stored_bytes.max(1));
        let ratio = bytes.len() as f64 / stored as f64;
        // What the disk alone would need for what is stored.
        let limit = hash.wall.min(zstd.wall).min(disk.wall * ratio);
        print!(
            "  --compress {:>5}   {:7.0} MB/s {:5.2} ns/B, ratio {ratio:4.1}; {:3.0} % of the slowest",
            compress.to_string(),
            rate.wall,
            rate.cpu,
            100.0 * rate.wall / limit,
        );
        match compress {
            Compress::Level(_) => println!(
                "; zstd alone {:.0} MB/s {:.2} ns/B; {:.0} % of the time is blake3 and zstd",
                zstd.wall,
                zstd.cpu,
                100.0 * (hash.cpu + zstd.cpu) / rate.cpu
            ),
            _ => println!(),
        }
    }
}

/// How long it takes to find the first chunk in a store with a million of them, more of them, and that there is none;
/// in one pack and in many.
fn looking(dir: &Path) {
    const ALL: u32 = 1 << 20;
    println!("\na million pages, 4 GiB");
    let page = |n: u32| {
        let mut page = [0; PAGE];
        page[..4].copy_from_slice(&n.to_le_bytes());
        page
    };
    for packs in [1, 200] {
        let store = tempfile::tempdir_in(dir).unwrap();
        let local = Arc::new(Local::open(store.path()).unwrap());
        let chunks = Chunks::open(local.clone()).with_compress(Compress::Fast);
        let id = |n: u32| ChunkId::of(&page(n));
        for pack in 0..packs {
            let mut writer = chunks.writer().unwrap();
            for n in (ALL / packs * pack)..(ALL / packs * (pack + 1)) {
                writer.add(id(n), &page(n)).unwrap();
            }
            writer.finish().map(drop).unwrap();
        }
        drop(chunks);
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4096
        };
        let before = resident();
        let chunks = Chunks::open(local.clone());
        let began = Instant::now();
        chunks.read(id(77_777)).unwrap();
        let first = began.elapsed();
        let ids: Vec<_> = (0..1000_u32).map(|n| id(n.wrapping_mul(0x9E37_79B1) % (ALL - 200))).collect();
        let began = Instant::now();
        ids.iter().for_each(|id| drop(chunks.read(*id).unwrap()));
        let random = began.elapsed() / 1000;
        let held = resident().saturating_sub(before);
        let mut writer = chunks.writer().unwrap();
        let began = Instant::now();
        writer.add(id(ALL), &page(ALL)).unwrap();
        let ready = began.elapsed();
        let ids: Vec<_> = (ALL + 1..ALL + 100_000).map(id).collect();
        let began = Instant::now();
        ids.iter().for_each(|id| assert!(!chunks.contains(*id).unwrap()));
        let read_miss = began.elapsed() / ids.len() as u32;
        let began = Instant::now();
        ids.iter().for_each(|id| assert!(writer.add(*id, &[]).unwrap()));
        let miss = began.elapsed() / ids.len() as u32;
        println!(
            "  in {packs:>3} packs: the first after {:.2} ms, then {:.0} us each at random, {:.0} MB more memory; a reader's \
             miss {} ns; a writer is ready after {:.1} ms, and a new chunk takes it {} ns",
            first.as_secs_f64() * 1e3,
            random.as_secs_f64() * 1e6,
            held as f64 / 1e6,
            read_miss.as_nanos(),
            ready.as_secs_f64() * 1e3,
            miss.as_nanos(),
        );
    }
}

/// All of it read back, beside the parts of that: reading what is stored, hashing that, decompressing it, and hashing
/// the pages; on one thread and on all.
fn reading(bytes: &[u8], dir: &Path) {
    let ids: Vec<ChunkId> = bytes.chunks(PAGE).map(ChunkId::of).collect();
    for compress in ["none", "1"].map(|text| text.parse::<Compress>().unwrap()) {
        let store = tempfile::tempdir_in(dir).unwrap();
        let local = Arc::new(Local::open(store.path()).unwrap());
        snapshot_into(bytes, local.clone(), compress);
        for threads in [1, cores()] {
            let limit = rate(bytes.len(), || limit(bytes, &local, compress != Compress::None, threads));
            let read = rate(bytes.len(), || {
                let chunks = Chunks::open(local.clone());
                let sum = AtomicUsize::new(0);
                let take = |_: Range<usize>, page: &[u8]| {
                    sum.fetch_add(page.len(), Ordering::Relaxed);
                    Ok(())
                };
                chunks.read_many(&ids, threads, &take).unwrap();
                assert_eq!(sum.into_inner(), bytes.len());
            });
            println!(
                "  read back, {:>4}, {threads} threads {:7.0} MB/s {:5.2} ns/B; read, hash{}: {:.0} MB/s {:.2} ns/B; \
                 {:.0} % of it",
                compress.to_string(),
                read.wall,
                read.cpu,
                if compress == Compress::None { " twice" } else { ", decompress, hash" },
                limit.wall,
                limit.cpu,
                100.0 * read.wall / limit.wall,
            );
        }
    }
}

/// What reading can be no faster than.
fn limit(bytes: &[u8], store: &Local, compressed: bool, threads: usize) {
    let frames: Vec<Vec<u8>> = match compressed {
        // They take as long wherever they come from.
        true => bytes.chunks(FRAME).take(256).map(|frame| zstd::bulk::compress(frame, 1).unwrap()).collect(),
        false => vec![],
    };
    let next = AtomicUsize::new(0);
    let packs: Vec<(Key, u64)> = store
        .list("packs/")
        .unwrap()
        .into_iter()
        .map(|key| (key.clone(), store.size(&key).unwrap()))
        .collect();
    let parts: Vec<(&Key, u64, usize)> = packs
        .iter()
        .flat_map(|(key, size)| {
            (0..*size).step_by(1 << 19).map(move |at| (key, at, (size - at).min(1 << 19) as usize))
        })
        .collect();
    let pages = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut stored, mut frame) = (vec![0; 1 << 19], vec![0; FRAME]);
                while let Some((key, at, len)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    store.read_at(key, *at, &mut stored[..*len]).unwrap();
                    stored[..*len].chunks(FRAME).for_each(|frame| {
                        std::hint::black_box(blake3::hash(frame));
                    });
                }
                while let Some(part) = bytes.chunks(FRAME).nth(pages.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(stored) = frames.get(pages.load(Ordering::Relaxed) % frames.len().max(1)) {
                        zstd::bulk::decompress_to_buffer(stored, &mut frame).unwrap();
                    }
                    part.chunks(PAGE).for_each(|page| {
                        std::hint::black_box(blake3::hash(page));
                    });
                }
            });
        }
    });
}

/// Compresses one frame after the other.
fn compressor(level: i32) -> impl FnMut(&[u8]) {
    let mut zstd = zstd::bulk::Compressor::new(level).unwrap();
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(FRAME));
    move |frame: &[u8]| {
        out.clear();
        zstd.compress_to_buffer(frame, &mut out).unwrap();
    }
}

/// A snapshot of all of it, into a new store.
fn snapshot(bytes: &[u8], dir: &Path, compress: Compress) -> Written {
    let store = tempfile::tempdir_in(dir).unwrap();
    snapshot_into(bytes, Arc::new(Local::open(store.path()).unwrap()), compress)
}

fn snapshot_into(bytes: &[u8], store: Arc<Local>, compress: Compress) -> Written {
    let chunks = Chunks::open(store).with_compress(compress);
    let mut writer = chunks.writer().unwrap();
    Tree::new()
        .update(bytes, Dirty::All, &mut |id, bytes| {
            writer.add(id, bytes)?;
            Ok(())
        })
        .unwrap();
    writer.finish().unwrap().0
}

fn write(bytes: &[u8], dir: &Path) {
    let path = dir.join("plain");
    let mut file = File::create(&path).unwrap();
    for part in bytes.chunks(1 << 20) {
        file.write_all(part).unwrap();
    }
    file.sync_data().unwrap();
    std::fs::remove_file(path).unwrap();
}

/// Does one thing to all pieces, on all cores.
fn each<F: FnMut(&[u8])>(bytes: &[u8], size: usize, work: impl Fn() -> F + Sync) {
    let (next, batch) = (AtomicUsize::new(0), 16 * size);
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                let mut work = work();
                while let Some(part) = bytes.chunks(batch).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    part.chunks(size).for_each(&mut work);
                }
            });
        }
    });
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// How fast it was.
struct Rate {
    /// MB/s.
    wall: f64,
    /// Processor time in ns a byte.
    cpu: f64,
}

/// Best of three.
fn rate(bytes: usize, mut work: impl FnMut()) -> Rate {
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let (began, busy) = (Instant::now(), cpu());
        work();
        best = (best.0.min(began.elapsed()), best.1.min(cpu() - busy));
    }
    Rate { wall: bytes as f64 / best.0.as_secs_f64() / 1e6, cpu: best.1.as_nanos() as f64 / bytes as f64 }
}

/// Pages that look like those of a program: text, pointers, small numbers, zeros, and some noise.
fn memory(bytes: &mut [u8]) {
    let text = include_bytes!("../README.md");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for page in bytes.chunks_mut(PAGE) {
        let kind = next() % 8;
        for block in page.chunks_mut(64) {
            match (kind, next() % 4) {
                (0, _) => {
                    block.iter_mut().for_each(|byte| *byte = next() as u8);
                }
                (1..=3, _) | (_, 0) => {
                    let at = next() as usize % (text.len() - 64);
                    block.copy_from_slice(&text[at..][..block.len()]);
                }
                (_, 1 | 2) => {
                    for word in block.chunks_mut(8) {
                        word[..4].copy_from_slice(&(0x10_0000 + next() as u32 % 0x4_0000).to_le_bytes());
                    }
                }
                _ => block[0] = next() as u8,
            }
        }
    }
}

fn noise(bytes: &mut [u8]) {
    blake3::Hasher::new().finalize_xof().fill(bytes);
}
