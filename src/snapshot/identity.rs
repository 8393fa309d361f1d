//! Whether a state may be resumed here.

use std::fmt;

use super::Identity;

/// A state belongs to another program, or to a host that works otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("; "))]
pub struct IdentityMismatch(pub Vec<Difference>);

/// One difference between two identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub what: &'static str,
    /// What the snapshot has.
    pub found: String,
    /// What this host has.
    pub expected: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, expected } = self;
        write!(f, "{what}: the snapshot has {found}, this host has {expected}")
    }
}

impl Identity {
    /// Checks that this identity, a snapshot's, is that of the host.
    ///
    /// # Errors
    /// All that differs, with what was found and what expected.
    pub fn require(&self, host: &Identity) -> Result<(), IdentityMismatch> {
        // Named one by one, so that a new field does not compile before it is compared.
        let Self { module, cost_model, canonical_nans, deterministic_relaxed_simd } = self;
        let on = |on: &bool| if *on { "on" } else { "off" };
        let differences: Vec<Difference> = [
            ("module", module.to_string(), host.module.to_string()),
            ("fuel cost model", format!("v{cost_model}"), format!("v{}", host.cost_model)),
            ("canonical NaNs", on(canonical_nans).into(), on(&host.canonical_nans).into()),
            (
                "deterministic relaxed SIMD",
                on(deterministic_relaxed_simd).into(),
                on(&host.deterministic_relaxed_simd).into(),
            ),
        ]
        .into_iter()
        .filter(|(_, found, expected)| found != expected)
        .map(|(what, found, expected)| Difference { what, found, expected })
        .collect();
        if differences.is_empty() { Ok(()) } else { Err(IdentityMismatch(differences)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::ModuleId;

    #[test]
    fn every_difference_is_named() {
        let ours = Identity {
            module: ModuleId::of(b"a"),
            cost_model: 3,
            canonical_nans: true,
            deterministic_relaxed_simd: true,
        };
        assert_eq!(ours.require(&ours), Ok(()));
        let other = Identity { cost_model: 2, ..ours.clone() };
        let error = other.require(&ours).unwrap_err().to_string();
        assert_eq!(error, "fuel cost model: the snapshot has v2, this host has v3");
        let other = Identity {
            module: ModuleId::of(b"b"),
            cost_model: 1,
            canonical_nans: false,
            deterministic_relaxed_simd: false,
        };
        let what: Vec<_> = other.require(&ours).unwrap_err().0.iter().map(|d| d.what).collect();
        assert_eq!(what, ["module", "fuel cost model", "canonical NaNs", "deterministic relaxed SIMD"]);
    }
}
