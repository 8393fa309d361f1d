//! Dynamic programming, backtracking, searches in grids and graphs.

use crate::{Fnv, Rng};
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

/// Edit distance over chars, longest common subsequence with the way back, knapsack: SIZE times.
pub fn editdist(size: u64) -> String {
    let mut rng = Rng::new(11);
    let mut sum = Fnv::new();
    let mut last = String::new();
    for _ in 0..size {
        last = editdist_once(&mut rng, &mut sum);
    }
    format!("{last} {:016x}", sum.0)
}

fn editdist_once(rng: &mut Rng, sum: &mut Fnv) -> String {
    let size = 3000;
    let alphabet: Vec<char> = "abcdefghéß".chars().collect();
    let mut random = |n: u64| -> String { (0..n).map(|_| alphabet[rng.below(10) as usize]).collect() };
    let (a, b) = (random(size), random(size * 9 / 10));
    let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());

    let mut previous: Vec<usize> = (0..=y.len()).collect();
    let mut current = vec![0; y.len() + 1];
    for (i, cx) in x.iter().enumerate() {
        current[0] = i + 1;
        for (j, cy) in y.iter().enumerate() {
            let replace = previous[j] + (cx != cy) as usize;
            current[j + 1] = replace.min(previous[j + 1] + 1).min(current[j] + 1);
        }
        std::mem::swap(&mut previous, &mut current);
    }
    let distance = previous[y.len()];

    let mut table = vec![vec![0u16; y.len() + 1]; x.len() + 1];
    for i in 0..x.len() {
        for j in 0..y.len() {
            table[i + 1][j + 1] =
                if x[i] == y[j] { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
        }
    }
    let (mut i, mut j) = (x.len(), y.len());
    let mut common = String::new();
    while i > 0 && j > 0 {
        if x[i - 1] == y[j - 1] {
            common.push(x[i - 1]);
            i -= 1;
            j -= 1;
        } else if table[i - 1][j] >= table[i][j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    sum.bytes(common.as_bytes());

    let items: Vec<(usize, u64)> =
        (0..200).map(|_| (10 + rng.below(90) as usize, 1 + rng.below(1000))).collect();
    let mut best = vec![0u64; size as usize * 4 + 1];
    for &(weight, worth) in &items {
        for w in (weight..best.len()).rev() {
            best[w] = best[w].max(best[w - weight] + worth);
        }
    }
    format!("distance {distance} common {} knapsack {}", common.chars().count(), best.last().unwrap())
}

/// Queens on boards of several widths, SIZE times: the number of ways to place them by bit masks, and the first way by
/// backtracking over a Vec.
pub fn queens(size: u64) -> String {
    fn count(all: u32, columns: u32, left: u32, right: u32) -> u64 {
        if columns == all {
            return 1;
        }
        let mut free = all & !(columns | left | right);
        let mut n = 0;
        while free != 0 {
            let bit = free & free.wrapping_neg();
            free ^= bit;
            n += count(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
        }
        n
    }
    fn place(n: usize, rows: &mut Vec<usize>, tries: &mut u64) -> bool {
        if rows.len() == n {
            return true;
        }
        for c in 0..n {
            *tries += 1;
            let r = rows.len();
            if rows.iter().enumerate().all(|(i, &x)| x != c && x.abs_diff(c) != r - i) {
                rows.push(c);
                if place(n, rows, tries) {
                    return true;
                }
                rows.pop();
            }
        }
        false
    }
    let mut sum = Fnv::new();
    let (mut solutions, mut tries) = (0, 0);
    let mut rows = Vec::new();
    for round in 0..size as usize {
        solutions += count((1 << (7 + round % 5)) - 1, 0, 0, 0);
        rows.clear();
        place(8 + round % 12, &mut rows, &mut tries);
        rows.iter().for_each(|&row| sum.word(row as u64));
    }
    format!("{solutions} solutions, {tries} tries {:016x}", sum.0)
}

/// A grid SIZE wide: its regions by flood fill, breadth-first search with a VecDeque, shortest ways read back.
pub fn gridbfs(size: u64) -> String {
    let n = size as usize;
    let mut rng = Rng::new(12);
    let grid: Vec<Vec<char>> =
        (0..n).map(|_| (0..n).map(|_| if rng.below(100) < 33 { '#' } else { '.' }).collect()).collect();
    let neighbours = |(r, c): (usize, usize)| {
        [(0isize, 1isize), (1, 0), (0, -1), (-1, 0)].into_iter().filter_map(move |(dr, dc)| {
            let (r, c) = (r.checked_add_signed(dr)?, c.checked_add_signed(dc)?);
            (r < n && c < n).then_some((r, c))
        })
    };
    // Regions, the largest first.
    let mut region = vec![vec![None::<u32>; n]; n];
    let mut sizes: Vec<(u32, (usize, usize))> = Vec::new();
    for r in 0..n {
        for c in 0..n {
            if grid[r][c] == '#' || region[r][c].is_some() {
                continue;
            }
            let id = sizes.len() as u32;
            let mut queue = VecDeque::from([(r, c)]);
            region[r][c] = Some(id);
            let mut count = 0;
            while let Some(at) = queue.pop_front() {
                count += 1;
                for (r, c) in neighbours(at) {
                    if grid[r][c] == '.' && region[r][c].is_none() {
                        region[r][c] = Some(id);
                        queue.push_back((r, c));
                    }
                }
            }
            sizes.push((count, (r, c)));
        }
    }
    let regions = sizes.len();
    sizes.sort_by_key(|&(count, at)| (Reverse(count), at));
    // Distances from the largest region's first cell, and from the farthest.
    let mut start = sizes[0].1;
    let mut sum = Fnv::new();
    let mut farthest = 0;
    for _ in 0..6 {
        let mut distance = vec![vec![u32::MAX; n]; n];
        distance[start.0][start.1] = 0;
        let mut queue = VecDeque::new();
        queue.push_back(start);
        let mut last = start;
        while let Some(at) = queue.pop_front() {
            last = at;
            let d = distance[at.0][at.1];
            for (r, c) in neighbours(at).filter(|&(r, c)| grid[r][c] == '.') {
                if distance[r][c] == u32::MAX {
                    distance[r][c] = d + 1;
                    queue.push_back((r, c));
                }
            }
        }
        farthest = distance[last.0][last.1];
        let mut way = last;
        while way != start {
            sum.word((way.0 * 10_000 + way.1) as u64);
            let d = distance[way.0][way.1];
            way = neighbours(way).find(|&(r, c)| distance[r][c] == d - 1).unwrap();
        }
        start = last;
    }
    format!("{regions} regions, largest {}, farthest {farthest} {:016x}", sizes[0].0, sum.0)
}

#[derive(Clone, Copy, PartialEq)]
struct State {
    cost: f64,
    node: usize,
}

impl Eq for State {}
impl Ord for State {
    fn cmp(&self, o: &Self) -> Ordering {
        o.cost.total_cmp(&self.cost).then_with(|| self.node.cmp(&o.node))
    }
}
impl PartialOrd for State {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}

/// A graph of SIZE nodes: shortest ways with a BinaryHeap over adjacency lists, a spanning tree with union-find.
pub fn dijkstra(size: u64) -> String {
    let n = size as usize;
    let mut rng = Rng::new(13);
    let mut edges: Vec<Vec<(usize, f64)>> = vec![Vec::new(); n];
    for i in 0..n {
        for _ in 0..5 {
            let near = rng.below(3) > 0;
            let j = if near { (i + 1 + rng.below(50) as usize) % n } else { rng.below(size) as usize };
            let weight = 1.0 + (rng.unit() * 1000.0).floor() / 8.0;
            edges[i].push((j, weight));
            edges[j].push((i, weight + 0.25));
        }
    }
    let mut sum = Fnv::new();
    let mut pops = 0u64;
    for source in [0, n / 3, n / 2] {
        let mut cost: Vec<Option<f64>> = vec![None; n];
        let mut heap = BinaryHeap::from([State { cost: 0.0, node: source }]);
        cost[source] = Some(0.0);
        while let Some(State { cost: c, node }) = heap.pop() {
            pops += 1;
            if cost[node].is_some_and(|known| c > known) {
                continue;
            }
            for &(to, weight) in &edges[node] {
                let next = State { cost: c + weight, node: to };
                if cost[to].is_none_or(|known| next.cost < known) {
                    cost[to] = Some(next.cost);
                    heap.push(next);
                }
            }
        }
        cost.iter().flatten().for_each(|c| sum.word(c.to_bits()));
    }
    fn find(parent: &mut [u32], x: u32) -> u32 {
        let p = parent[x as usize];
        if p == x {
            return x;
        }
        let root = find(parent, p);
        parent[x as usize] = root;
        root
    }
    let mut all: BinaryHeap<Reverse<(u64, u32, u32)>> = edges
        .iter()
        .enumerate()
        .flat_map(|(i, list)| list.iter().map(move |&(j, w)| Reverse((w.to_bits(), i as u32, j as u32))))
        .collect();
    let mut parent: Vec<u32> = (0..n as u32).collect();
    let (mut joined, mut total) = (1, 0.0);
    while let Some(Reverse((w, i, j))) = all.pop() {
        let (a, b) = (find(&mut parent, i), find(&mut parent, j));
        if a != b {
            parent[a.max(b) as usize] = a.min(b);
            joined += 1;
            total += f64::from_bits(w);
            if joined == n {
                break;
            }
        }
    }
    format!("{pops} pops, tree {joined} {total} {:016x}", sum.0)
}
