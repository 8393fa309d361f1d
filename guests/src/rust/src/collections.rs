//! Tasks on the standard library's collections and on graphs of `Rc`.

use crate::{Fnv, Rng};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::{Rc, Weak};

/// Text of made-up words, some of them far more frequent than others.
pub fn make_text(words: u64, seed: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ka", "lo", "mi", "ren", "tu", "sha", "po", "vel", "dor", "in", "a", "ist", "qu", "bren", "ou", "é"];
    let mut rng = Rng::new(seed);
    let mut text = String::new();
    for i in 0..words {
        let bits = 1 + rng.below(14);
        let bound = 1 + rng.below(1 << bits);
        let mut code = rng.below(bound) + 3;
        let mut first = true;
        while code > 0 {
            let syllable = SYLLABLES[(code % 16) as usize];
            if first && i % 11 == 0 {
                text.push_str(&syllable.to_uppercase());
            } else {
                text.push_str(syllable);
            }
            first = false;
            code /= 16;
        }
        text.push_str(match i % 17 {
            0 => ", ",
            9 => ".\n",
            _ => " ",
        });
    }
    text
}

/// SIZE words counted in a HashMap with the standard hasher (SipHash), whose order is nowhere seen.
pub fn wordcount(size: u64) -> String {
    let text = make_text(size, 1);
    let mut counts: HashMap<String, u64> = HashMap::new();
    for line in text.lines() {
        for word in line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
            *counts.entry(word.to_lowercase()).or_insert(0) += 1;
        }
    }
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let mut sum = Fnv::new();
    for (word, count) in &sorted {
        sum.bytes(word.as_bytes());
        sum.word(**count);
    }
    let top: Vec<String> = sorted.iter().take(3).map(|(w, c)| format!("{w}={c}")).collect();
    format!("{} distinct, {} {:016x}", sorted.len(), top.join(" "), sum.0)
}

/// BTreeMaps of SIZE tuples and of strings: insert, look up, walk ranges, remove.
pub fn btree(size: u64) -> String {
    let mut rng = Rng::new(2);
    let mut by_number: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut by_name: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for i in 0..size {
        let key = (rng.below(1000) as u32, rng.below(size) as u32);
        by_number.insert(key, i);
        if i % 4 == 0 {
            by_name.entry(format!("user-{:05}", rng.below(size / 8 + 1))).or_default().push(key.1);
        }
    }
    let mut sum = Fnv::new();
    let mut found = 0u64;
    for _ in 0..size {
        if let Some(v) = by_number.get(&(rng.below(1000) as u32, rng.below(size) as u32)) {
            found += v;
        }
    }
    for _ in 0..size / 20 {
        let from = rng.below(1000) as u32;
        for (key, value) in by_number.range((from, 0)..(from + 1, 0)).take(30) {
            sum.word(key.1 as u64 ^ value);
        }
    }
    by_number.retain(|k, _| k.1 % 3 != 0);
    while by_number.len() as u64 > size / 2 {
        let (k, v) = by_number.pop_first().unwrap();
        sum.word(k.0 as u64 + v);
    }
    for (name, list) in &by_name {
        sum.bytes(name.as_bytes());
        sum.word(list.iter().map(|&x| x as u64).sum());
    }
    format!("{} {} found {} {:016x}", by_number.len(), by_name.len(), found, sum.0)
}

#[derive(Clone, Debug)]
struct Employee {
    name: String,
    department: u16,
    age: u8,
    salary: f64,
    skills: Vec<u8>,
}

/// SIZE structs sorted by several keys, stable and unstable; grouping, deduplication.
pub fn sortstructs(size: u64) -> String {
    let mut rng = Rng::new(3);
    let mut staff: Vec<Employee> = (0..size)
        .map(|_| Employee {
            name: (0..3 + rng.below(8)).map(|_| (b'a' + rng.below(26) as u8) as char).collect(),
            department: rng.below(40) as u16,
            age: 18 + rng.below(50) as u8,
            salary: (rng.unit() * 1e7).round() / 100.0,
            skills: (0..rng.below(5)).map(|_| rng.below(256) as u8).collect(),
        })
        .collect();
    let mut sum = Fnv::new();
    let mut note = |staff: &[Employee]| {
        for e in staff.iter().step_by(97) {
            sum.bytes(e.name.as_bytes());
            sum.word(e.salary.to_bits() ^ e.age as u64);
        }
    };
    staff.sort_by_key(|e| (e.department, std::cmp::Reverse(e.age)));
    note(&staff);
    staff.sort_by(|a, b| a.salary.total_cmp(&b.salary));
    note(&staff);
    staff.sort_by(|a, b| a.name.cmp(&b.name).then(b.age.cmp(&a.age)));
    note(&staff);
    staff.sort_by_cached_key(|e| e.skills.iter().rev().copied().collect::<Vec<u8>>());
    note(&staff);
    let mut cheap: Vec<(u64, u32)> =
        staff.iter().enumerate().map(|(i, e)| (e.salary as u64 / 10, i as u32)).collect();
    cheap.sort_unstable();
    cheap.dedup_by_key(|p| p.0);
    let mut totals = vec![0.0f64; 40];
    for group in staff.chunk_by(|a, b| a.skills == b.skills) {
        totals[group.len() % 40] += group.iter().map(|e| e.salary).sum::<f64>();
    }
    let best = totals.iter().cloned().fold(f64::MIN, f64::max);
    format!("{} distinct, best {:.2} {:016x}", cheap.len(), best, sum.0)
}

struct Node {
    id: u32,
    value: i64,
    out: Vec<Rc<RefCell<Node>>>,
    parent: Option<Weak<RefCell<Node>>>,
}

/// A graph of SIZE `Rc<RefCell<Node>>`: built, values passed along edges, rewired, walked up by Weak and down, dropped.
pub fn graph(size: u64) -> String {
    let mut total = Fnv::new();
    for round in 0..4u64 {
        let mut rng = Rng::new(4 + round);
        let nodes: Vec<Rc<RefCell<Node>>> = (0..size)
            .map(|i| {
                let value = rng.below(1000) as i64 - 500;
                Rc::new(RefCell::new(Node { id: i as u32, value, out: Vec::new(), parent: None }))
            })
            .collect();
        // Edges only to later nodes, so that there is no cycle and everything is freed.
        for i in 0..nodes.len().saturating_sub(1) {
            for _ in 0..3 {
                let j = i + 1 + rng.below(((nodes.len() - i - 1) as u64).min(100)) as usize;
                nodes[i].borrow_mut().out.push(Rc::clone(&nodes[j]));
                nodes[j].borrow_mut().parent = Some(Rc::downgrade(&nodes[i]));
            }
        }
        for _ in 0..5 {
            for node in &nodes {
                let share = {
                    let n = node.borrow();
                    n.value / (n.out.len() as i64 + 1)
                };
                for next in &node.borrow().out {
                    let mut next = next.borrow_mut();
                    next.value = (next.value + share) % 1_000_003;
                }
            }
            for i in (0..nodes.len()).step_by(7) {
                let moved = nodes[i].borrow_mut().out.pop();
                if let Some(target) = moved {
                    let j = i.saturating_sub(3).min(target.borrow().id as usize);
                    if j < target.borrow().id as usize {
                        nodes[j].borrow_mut().out.push(target);
                    }
                }
            }
        }
        let mut depth = 0u64;
        for node in nodes.iter().step_by(499) {
            let mut at = Rc::clone(node);
            loop {
                let up = at.borrow().parent.as_ref().and_then(Weak::upgrade);
                match up {
                    Some(up) => at = up,
                    None => break,
                }
                depth += 1;
            }
        }
        let mut seen = HashSet::new();
        let mut stack = vec![Rc::clone(&nodes[0])];
        while let Some(node) = stack.pop() {
            if seen.insert(node.borrow().id) {
                total.word(node.borrow().value as u64);
                stack.extend(node.borrow().out.iter().cloned());
            }
        }
        let strong: usize = nodes.iter().map(Rc::strong_count).sum();
        total.word(depth ^ ((seen.len() as u64) << 20) ^ ((strong as u64) << 40));
        // Freed from the last to the first, so that dropping does not recurse.
        let mut nodes = nodes;
        while let Some(node) = nodes.pop() {
            node.borrow_mut().out.clear();
        }
    }
    format!("{:016x}", total.0)
}
