//! Chance: a generator whose seed and position are state.

use serde::{Deserialize, Serialize};

use super::{
    Wasi,
    errno::{Errno, Stop, done},
    memory,
};

/// The bytes that `random_get` gives: the output of blake3, keyed with the seed, over nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    /// Key of the generator.
    pub seed: [u8; 32],
    /// Bytes given so far.
    pub position: u64,
}

impl Random {
    /// A generator at its start; seeded by the system unless told.
    pub(super) fn new(seed: Option<[u8; 32]>) -> anyhow::Result<Self> {
        let seed = match seed {
            Some(seed) => seed,
            None => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed)
                    .map_err(|e| anyhow::anyhow!("the system gives no random seed: {e}"))?;
                seed
            }
        };
        Ok(Self { seed, position: 0 })
    }

    fn fill(&mut self, out: &mut [u8]) {
        let mut reader = blake3::Hasher::new_keyed(&self.seed).finalize_xof();
        reader.set_position(self.position);
        reader.fill(out);
        self.position = self.position.wrapping_add(out.len() as u64);
    }
}

impl Wasi {
    /// Fills the buffer with random bytes.
    pub fn random_get(&mut self, mem: &mut [u8], buf: u32, buf_len: u32) -> Result<Errno, Stop> {
        done(|| {
            self.random.fill(memory::bytes_mut(mem, buf, buf_len)?);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_decides_the_bytes() {
        let mut whole = [0; 100];
        Random::new(Some([7; 32])).unwrap().fill(&mut whole);
        let mut parts = Random::new(Some([7; 32])).unwrap();
        let mut got = [0; 100];
        let (a, b) = got.split_at_mut(33);
        parts.fill(a);
        let mut later = Random { ..parts.clone() };
        later.fill(b);
        assert_eq!(got, whole);
        assert_eq!(later.position, 100);
        assert_ne!(Random::new(None).unwrap().seed, Random::new(None).unwrap().seed);
    }
}
