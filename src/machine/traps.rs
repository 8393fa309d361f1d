//! Where compiled code may trap. The engine keeps a list of these places beside the code, and stops a guest that is
//! refused access to its memory at one of them; anywhere else that ends the process. There is code that touches memory
//! elsewhere: copies of a few bytes that are known to lie inside.
//!
//! The list is `.wasmtime.traps` of the image (`wasmtime_environ::compile::trap_encoding`). Should it look different one
//! day, no place is found in it, which is safe.

use super::module::Module;

/// Entries of a block of the list.
const BLOCK: u64 = 128;

/// Tells of an address of this process whether the engine can stop the guest at the instruction there.
pub(super) fn of(module: &Module) -> Box<dyn Fn(u64) -> bool + Send + Sync> {
    let module = module.inner.clone();
    Box::new(move |at| {
        let text = module.text().as_ptr_range();
        let Some(offset) = at.checked_sub(text.start as u64).filter(|_| at < text.end as u64) else {
            return false;
        };
        let image = module.serialize().unwrap_or_default();
        section(&image, b".wasmtime.traps").and_then(|list| is_listed(list, offset)).unwrap_or(false)
    })
}

/// The bytes of a section of an ELF file of 64 bits, least significant byte first.
fn section<'a>(image: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let headers = number(image, 0x28, 8)?;
    let (size, count, names) = (number(image, 0x3a, 2)?, number(image, 0x3c, 2)?, number(image, 0x3e, 2)?);
    let header = |nth: u64| {
        let at = headers.checked_add(nth * size)?;
        let begin = usize::try_from(number(image, at + 0x18, 8)?).ok()?;
        let len = usize::try_from(number(image, at + 0x20, 8)?).ok()?;
        Some((number(image, at, 4)?, image.get(begin..begin.checked_add(len)?)?))
    };
    let (_, names) = header(names)?;
    (0..count).filter_map(header).find_map(|(at, bytes)| {
        let found = names.get(usize::try_from(at).ok()?..)?.split(|byte| *byte == 0).next()?;
        (found == name).then_some(bytes)
    })
}

/// Whether this offset in the code is in the list: ascending offsets in blocks, which an index leads to. In a block each is
/// the distance from the one before, doubled; with 1 added, a byte follows.
fn is_listed(list: &[u8], offset: u64) -> Option<bool> {
    let (entries, blocks) = (number(list, 0, 4)?, number(list, 4, 4)?);
    let first = |block: u64| number(list, 8 + block * 8, 4);
    let block = (0..blocks).take_while(|block| first(*block).is_some_and(|first| first <= offset)).last();
    let Some(block) = block else { return Some(false) };
    let (mut place, mut at) = (first(block)?, 8 + blocks * 8 + number(list, 12 + block * 8, 4)? + 1);
    for _ in 0..BLOCK.min(entries.checked_sub(block * BLOCK)?) {
        let (mut token, mut shift) = (0, 0);
        loop {
            let byte = number(list, at, 1)?;
            (token, at) = (token | (byte & 0x7f) << shift, at + 1);
            if byte & 0x80 == 0 {
                break;
            }
            shift = (shift + 7).min(56);
        }
        place = place.checked_add(token >> 1)?;
        at += token & 1;
        if place >= offset {
            return Some(place == offset);
        }
    }
    Some(false)
}

/// The number of `len` bytes at `at`.
fn number(bytes: &[u8], at: u64, len: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Engine, Settings};

    /// Of 150 functions, some places in each may trap, and most may not.
    #[test]
    fn places_are_found_in_the_list_of_the_engine() {
        let function = |n: u32| {
            format!("(func (export \"f{n}\") (param i32) (result i32) (i32.load offset={n} (local.get 0)))")
        };
        let functions: String = (0..150).map(function).collect();
        let wasm = wat::parse_str(format!("(module (memory 1) {functions})")).unwrap();
        let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
        let (may_trap, text) = (of(&module), module.inner.text().as_ptr_range());
        let (start, end) = (text.start as u64, text.end as u64);
        let places = (start..end).filter(|at| may_trap_fast(&module, at - start)).count();
        assert!(places >= 150 && places < (end - start) as usize / 4, "{places} of {} bytes", end - start);
        let first = (start..end).find(|at| may_trap_fast(&module, at - start)).unwrap();
        assert!(may_trap(first) && !may_trap(first + 1) && !may_trap(start - 1) && !may_trap(end));
        // Whatever it is instead of a list, nothing is found, and nothing else happens.
        let image = module.inner.serialize().unwrap();
        let list = section(&image, b".wasmtime.traps").unwrap();
        for len in 0..list.len().min(300) {
            let _ = is_listed(&list[..len], first - start);
        }
        for byte in 0..list.len().min(1500) {
            let mut wrong = list.to_vec();
            wrong[byte] = 0xff;
            let _ = is_listed(&wrong, first - start);
        }
        assert_eq!(section(&image[..100], b".text"), None);
    }

    fn may_trap_fast(module: &Module, offset: u64) -> bool {
        thread_local!(static IMAGE: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(vec![]) });
        IMAGE.with_borrow_mut(|image| {
            if image.is_empty() {
                *image = module.inner.serialize().unwrap();
            }
            is_listed(section(image, b".wasmtime.traps").unwrap(), offset).unwrap()
        })
    }
}
