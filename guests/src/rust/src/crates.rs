//! Tasks on other people's crates.

use crate::collections::make_text;
use crate::{Fnv, Rng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", tag = "kind")]
enum Event {
    Click {
        x: i32,
        y: i32,
        target: String,
    },
    Key {
        code: u16,
        shift: bool,
    },
    #[serde(rename_all = "camelCase")]
    Purchase {
        total_price: f64,
        items: Vec<String>,
        coupon: Option<String>,
    },
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Session {
    id: u64,
    user: String,
    tags: BTreeMap<String, f64>,
    events: Vec<Event>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// serde_json: typed values to text and back, and through `Value`, SIZE times.
pub fn json(size: u64) -> String {
    let mut rng = Rng::new(14);
    let sessions: Vec<Session> = (0..300)
        .map(|id| Session {
            id,
            user: format!("user{}@example.org", rng.below(1 << 20)),
            tags: (0..rng.below(6)).map(|i| (format!("tag{i}"), (rng.unit() * 1e6).round() / 1e3)).collect(),
            events: (0..rng.below(12))
                .map(|i| match rng.below(3) {
                    0 => Event::Click {
                        x: rng.below(4000) as i32 - 2000,
                        y: rng.below(1080) as i32,
                        target: format!("#button-{i} > \"span\"\n\u{e9}\u{1F600}"),
                    },
                    1 => Event::Key { code: rng.below(256) as u16, shift: rng.below(2) == 0 },
                    _ => Event::Purchase {
                        total_price: (rng.unit() * 1e4).round() / 100.0,
                        items: (0..rng.below(4)).map(|k| format!("sku-{k:04}")).collect(),
                        coupon: (i % 2 == 0).then(|| "SAVE10".to_string()),
                    },
                })
                .collect(),
            note: (id % 5 == 0).then(|| "x\t\u{1}\\".repeat(5)),
        })
        .collect();
    let mut sum = Fnv::new();
    let mut bytes = 0;
    let mut current = sessions.clone();
    for round in 0..size {
        let text = serde_json::to_string(&current).unwrap();
        bytes += text.len();
        sum.bytes(text.as_bytes());
        let back: Vec<Session> = serde_json::from_str(&text).unwrap();
        assert!(back == current);
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let list = value.as_array_mut().unwrap();
        let at = round as usize % list.len();
        list[at]["tags"]["round"] = serde_json::json!(round as f64 / 8.0);
        list.rotate_left(1);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        bytes += pretty.len();
        current = serde_json::from_str(&pretty).unwrap();
    }
    format!("{bytes} bytes {:016x}", sum.0)
}

/// The regex crate: find, captures, replace, split and sets over a log of SIZE lines.
pub fn regex(size: u64) -> String {
    let mut rng = Rng::new(15);
    let words = make_text(size * 6, 15);
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut log = String::new();
    for i in 0..size as usize {
        let w = &words[i * 6..i * 6 + 6];
        log.push_str(&format!(
            "2024-{:02}-{:02}T{:02}:{:02}:{:02} [{}] {}.{}.{}.{} {} {}@{}.org {} \"{}\" took {}ms\n",
            1 + rng.below(12),
            1 + rng.below(28),
            rng.below(24),
            rng.below(60),
            rng.below(60),
            ["INFO", "WARN", "ERROR", "debug"][rng.below(4) as usize],
            rng.below(256),
            rng.below(256),
            rng.below(256),
            rng.below(256),
            w[0],
            w[1],
            w[2],
            w[3],
            w[4..].join("--"),
            rng.below(5000)
        ));
    }
    let date = regex::Regex::new(r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)T(\d\d):(\d\d):(\d\d)").unwrap();
    let mail = regex::Regex::new(r"[\w.,-]+@[a-z]+[^\s]*\.(?:org|com)\b").unwrap();
    let level = regex::Regex::new(r"(?i)\[(error|debug)\]").unwrap();
    let took = regex::Regex::new(r"took (\d+)ms$").unwrap();
    let address =
        regex::Regex::new(r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b").unwrap();
    let set =
        regex::RegexSet::new([r"sha+", r"ka(lo|mi)+", r"^\d+-0[1-6]", r"é\b", r"[[:upper:]]{3,}\s"]).unwrap();
    let mut sum = Fnv::new();
    let (mut months, mut mails, mut addresses, mut sets) = ([0u32; 13], 0, 0, [0u32; 5]);
    let mut slow = 0u64;
    for line in log.lines() {
        if let Some(c) = date.captures(line) {
            months[c["m"].parse::<usize>().unwrap()] += 1;
        }
        if let Some(c) = took.captures(line) {
            slow += c[1].parse::<u64>().unwrap();
        }
        mails += mail.find_iter(line).map(|m| m.as_str().len()).sum::<usize>();
        addresses += address.is_match(line) as u32;
        for i in set.matches(line).iter() {
            sets[i] += 1;
        }
    }
    let replaced = date.replace_all(&log, "$d.$m.$y");
    sum.bytes(replaced.as_bytes());
    let parts = level.split(&log).map(str::len).max().unwrap();
    months.iter().for_each(|&m| sum.word(m as u64));
    format!("{mails} {addresses} {sets:?} {slow} {parts} {:016x}", sum.0)
}

/// SHA-256, SHA-512 and SHA3-256 over 16 KB, each round on what the one before gave, SIZE times.
pub fn sha(size: u64) -> String {
    use sha2::Digest;
    let mut rng = Rng::new(16);
    let mut block: Vec<u8> = (0..16 * 1024).map(|_| rng.next() as u8).collect();
    let mut text = String::new();
    for round in 0..size {
        let a = sha2::Sha256::digest(&block);
        let b = sha2::Sha512::digest(&block[..block.len() / 2 + round as usize % 100]);
        let c = sha3::Sha3_256::digest(&block[block.len() / 2..]);
        for (i, x) in a.iter().chain(&b).chain(&c).enumerate() {
            let at = (i * 127 + round as usize) % block.len();
            block[at] ^= x;
        }
        text = a.iter().zip(&b).zip(&c).map(|((x, y), z)| format!("{:02x}", x ^ y ^ z)).collect();
    }
    text
}

/// miniz_oxide: SIZE thousand words compressed at four levels, and back.
pub fn deflate(size: u64) -> String {
    use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib};
    let mut rng = Rng::new(17);
    let mut sum = Fnv::new();
    let mut data = make_text(size * 1000, 17).into_bytes();
    for _ in 0..size {
        let from = rng.below(data.len() as u64 - 300) as usize;
        let to = rng.below(data.len() as u64 - 300) as usize;
        data.copy_within(from..from + 300, to);
        data[from] = rng.next() as u8;
    }
    let mut lengths = Vec::new();
    for level in [1, 3, 6, 9] {
        let packed = compress_to_vec_zlib(&data, level);
        sum.bytes(&packed);
        let back = decompress_to_vec_zlib(&packed).unwrap();
        assert!(back == data);
        lengths.push(packed.len());
    }
    format!("{} to {lengths:?} {:016x}", data.len(), sum.0)
}
