//! Functions of which every stack that grows without bound has frames again and again.
//!
//! At the end of a slice a frame of one of these asks for more fuel on its way out, and is rebuilt right away
//! (`turn` in `additions.rs`): so a slice costs a few frames, however deep the stack is.

/// Calls of one function.
pub struct Calls<'o> {
    /// The functions that it calls by name, tail calls included, as two lists.
    pub direct: [&'o [u32]; 2],
    /// It calls through references.
    pub indirect: bool,
}

/// By function: on every cycle of calls there is one that is marked.
///
/// The functions behind the imported ones are walked over depth first, and all that a reference can reach counts as one more
/// function. A call to a function that the walk has not left yet closes a cycle, and every cycle has such a call. It is
/// the called function that is marked, or, where a reference is called, the calling one.
pub fn on_cycles<'o>(
    imported: u32,
    count: u32,
    referenced: &[u32],
    calls: impl Fn(u32) -> Calls<'o>,
) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Left,
    }
    let references = count;
    let target = |at: u32, n: usize| -> Option<u32> {
        if at == references {
            return referenced.get(n).copied();
        }
        let Calls { direct: [calls, tail_calls], indirect } = calls(at);
        let both = calls.len() + tail_calls.len();
        calls.iter().chain(tail_calls).nth(n).copied().or((indirect && n == both).then_some(references))
    };
    let mut marks = vec![Mark::New; count as usize + 1];
    // What an import calls is not of this module.
    marks[..imported as usize].fill(Mark::Left);
    let mut found = vec![false; count as usize];
    for root in imported..=references {
        if marks[root as usize] != Mark::New {
            continue;
        }
        marks[root as usize] = Mark::Open;
        let mut open = vec![(root, 0)];
        while let Some((at, n)) = open.last_mut() {
            let Some(to) = target(*at, *n) else {
                marks[*at as usize] = Mark::Left;
                open.pop();
                continue;
            };
            *n += 1;
            match marks[to as usize] {
                Mark::New => {
                    marks[to as usize] = Mark::Open;
                    open.push((to, 0));
                }
                Mark::Open => found[if to == references { *at } else { to } as usize] = true,
                Mark::Left => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(referenced: &[u32], direct: &[&[u32]], indirect: &[u32]) -> Vec<u32> {
        let calls = |f: u32| Calls { direct: [direct[f as usize - 1], &[]], indirect: indirect.contains(&f) };
        let found = on_cycles(1, direct.len() as u32 + 1, referenced, calls);
        (0..found.len() as u32).filter(|&f| found[f as usize]).collect()
    }

    #[test]
    fn a_function_of_each_cycle_is_found() {
        // Function 0 is imported; 1 calls 2 and 3, 2 calls 3 and itself, 3 calls 1 and 4, 4 the import.
        assert_eq!(found(&[], &[&[2, 3], &[3, 2], &[1, 4], &[0]], &[]), [1, 2]);
        assert_eq!(found(&[1, 2, 3], &[&[2, 3], &[3], &[0]], &[]), [0; 0]);
    }

    #[test]
    fn a_cycle_through_a_reference_is_found() {
        // 1 calls through a reference, which may be 2; 2 calls 1. 3 calls through a reference and is in no cycle.
        assert_eq!(found(&[2], &[&[], &[1], &[]], &[1, 3]), [1]);
        // A function that a reference reaches and that calls through one.
        assert_eq!(found(&[1], &[&[]], &[1]), [1]);
    }
}
