//! Floating point, integers of any size, iterators.

use crate::{Fnv, Rng};
use std::ops::{Add, Mul, Sub};

/// `Vec<Vec<f64>>` of SIZE rows: a product by indices, one by iterators, Gaussian elimination.
pub fn matmul(size: u64) -> String {
    let n = size as usize;
    let mut rng = Rng::new(5);
    let mut make =
        || -> Vec<Vec<f64>> { (0..n).map(|_| (0..n).map(|_| rng.unit() - 0.5).collect()).collect() };
    let (a, b) = (make(), make());
    let mut c = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..n {
            let mut s = 0.0;
            for k in 0..n {
                s += a[i][k] * b[k][j];
            }
            c[i][j] = s;
        }
    }
    let transposed: Vec<Vec<f64>> = (0..n).map(|j| c.iter().map(|row| row[j]).collect()).collect();
    let d: Vec<Vec<f64>> = a
        .iter()
        .map(|row| transposed.iter().map(|col| row.iter().zip(col).map(|(x, y)| x * y).sum()).collect())
        .collect();
    let mut m = d.clone();
    let mut log_det = 0i64;
    for k in 0..n {
        let p = (k..n).max_by(|&x, &y| m[x][k].abs().total_cmp(&m[y][k].abs())).unwrap();
        m.swap(k, p);
        let (upper, lower) = m.split_at_mut(k + 1);
        let pivot = &upper[k];
        log_det += (pivot[k].abs().to_bits() >> 52) as i64 - 1023;
        for row in lower {
            let f = row[k] / pivot[k];
            for (x, y) in row[k..].iter_mut().zip(&pivot[k..]) {
                *x -= f * y;
            }
        }
    }
    let trace: f64 = (0..n).map(|i| d[i][i]).sum();
    format!("trace {trace:.9} log {log_det} last {:016x}", m[n - 1][n - 1].to_bits())
}

#[derive(Clone, Copy, Debug)]
struct V3(f64, f64, f64);

impl Add for V3 {
    type Output = V3;
    fn add(self, o: V3) -> V3 {
        V3(self.0 + o.0, self.1 + o.1, self.2 + o.2)
    }
}
impl Sub for V3 {
    type Output = V3;
    fn sub(self, o: V3) -> V3 {
        V3(self.0 - o.0, self.1 - o.1, self.2 - o.2)
    }
}
impl Mul<f64> for V3 {
    type Output = V3;
    fn mul(self, k: f64) -> V3 {
        V3(self.0 * k, self.1 * k, self.2 * k)
    }
}
impl V3 {
    fn dot(self, o: V3) -> f64 {
        self.0 * o.0 + self.1 * o.1 + self.2 * o.2
    }
    fn unit(self) -> V3 {
        self * (1.0 / self.dot(self).sqrt())
    }
}

struct Sphere {
    center: V3,
    radius: f64,
    color: V3,
    mirror: f64,
}

impl Sphere {
    fn hit(&self, from: V3, dir: V3) -> Option<f64> {
        let oc = from - self.center;
        let b = oc.dot(dir);
        let disc = b * b - (oc.dot(oc) - self.radius * self.radius);
        if disc < 0.0 {
            return None;
        }
        let root = disc.sqrt();
        [-b - root, -b + root].into_iter().find(|&t| t > 1e-6)
    }
}

struct Scene {
    spheres: Vec<Sphere>,
    light: V3,
}

impl Scene {
    fn nearest(&self, from: V3, dir: V3) -> Option<(f64, &Sphere)> {
        self.spheres
            .iter()
            .filter_map(|s| s.hit(from, dir).map(|t| (t, s)))
            .min_by(|a, b| a.0.partial_cmp(&b.0).unwrap())
    }
    fn shade(&self, from: V3, dir: V3, depth: u32) -> V3 {
        let Some((t, sphere)) = self.nearest(from, dir) else {
            let k = 0.5 * (dir.1 + 1.0);
            return V3(1.0, 1.0, 1.0) * (1.0 - k) + V3(0.4, 0.6, 1.0) * k;
        };
        let at = from + dir * t;
        let normal = (at - sphere.center).unit();
        let to_light = (self.light - at).unit();
        let lit = self.nearest(at, to_light).is_none();
        let diffuse = if lit { normal.dot(to_light).max(0.0) } else { 0.0 };
        let shine = if lit { (to_light - dir).unit().dot(normal).max(0.0).powi(32) } else { 0.0 };
        let own = sphere.color * (0.1 + 0.9 * diffuse) + V3(shine, shine, shine);
        if depth == 0 || sphere.mirror == 0.0 {
            return own;
        }
        let reflected = dir - normal * (2.0 * dir.dot(normal));
        own * (1.0 - sphere.mirror) + self.shade(at, reflected, depth - 1) * sphere.mirror
    }
}

/// Spheres by ray tracing, an image SIZE pixels wide.
pub fn raytrace(size: u64) -> String {
    let mut rng = Rng::new(6);
    let mut spheres =
        vec![Sphere { center: V3(0.0, -1000.0, 0.0), radius: 999.0, color: V3(0.5, 0.5, 0.5), mirror: 0.1 }];
    for i in 0..24 {
        spheres.push(Sphere {
            center: V3(rng.unit() * 8.0 - 4.0, rng.unit() * 2.0 - 0.7, rng.unit() * 6.0 - 3.0),
            radius: 0.2 + rng.unit() * 0.4,
            color: V3(rng.unit(), rng.unit(), rng.unit()),
            mirror: if i % 3 == 0 { 0.6 } else { 0.0 },
        });
    }
    let scene = Scene { spheres, light: V3(10.0, 20.0, -10.0) };
    let (width, height) = (size, size * 3 / 4);
    let mut image: Vec<[u8; 3]> = Vec::with_capacity((width * height) as usize);
    for y in 0..height {
        for x in 0..width {
            let dir = V3((x as f64 + 0.5) / width as f64 - 0.5, 0.375 - (y as f64 + 0.5) / width as f64, 1.0)
                .unit();
            let c = scene.shade(V3(0.0, 0.5, -8.0), dir, 4);
            let byte = |v: f64| (v.clamp(0.0, 1.0).sqrt() * 255.0) as u8;
            image.push([byte(c.0), byte(c.1), byte(c.2)]);
        }
    }
    let mut sum = Fnv::new();
    image.iter().for_each(|p| sum.bytes(p));
    format!("{} pixels {:016x}", image.len(), sum.0)
}

/// Numbers of any size in base 2^32, little end first.
#[derive(Clone, PartialEq)]
struct Big(Vec<u32>);

impl Big {
    fn from(mut v: u64) -> Big {
        let mut digits = Vec::new();
        while v > 0 {
            digits.push(v as u32);
            v >>= 32;
        }
        Big(digits)
    }
    fn add(&self, o: &Big) -> Big {
        let (long, short) = if self.0.len() >= o.0.len() { (self, o) } else { (o, self) };
        let mut out = Vec::with_capacity(long.0.len() + 1);
        let mut carry = 0u64;
        for (i, &d) in long.0.iter().enumerate() {
            carry += d as u64 + short.0.get(i).copied().unwrap_or(0) as u64;
            out.push(carry as u32);
            carry >>= 32;
        }
        if carry > 0 {
            out.push(carry as u32);
        }
        Big(out)
    }
    fn mul(&self, o: &Big) -> Big {
        let mut out = vec![0u32; self.0.len() + o.0.len()];
        for (i, &x) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &y) in o.0.iter().enumerate() {
                let t = x as u64 * y as u64 + out[i + j] as u64 + carry;
                out[i + j] = t as u32;
                carry = t >> 32;
            }
            out[i + o.0.len()] = carry as u32;
        }
        while out.last() == Some(&0) {
            out.pop();
        }
        Big(out)
    }
    fn div_small(&mut self, by: u32) -> u32 {
        let mut rest = 0u64;
        for d in self.0.iter_mut().rev() {
            let t = rest << 32 | *d as u64;
            *d = (t / by as u64) as u32;
            rest = t % by as u64;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        rest as u32
    }
    fn decimal(&self) -> String {
        let mut parts = Vec::new();
        let mut rest = self.clone();
        while !rest.0.is_empty() {
            parts.push(rest.div_small(1_000_000_000));
        }
        let mut s = parts.pop().unwrap_or(0).to_string();
        for p in parts.iter().rev() {
            s.push_str(&format!("{p:09}"));
        }
        s
    }
}

/// The factorial of SIZE, a Fibonacci number by additions and a power, each printed in decimal.
pub fn bignum(size: u64) -> String {
    fn product(from: u64, to: u64) -> Big {
        if to - from <= 4 {
            return (from + 1..=to).fold(Big::from(1), |acc, i| acc.mul(&Big::from(i)));
        }
        let middle = (from + to) / 2;
        product(from, middle).mul(&product(middle, to))
    }
    let factorial = product(0, size).decimal();
    let (mut a, mut b) = (Big::from(0), Big::from(1));
    for _ in 0..size * 2 {
        let c = a.add(&b);
        a = std::mem::replace(&mut b, c);
    }
    let fibonacci = a.decimal();
    let mut power = Big::from(1);
    let mut base = Big::from(7);
    let mut e = size * 3;
    while e > 0 {
        if e & 1 == 1 {
            power = power.mul(&base);
        }
        base = base.mul(&base);
        e >>= 1;
    }
    let power = power.decimal();
    let mut sum = Fnv::new();
    [&factorial, &fibonacci, &power].iter().for_each(|s| sum.bytes(s.as_bytes()));
    format!("{} {} {} digits {:016x}", factorial.len(), fibonacci.len(), power.len(), sum.0)
}

/// Miller and Rabin's test of SIZE numbers, factors by Pollard's rho for some; products in u128.
pub fn primality(size: u64) -> String {
    fn mul(a: u64, b: u64, m: u64) -> u64 {
        (a as u128 * b as u128 % m as u128) as u64
    }
    fn pow(mut b: u64, mut e: u64, m: u64) -> u64 {
        let mut r = 1;
        while e > 0 {
            if e & 1 == 1 {
                r = mul(r, b, m);
            }
            b = mul(b, b, m);
            e >>= 1;
        }
        r
    }
    fn is_prime(n: u64) -> bool {
        const WITNESSES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
        if n < 2 || WITNESSES.iter().any(|&p| n != p && n.is_multiple_of(p)) {
            return false;
        }
        let s = (n - 1).trailing_zeros();
        WITNESSES.iter().filter(|&&a| a < n).all(|&a| {
            let mut x = pow(a, (n - 1) >> s, n);
            (x == 1 || x == n - 1)
                || (1..s).any(|_| {
                    x = mul(x, x, n);
                    x == n - 1
                })
        })
    }
    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 {
            a
        } else {
            gcd(b, a % b)
        }
    }
    fn rho(n: u64) -> u64 {
        (1..)
            .find_map(|c| {
                let step = |x: u64| ((x as u128 * x as u128 + c as u128) % n as u128) as u64;
                let (mut x, mut y) = (2, 2);
                loop {
                    x = step(x);
                    y = step(step(y));
                    match gcd(x.abs_diff(y), n) {
                        1 => continue,
                        d if d == n => break None,
                        d => break Some(d),
                    }
                }
            })
            .unwrap()
    }
    let mut rng = Rng::new(7);
    let mut sum = Fnv::new();
    let mut primes = 0;
    for i in 0..size {
        let n = rng.next() >> 3 | 1;
        if is_prime(n) {
            primes += 1;
            sum.word(n);
        }
        if i % 64 == 0 {
            let mut rest = rng.next() >> 24 | 1;
            let mut factors = Vec::new();
            let mut todo = vec![];
            for p in [3, 5, 7, 11, 13] {
                while rest.is_multiple_of(p) {
                    factors.push(p);
                    rest /= p;
                }
            }
            todo.push(rest);
            while let Some(m) = todo.pop() {
                if m == 1 {
                } else if is_prime(m) {
                    factors.push(m);
                } else {
                    let d = rho(m);
                    todo.extend([d, m / d]);
                }
            }
            factors.sort();
            factors.iter().for_each(|&f| sum.word(f));
        }
    }
    format!("{primes} primes {:016x}", sum.0)
}

/// Chains of iterator adaptors over 20,000 numbers, SIZE times.
pub fn iterchain(size: u64) -> String {
    let mut sum = Fnv::new();
    for round in 1..=size {
        let series: Vec<i32> = (0..20_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(round as u32 * 97) >> 12) as i32 - 500_000)
            .collect();
        let evens: i64 = series.iter().filter(|&&x| x % 2 == 0).map(|&x| x as i64).sum();
        let rises = series.windows(2).filter(|w| w[1] > w[0]).count() as u64;
        let smooth: f64 = series
            .windows(8)
            .step_by(3)
            .map(|w| w.iter().sum::<i32>() as f64 / 8.0)
            .fold(0.0, |a, x| a * 0.999 + x);
        let best = series
            .chunks_exact(50)
            .enumerate()
            .map(|(i, c)| (c.iter().copied().max().unwrap() - c.iter().copied().min().unwrap(), i))
            .max()
            .unwrap();
        let (low, high): (Vec<i32>, Vec<i32>) = series.iter().partition(|&&x| x < 0);
        let zipped: i64 = low
            .iter()
            .zip(high.iter().rev())
            .skip(10)
            .take_while(|(a, _)| **a != 0)
            .map(|(&a, &b)| (a as i64 * b as i64) >> 7)
            .sum();
        let nested: u64 = (1..120u64)
            .flat_map(|a| (a..120).map(move |b| (a, b)))
            .filter_map(|(a, b)| {
                let c2 = a * a + b * b;
                let c = (c2 as f64).sqrt() as u64;
                (c * c == c2).then_some(a * b * c + round)
            })
            .sum();
        let scanned = series.iter().scan(0i32, |state, &x| {
            *state = state.wrapping_mul(31).wrapping_add(x);
            Some(*state)
        });
        let position = scanned.clone().position(|x| x & 0xfff == 0x123).unwrap_or(0);
        let last = scanned.last().unwrap();
        [
            evens as u64,
            rises,
            smooth.to_bits(),
            best.0 as u64,
            best.1 as u64,
            zipped as u64,
            nested,
            position as u64,
            last as u64,
        ]
        .into_iter()
        .for_each(|v| sum.word(v));
    }
    format!("{:016x}", sum.0)
}
