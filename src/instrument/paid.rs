//! Functions whose callers pay for them (from cost model 7 on).
//!
//! Every cycle of calls has a function that charges for itself (`cycles.rs`); the others need not, if what they do between the charges of their loops is little.
//! Their entries then look only whether a frame is being rebuilt.

use super::cost::PAID_MAX;

/// By function: the operators that its callers are charged for, or 0 if it charges for itself.
///
/// `own` is what a function does outside of its loops, or none if it has to charge; `calls` are those whom it calls by name. Of functions that have not to
/// charge no cycle is made: they are walked over depth first, callees before callers.
pub fn paid_by_callers<'o>(own: &[Option<u64>], calls: impl Fn(u32) -> [&'o [u32]; 2]) -> Vec<u64> {
    let mut paid = vec![0; own.len()];
    let mut met = vec![false; own.len()];
    for root in 0..own.len() as u32 {
        if std::mem::replace(&mut met[root as usize], true) {
            continue;
        }
        let mut open = vec![(root, 0)];
        while let Some((at, n)) = open.pop() {
            let Some(own) = own[at as usize] else { continue };
            let [direct, tail] = calls(at);
            if let Some(&callee) = direct.iter().chain(tail).nth(n) {
                open.push((at, n + 1));
                if !std::mem::replace(&mut met[callee as usize], true) {
                    open.push((callee, 0));
                }
                continue;
            }
            let all =
                direct.iter().chain(tail).fold(own, |all, &callee| all.saturating_add(paid[callee as usize]));
            paid[at as usize] = if all <= PAID_MAX { all } else { 0 };
        }
    }
    paid
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of functions by what they do themselves, and whom they call.
    fn paid(functions: &[(Option<u64>, &[u32])]) -> Vec<u64> {
        let own: Vec<_> = functions.iter().map(|(own, _)| *own).collect();
        paid_by_callers(&own, |f| [functions[f as usize].1, &[]])
    }

    #[test]
    fn callers_pay_for_callees_of_callees() {
        assert_eq!(paid(&[(Some(5), &[1, 2, 2]), (Some(7), &[2]), (Some(3), &[])]), [5 + 10 + 6, 10, 3]);
        assert_eq!(
            paid(&[(Some(5), &[1]), (None, &[2]), (Some(3), &[])]),
            [5, 0, 3],
            "one charges for itself"
        );
    }

    #[test]
    fn what_would_be_too_much_is_charged_for() {
        let most = Some(PAID_MAX);
        assert_eq!(paid(&[(Some(1), &[1]), (most, &[])]), [0, PAID_MAX]);
        // Calls of calls: 2 to the power of their depth.
        let calls: Vec<[u32; 2]> = (0..50).map(|f| [f + 1; 2]).collect();
        let mut functions: Vec<(Option<u64>, &[u32])> =
            calls.iter().map(|calls| (Some(1), &calls[..])).collect();
        functions.push((Some(1), &[]));
        let paid = paid(&functions);
        assert!(paid.iter().all(|&paid| paid <= PAID_MAX) && paid.contains(&0), "{paid:?}");
    }

    #[test]
    fn a_long_chain_is_walked() {
        let calls: Vec<[u32; 1]> = (0..100_000).map(|f| [f + 1]).collect();
        let mut functions: Vec<(Option<u64>, &[u32])> =
            calls.iter().map(|calls| (Some(0), &calls[..])).collect();
        functions.push((Some(9), &[]));
        assert!(paid(&functions).iter().all(|&paid| paid == 9));
    }
}
