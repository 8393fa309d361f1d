//! Processes as holders of leases: told apart everywhere, and known to be gone on their own machine.

use std::fs;

use serde::{Deserialize, Serialize};

use super::super::leases::this_process;
use super::super::{Holder, StoreError};

/// A process that may hold leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// Tells it from all others.
    pub nonce: String,
    pub pid: u32,
    pub host: String,
    /// The running system that its number is of, and the namespace; empty where that is not known.
    system: String,
    /// When it began, in ticks since the system did: numbers are used again.
    start: u64,
}

impl Process {
    /// This one.
    pub fn this() -> Result<Self, StoreError> {
        let Holder { pid, host } = this_process();
        let start = stat(pid).map_or(0, |stat| stat.start);
        Ok(Self { nonce: nonce()?, pid, host, system: system().unwrap_or_default(), start })
    }

    /// One of another machine.
    #[cfg(test)]
    pub fn elsewhere(nonce: &str) -> Self {
        Self { nonce: nonce.into(), pid: 7, host: format!("host-{nonce}"), system: String::new(), start: 0 }
    }

    /// Whether it has ended, if that can be known here: it ran on this system.
    pub fn is_gone(&self) -> Option<bool> {
        if self.system.is_empty() || system()? != self.system {
            return None;
        }
        Some(stat(self.pid).is_none_or(|stat| stat.start != self.start || stat.has_ended))
    }

    /// For messages.
    pub fn holder(&self) -> Holder {
        Holder { pid: self.pid, host: self.host.clone() }
    }
}

/// The running system, of which no other has the name, and the namespace of its process numbers.
fn system() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

struct Stat {
    start: u64,
    /// All that is left of it is the number, until its parent asks for it.
    has_ended: bool,
}

/// What the system says of a process, if there is one. See proc(5).
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces and parentheses in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, threads, start) = (*fields.first()?, fields.get(17)?, fields.get(19)?);
    // Of one whose first thread alone has ended, the others go on.
    let has_ended = matches!(state, "Z" | "X") && threads.parse().is_ok_and(|threads: u32| threads <= 1);
    Some(Stat { start: start.parse().ok()?, has_ended })
}

/// A name that nobody else chooses.
pub(super) fn nonce() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::from_io("name", "a lease", std::io::Error::other(error.to_string())))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_system_is_known_to_be_gone() {
        let this = Process::this().unwrap();
        assert_eq!(this.is_gone(), Some(false));
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let other = Process { pid: child.id(), start: stat(child.id()).unwrap().start, ..this.clone() };
        assert_eq!(other.is_gone(), Some(false));
        child.kill().unwrap();
        // Nobody has waited for it yet.
        while stat(child.id()).is_some_and(|stat| !stat.has_ended) {
            std::thread::yield_now();
        }
        assert_eq!(other.is_gone(), Some(true));
        child.wait().unwrap();
        assert_eq!(other.is_gone(), Some(true));
        assert_eq!(Process { start: 7, ..this.clone() }.is_gone(), Some(true), "the number is another's now");
        assert_eq!(Process { system: "elsewhere".into(), ..this }.is_gone(), None);
    }
}
