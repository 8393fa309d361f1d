//! What the language brings: formatting, traits, enums, interpreters.

use crate::{Fnv, Rng};
use std::collections::HashMap;
use std::fmt;

struct Money {
    cents: i64,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:02} EUR", self.cents / 100, self.cents.abs() % 100);
        f.pad_integral(self.cents >= 0, "", text.trim_start_matches('-'))
    }
}

#[derive(Debug, Clone)]
#[allow(dead_code)]
enum Item {
    Book { title: String, pages: u32 },
    Weight(f64),
    Pair(Option<i16>, &'static str),
    Nothing,
}

/// SIZE lines by `format!`, with integers, floats, padding and Debug of enums, and what was written parsed again.
pub fn format(size: u64) -> String {
    let mut rng = Rng::new(8);
    let mut sum = Fnv::new();
    let mut report = String::new();
    let mut parsed = 0.0f64;
    for i in 0..size {
        let x = rng.unit() * 10f64.powi(rng.below(12) as i32 - 4);
        let money = Money { cents: rng.below(10_000_000) as i64 - 2_000_000 };
        let line = format!(
            "{i:>8}|{x:<14.4}|{x:e}|{money:>18}|{:#06x}|{:>+9}",
            rng.below(65536),
            rng.below(2000) as i32 - 1000
        );
        let item = match i % 4 {
            0 => Item::Book { title: format!("T\"{}\"", i * 7), pages: rng.below(900) as u32 },
            1 => Item::Weight(x),
            2 => Item::Pair((i % 3 == 0).then_some(i as i16), "pair"),
            _ => Item::Nothing,
        };
        report.push_str(&line);
        report += &format!("|{item:?}|{x}\n");
        if report.len() > 10_000 {
            for line in report.lines() {
                let fields: Vec<&str> = line.split('|').collect();
                parsed += fields[1].trim().parse::<f64>().unwrap();
                parsed -= fields.last().unwrap().parse::<f64>().unwrap();
                parsed += fields[0].trim().parse::<u32>().unwrap() as f64;
                parsed += i64::from_str_radix(&fields[4][2..], 16).unwrap() as f64;
            }
            sum.bytes(report.as_bytes());
            report.clear();
        }
    }
    sum.bytes(report.as_bytes());
    format!("{parsed:.3} {:016x}", sum.0)
}

trait Shape {
    fn area(&self) -> f64;
    fn scale(&mut self, by: f64);
    fn name(&self) -> &'static str;
    fn perimeter(&self) -> f64 {
        self.area().sqrt() * 4.0
    }
}

struct Circle(f64);
struct Rect {
    w: f64,
    h: f64,
}
struct Triangle([f64; 3]);
struct Group(Vec<Box<dyn Shape>>);

type Filter = Box<dyn Fn(&dyn Shape) -> bool>;

impl Shape for Circle {
    fn area(&self) -> f64 {
        std::f64::consts::PI * self.0 * self.0
    }
    fn scale(&mut self, by: f64) {
        self.0 *= by;
    }
    fn name(&self) -> &'static str {
        "circle"
    }
    fn perimeter(&self) -> f64 {
        2.0 * std::f64::consts::PI * self.0
    }
}
impl Shape for Rect {
    fn area(&self) -> f64 {
        self.w * self.h
    }
    fn scale(&mut self, by: f64) {
        self.w *= by;
        self.h *= by;
    }
    fn name(&self) -> &'static str {
        "rect"
    }
}
impl Shape for Triangle {
    fn area(&self) -> f64 {
        let [a, b, c] = self.0;
        let s = (a + b + c) / 2.0;
        (s * (s - a) * (s - b) * (s - c)).max(0.0).sqrt()
    }
    fn scale(&mut self, by: f64) {
        self.0.iter_mut().for_each(|x| *x *= by);
    }
    fn name(&self) -> &'static str {
        "triangle"
    }
    fn perimeter(&self) -> f64 {
        self.0.iter().sum()
    }
}
impl Shape for Group {
    fn area(&self) -> f64 {
        self.0.iter().map(|s| s.area()).sum()
    }
    fn scale(&mut self, by: f64) {
        self.0.iter_mut().for_each(|s| s.scale(by));
    }
    fn name(&self) -> &'static str {
        "group"
    }
}

fn make_shape(rng: &mut Rng, depth: u32) -> Box<dyn Shape> {
    let mut side = || 0.5 + rng.unit();
    let (a, b) = (side(), side());
    match rng.below(if depth > 0 { 5 } else { 3 }) {
        0 => Box::new(Circle(a)),
        1 => Box::new(Rect { w: a, h: b }),
        2 => Box::new(Triangle([a, b, (a + b) * 0.7])),
        _ => Box::new(Group((0..1 + rng.below(4)).map(|_| make_shape(rng, depth - 1)).collect())),
    }
}

/// Dynamic dispatch over 3000 boxed shapes, and boxed closures, SIZE times.
pub fn shapes(size: u64) -> String {
    let mut rng = Rng::new(9);
    let mut all: Vec<Box<dyn Shape>> = (0..3000).map(|_| make_shape(&mut rng, 3)).collect();
    let filters: Vec<Filter> = vec![
        Box::new(|s| s.area() > 2.0),
        Box::new(|s| s.perimeter() < 5.0),
        Box::new(|s| s.name().len() % 2 == 0),
    ];
    let mut total = 0.0;
    let mut passed = [0u64; 3];
    for round in 0..size {
        let by = if round % 2 == 0 { 1.25 } else { 0.8 };
        for shape in all.iter_mut() {
            shape.scale(by);
            total += shape.area() / (1.0 + shape.perimeter());
        }
        for shape in &all {
            for (filter, n) in filters.iter().zip(&mut passed) {
                *n += filter(shape.as_ref()) as u64;
            }
        }
        if round % 16 == 0 {
            let at = rng.below(all.len() as u64) as usize;
            all[at] = make_shape(&mut rng, 3);
        }
    }
    format!("{total:.6} {passed:?}")
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Num(i64),
    Var(String),
    Neg(Box<Expr>),
    Bin(Box<Expr>, char, Box<Expr>),
    Let(String, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

struct Parser<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Parser<'_> {
    fn skip(&mut self) {
        while self.chars.next_if(|c| c.is_whitespace()).is_some() {}
    }
    fn eat(&mut self, wanted: char) -> Result<(), String> {
        self.skip();
        match self.chars.next() {
            Some(c) if c == wanted => Ok(()),
            other => Err(format!("expected {wanted:?}, not {other:?}")),
        }
    }
    fn word(&mut self) -> String {
        self.skip();
        let mut s = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric()) {
            s.push(c);
        }
        s
    }
    fn sum(&mut self) -> Result<Expr, String> {
        let mut left = self.term()?;
        loop {
            self.skip();
            match self.chars.next_if(|c| "+-<".contains(*c)) {
                Some(op) => left = Expr::Bin(Box::new(left), op, Box::new(self.term()?)),
                None => return Ok(left),
            }
        }
    }
    fn term(&mut self) -> Result<Expr, String> {
        let mut left = self.atom()?;
        loop {
            self.skip();
            match self.chars.next_if(|c| "*/%".contains(*c)) {
                Some(op) => left = Expr::Bin(Box::new(left), op, Box::new(self.atom()?)),
                None => return Ok(left),
            }
        }
    }
    fn atom(&mut self) -> Result<Expr, String> {
        self.skip();
        match self.chars.peek() {
            Some('(') => {
                self.eat('(')?;
                let inner = self.sum()?;
                self.eat(')')?;
                Ok(inner)
            }
            Some('-') => {
                self.eat('-')?;
                Ok(Expr::Neg(Box::new(self.atom()?)))
            }
            Some(c) if c.is_ascii_digit() => self.word().parse().map(Expr::Num).map_err(|e| e.to_string()),
            Some(_) => match self.word() {
                w if w == "let" => {
                    let name = self.word();
                    self.eat('=')?;
                    let value = self.sum()?;
                    self.eat(';')?;
                    Ok(Expr::Let(name, Box::new(value), Box::new(self.sum()?)))
                }
                w if w == "if" => {
                    let cond = self.sum()?;
                    self.eat('?')?;
                    let yes = self.sum()?;
                    self.eat(':')?;
                    Ok(Expr::If(Box::new(cond), Box::new(yes), Box::new(self.sum()?)))
                }
                w if w.is_empty() => Err("expected an expression".to_string()),
                w => Ok(Expr::Var(w)),
            },
            None => Err("unexpected end".to_string()),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Num(n) if *n < 0 => write!(f, "(-{})", n.unsigned_abs()),
            Expr::Num(n) => write!(f, "{n}"),
            Expr::Var(v) => f.write_str(v),
            Expr::Neg(e) => write!(f, "-({e})"),
            Expr::Bin(a, op, b) => write!(f, "({a} {op} {b})"),
            Expr::Let(n, v, b) => write!(f, "(let {n} = {v}; {b})"),
            Expr::If(c, y, n) => write!(f, "(if {c} ? {y} : {n})"),
        }
    }
}

#[derive(Debug)]
enum EvalError {
    #[allow(dead_code)]
    Unbound(String),
    DivisionByZero,
}

fn binary(op: char, a: i64, b: i64) -> Result<i64, EvalError> {
    Ok(match op {
        '+' => a.wrapping_add(b),
        '-' => a.wrapping_sub(b),
        '*' => a.wrapping_mul(b),
        '<' => (a < b) as i64,
        '/' => a.checked_div(b).ok_or(EvalError::DivisionByZero)?,
        _ => a.checked_rem(b).ok_or(EvalError::DivisionByZero)?,
    })
}

fn eval(e: &Expr, env: &mut HashMap<String, i64>) -> Result<i64, EvalError> {
    match e {
        Expr::Num(n) => Ok(*n),
        Expr::Var(v) => env.get(v).copied().ok_or_else(|| EvalError::Unbound(v.clone())),
        Expr::Neg(e) => Ok(eval(e, env)?.wrapping_neg()),
        Expr::Bin(a, op, b) => binary(*op, eval(a, env)?, eval(b, env)?),
        Expr::Let(name, value, body) => {
            let value = eval(value, env)?;
            let old = env.insert(name.clone(), value);
            let result = eval(body, env);
            match old {
                Some(old) => env.insert(name.clone(), old),
                None => env.remove(name),
            };
            result
        }
        Expr::If(c, y, n) => {
            if eval(c, env)? != 0 {
                eval(y, env)
            } else {
                eval(n, env)
            }
        }
    }
}

fn simplify(e: Expr) -> Expr {
    match e {
        Expr::Neg(e) => match simplify(*e) {
            Expr::Num(n) => Expr::Num(n.wrapping_neg()),
            Expr::Neg(inner) => *inner,
            other => Expr::Neg(Box::new(other)),
        },
        Expr::Bin(a, op, b) => match (simplify(*a), op, simplify(*b)) {
            (Expr::Num(0), '+', x) | (x, '+' | '-', Expr::Num(0)) | (x, '*' | '/', Expr::Num(1)) => x,
            (Expr::Num(x), op, Expr::Num(y)) if binary(op, x, y).is_ok() => {
                Expr::Num(binary(op, x, y).unwrap())
            }
            (a, op, b) => Expr::Bin(Box::new(a), op, Box::new(b)),
        },
        Expr::Let(n, v, b) => Expr::Let(n, Box::new(simplify(*v)), Box::new(simplify(*b))),
        Expr::If(c, y, n) => match simplify(*c) {
            Expr::Num(0) => simplify(*n),
            Expr::Num(_) => simplify(*y),
            c => Expr::If(Box::new(c), Box::new(simplify(*y)), Box::new(simplify(*n))),
        },
        other => other,
    }
}

fn make_expr(rng: &mut Rng, depth: u32, out: &mut String) {
    let kind = if depth == 0 { rng.below(2) } else { 2 + rng.below(7) };
    match kind {
        0 => out.push_str(&rng.below(100).to_string()),
        1 => out.push_str(["x", "y", "zeta", "omega1"][rng.below(4) as usize]),
        2 => {
            out.push_str("-(");
            make_expr(rng, depth - 1, out);
            out.push(')');
        }
        3 => {
            out.push_str("(let y = ");
            make_expr(rng, depth - 1, out);
            out.push_str("; ");
            make_expr(rng, depth - 1, out);
            out.push(')');
        }
        4 => {
            out.push_str("(if ");
            make_expr(rng, depth - 1, out);
            out.push_str(" ? ");
            make_expr(rng, depth - 1, out);
            out.push_str(" : ");
            make_expr(rng, depth - 1, out);
            out.push(')');
        }
        _ => {
            out.push('(');
            make_expr(rng, depth - 1, out);
            out.push_str(match rng.below(150) {
                0 => " / ",
                1 => " % ",
                k => [" + ", " - ", " * ", " < "][k as usize % 4],
            });
            make_expr(rng, depth - 1, out);
            out.push(')');
        }
    }
}

/// SIZE expressions as a recursive enum: parsed, evaluated, simplified, printed, parsed again.
pub fn expr(size: u64) -> String {
    let mut rng = Rng::new(10);
    let mut sum = Fnv::new();
    let (mut fine, mut zero, mut nodes) = (0, 0, 0);
    for _ in 0..size {
        let mut text = String::new();
        make_expr(&mut rng, 7, &mut text);
        let tree = Parser { chars: text.chars().peekable() }.sum().unwrap();
        let simple = simplify(tree.clone());
        let printed = simple.to_string();
        let again = simplify(Parser { chars: printed.chars().peekable() }.sum().unwrap());
        nodes += text.len() + printed.len();
        assert_eq!(again.to_string(), simplify(simple.clone()).to_string());
        let mut env = HashMap::new();
        for x in 0..10 {
            for (i, name) in ["x", "y", "zeta", "omega1"].into_iter().enumerate() {
                env.insert(name.to_string(), x * 7 + i as i64);
            }
            match eval(&tree, &mut env) {
                Ok(v) => {
                    fine += 1;
                    sum.word(v as u64);
                }
                Err(EvalError::DivisionByZero) => zero += 1,
                Err(e) => panic!("{e:?}"),
            }
            if let Ok(v) = eval(&simple, &mut env) {
                sum.word(v as u64);
            }
        }
    }
    format!("{fine} values, {zero} divisions by 0, {nodes} bytes {:016x}", sum.0)
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(i64),
    Load(u16),
    Store(u16),
    Get,
    Put,
    Add,
    Sub,
    Mul,
    Mod,
    Less,
    Jump(u32),
    JumpIfZero(u32),
    Call(u32),
    Return,
    Dup,
    Print,
    Halt,
}

struct Machine {
    stack: Vec<i64>,
    frames: Vec<(usize, usize)>,
    locals: Vec<i64>,
    heap: Vec<i64>,
    output: Vec<i64>,
    steps: u64,
}

#[derive(Debug)]
#[allow(dead_code)]
enum Fault {
    Underflow(usize),
    Address(i64),
}

impl Machine {
    fn pop(&mut self, pc: usize) -> Result<i64, Fault> {
        self.stack.pop().ok_or(Fault::Underflow(pc))
    }
    fn run(&mut self, code: &[Op]) -> Result<(), Fault> {
        let mut pc = 0;
        let mut base = 0;
        self.locals.resize(8, 0);
        loop {
            self.steps += 1;
            let op = code[pc];
            pc += 1;
            match op {
                Op::Push(v) => self.stack.push(v),
                Op::Load(i) => self.stack.push(self.locals[base + i as usize]),
                Op::Store(i) => self.locals[base + i as usize] = self.pop(pc)?,
                Op::Get => {
                    let at = self.pop(pc)?;
                    self.stack.push(*self.heap.get(at as usize).ok_or(Fault::Address(at))?);
                }
                Op::Put => {
                    let at = self.pop(pc)?;
                    let value = self.pop(pc)?;
                    *self.heap.get_mut(at as usize).ok_or(Fault::Address(at))? = value;
                }
                Op::Add | Op::Sub | Op::Mul | Op::Mod | Op::Less => {
                    let b = self.pop(pc)?;
                    let a = self.pop(pc)?;
                    self.stack.push(match op {
                        Op::Add => a.wrapping_add(b),
                        Op::Sub => a.wrapping_sub(b),
                        Op::Mul => a.wrapping_mul(b),
                        Op::Mod => a.rem_euclid(b),
                        _ => (a < b) as i64,
                    });
                }
                Op::Jump(to) => pc = to as usize,
                Op::JumpIfZero(to) => {
                    if self.pop(pc)? == 0 {
                        pc = to as usize;
                    }
                }
                Op::Call(to) => {
                    self.frames.push((pc, base));
                    base += 8;
                    if self.locals.len() < base + 8 {
                        self.locals.resize(base + 8, 0);
                    }
                    pc = to as usize;
                }
                Op::Return => (pc, base) = self.frames.pop().ok_or(Fault::Underflow(pc))?,
                Op::Dup => {
                    let top = *self.stack.last().ok_or(Fault::Underflow(pc))?;
                    self.stack.push(top);
                }
                Op::Print => {
                    let v = self.pop(pc)?;
                    self.output.push(v);
                }
                Op::Halt => return Ok(()),
            }
        }
    }
}

/// Marks the numbers below `n` that are not prime, prints the 16th Fibonacci number by recursion and the last of 4000
/// random numbers. The numbers on the left are addresses.
#[rustfmt::skip]
fn program(n: i64, seed: i64) -> Vec<Op> {
    use Op::*;
    vec![
        /* 0 */ Push(2), Store(0),
        // While i < n.
        /* 2 */ Load(0), Push(n), Less, JumpIfZero(31),
        // If i is not marked: j = 2i; while j < n: mark j, j += i.
        /* 6 */ Load(0), Get, JumpIfZero(10), Jump(26),
        /* 10 */ Load(0), Dup, Add, Store(1),
        /* 14 */ Load(1), Push(n), Less, JumpIfZero(26),
        /* 18 */ Push(1), Load(1), Put, Load(1), Load(0), Add, Store(1), Jump(14),
        /* 26 */ Load(0), Push(1), Add, Store(0), Jump(2),
        /* 31 */ Push(16), Call(56), Print,
        // k = 4000, x = seed; while k != 0: x = (x * 1103515245 + 12345) mod 2^31, k -= 1.
        /* 34 */ Push(4000), Store(2), Push(seed), Store(3),
        /* 38 */ Load(2), JumpIfZero(53),
        /* 40 */ Load(3), Push(1_103_515_245), Mul, Push(12_345), Add, Push(1 << 31), Mod, Store(3),
        /* 48 */ Load(2), Push(1), Sub, Store(2), Jump(38),
        /* 53 */ Load(3), Print, Halt,
        // A function: its argument and its result are on the stack.
        /* 56 */ Store(0), Load(0), Push(2), Less, JumpIfZero(63), Load(0), Return,
        /* 63 */ Load(0), Push(1), Sub, Call(56), Load(0), Push(2), Sub, Call(56), Add, Return,
    ]
}

/// A stack machine of an enum of instructions: a sieve, recursion and a random-number loop, SIZE times.
pub fn vm(size: u64) -> String {
    let n = 4000i64;
    let mut sum = Fnv::new();
    let mut steps = 0;
    for round in 0..size {
        let mut machine = Machine {
            stack: Vec::new(),
            frames: Vec::new(),
            locals: Vec::new(),
            heap: vec![0; n as usize],
            output: Vec::new(),
            steps: 0,
        };
        machine.run(&program(n, round as i64 * 17 + 1)).unwrap();
        let primes = machine.heap.iter().skip(2).filter(|&&x| x == 0).count();
        steps += machine.steps;
        sum.word(primes as u64);
        machine.output.iter().for_each(|&v| sum.word(v as u64));
    }
    format!("{steps} steps {:016x}", sum.0)
}
