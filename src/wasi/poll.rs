//! Waiting for time and for standard input.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Wasi,
    clock::{MONOTONIC, REALTIME},
    errno::{Errno, Failure, Outcome, Stop, done},
    fdtable::Open,
    interrupt::Interrupt,
    memory::{self, field_u16, field_u32, field_u64},
    state::Wait,
    stdio::Stream,
    types::{self, EVENT_LEN, SUBSCRIPTION_LEN},
};

/// Most subscriptions of one call; more is `Nomem`.
const SUBSCRIPTIONS_MAX: u32 = 1 << 16;
/// Longest single wait: longer ones are taken up again, so that any number of ns fits.
const WAIT_MAX: u64 = 3_600_000_000_000;
/// `subclockflags`: the time is one, not a span.
const ABSOLUTE: u32 = 1;
/// `eventrwflags`: the end of the file is reached.
const HANGUP: u16 = 1;

/// What a subscription waits for.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// The guest's monotonic time, in ns.
    Monotonic(u64),
    /// The host's wall time, in ns since 1970.
    Realtime(u64),
    /// Standard input can be read, or has ended.
    Stdin,
    /// Nothing: this event is there already.
    Ready,
}

#[derive(Debug, Clone, Copy)]
struct Subscription {
    userdata: u64,
    /// `eventtype`: 0 a clock, 1 reading, 2 writing.
    kind: u8,
    until: Until,
    flags: u16,
}

impl Wasi {
    /// Waits for the first of `count` subscriptions; writes an event for each that is there, and how
    /// many.
    ///
    /// A call that is suspended while it waits is repeated later with the same arguments, and then
    /// waits for the rest of its time only.
    pub fn poll_oneoff(
        &mut self,
        mem: &mut [u8],
        subscriptions: u32,
        events: u32,
        count: u32,
        stored: u32,
    ) -> Result<Errno, Stop> {
        let repeated = self.wait.take().filter(|w| (w.subscriptions, w.count) == (subscriptions, count));
        done(|| {
            if count == 0 {
                return Err(Errno::Inval.into());
            }
            if count > SUBSCRIPTIONS_MAX {
                return Err(Errno::Nomem.into());
            }
            memory::check(mem, stored, 1, 4)?;
            memory::check(mem, events, count, EVENT_LEN as u32)?;
            let len = memory::check(mem, subscriptions, count, SUBSCRIPTION_LEN as u32)?;
            let began = match repeated {
                Some(wait) => wait.began,
                None => {
                    self.clock.look();
                    self.clock.monotonic()
                }
            };
            let wanted = memory::bytes(mem, subscriptions, len)?
                .chunks_exact(SUBSCRIPTION_LEN)
                .map(|record| self.subscription(record, began))
                .collect::<Result<Vec<_>, _>>()?;
            match self.wait_for(&wanted) {
                Ok(stdin_ready) => Ok(self.write_events(mem, events, stored, &wanted, stdin_ready)?),
                Err(Failure::Stop(Stop::Suspend)) => {
                    self.wait = Some(Wait { began, subscriptions, count });
                    Err(Failure::Stop(Stop::Suspend))
                }
                Err(failure) => Err(failure),
            }
        })
    }

    /// Reads a subscription of a call that began at this guest time.
    fn subscription(&self, record: &[u8], began: u64) -> Outcome<Subscription> {
        let (userdata, kind) = (field_u64(record, 0), record[8]);
        let (until, flags) = match kind {
            0 => {
                let (id, timeout) = (field_u32(record, 16), field_u64(record, 24));
                let flags = types::flags(u32::from(field_u16(record, 40)), ABSOLUTE)?;
                let until = match (id, flags == ABSOLUTE) {
                    (MONOTONIC | REALTIME, false) => Until::Monotonic(began.saturating_add(timeout)),
                    (MONOTONIC, true) => Until::Monotonic(timeout),
                    (REALTIME, true) => Until::Realtime(timeout),
                    _ => return Err(Errno::Inval.into()),
                };
                (until, 0)
            }
            1 => match self.fds.get(field_u32(record, 16))? {
                Open::Stream(Stream::Stdin) => (Until::Stdin, 0),
                Open::File(open) => {
                    let size = open.file.size()?;
                    (Until::Ready, if open.position >= size { HANGUP } else { 0 })
                }
                Open::Stream(_) | Open::Directory(_) => return Err(Errno::Badf.into()),
            },
            2 => match self.fds.get(field_u32(record, 16))? {
                Open::File(open) if open.read_only => return Err(Errno::Perm.into()),
                Open::Stream(Stream::Stdout | Stream::Stderr) | Open::File(_) => (Until::Ready, 0),
                Open::Stream(Stream::Stdin) | Open::Directory(_) => return Err(Errno::Badf.into()),
            },
            _ => return Err(Errno::Inval.into()),
        };
        Ok(Subscription { userdata, kind, until, flags })
    }

    /// Waits until one of the subscriptions is there; tells whether standard input is.
    fn wait_for(&mut self, wanted: &[Subscription]) -> Outcome<bool> {
        loop {
            let wants_stdin = wanted.iter().any(|s| matches!(s.until, Until::Stdin));
            let left = wanted.iter().map(|s| self.left(s.until)).min().unwrap_or(0);
            let stdin = self.streams.stdin_waits_for().filter(|_| wants_stdin);
            if wants_stdin && stdin.is_none() {
                return Ok(true);
            }
            let interrupt = &self.streams.interrupt;
            let requested = interrupt.is_requested();
            let passes = left < u64::MAX && self.clock.pass(0);
            let stdin_ready = wait_once(stdin, interrupt, if requested || passes { 0 } else { left })?;
            if stdin_ready || left == 0 {
                return Ok(stdin_ready);
            }
            if passes {
                self.clock.pass(left);
                continue;
            }
            if requested {
                return Err(Failure::Stop(Stop::Suspend));
            }
        }
    }

    /// How many ns are left to wait for this; `u64::MAX` if time does not decide.
    fn left(&self, until: Until) -> u64 {
        match until {
            Until::Monotonic(time) => time.saturating_sub(self.clock.monotonic()),
            Until::Realtime(time) => time.saturating_sub(self.clock.realtime()),
            Until::Stdin => u64::MAX,
            Until::Ready => 0,
        }
    }

    fn write_events(
        &self,
        mem: &mut [u8],
        events: u32,
        stored: u32,
        wanted: &[Subscription],
        stdin_ready: bool,
    ) -> Result<(), Errno> {
        let mut count = 0;
        for subscription in wanted {
            let there = match subscription.until {
                Until::Stdin => stdin_ready,
                until => self.left(until) == 0,
            };
            if !there {
                continue;
            }
            let mut event = [0; EVENT_LEN];
            event[0..8].copy_from_slice(&subscription.userdata.to_le_bytes());
            event[10] = subscription.kind;
            // The reference always says one byte.
            event[16] = u8::from(subscription.kind != 0);
            event[24..26].copy_from_slice(&subscription.flags.to_le_bytes());
            memory::write(mem, events + count * EVENT_LEN as u32, &event)?;
            count += 1;
        }
        memory::write_u32(mem, stored, count)
    }
}

/// Sleeps until standard input, a request, or so many ns; tells whether standard input is there.
fn wait_once(stdin: Option<BorrowedFd<'_>>, interrupt: &Interrupt, nanos: u64) -> Outcome<bool> {
    let may = interrupt.left().map_or(u64::MAX, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
    let nanos = nanos.min(WAIT_MAX).min(may);
    let timeout = Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as _ };
    let wake = interrupt.as_fd();
    let mut fds =
        [PollFd::new(&wake, PollFlags::IN), PollFd::from_borrowed_fd(stdin.unwrap_or(wake), PollFlags::IN)];
    let fds = if stdin.is_some() { &mut fds[..] } else { &mut fds[..1] };
    match poll(fds, Some(&timeout)) {
        Ok(_) => {}
        // A signal: the caller looks again at what it waits for.
        Err(rustix::io::Errno::INTR) => return Ok(false),
        Err(e) => return Err(e.into()),
    }
    if !fds[0].revents().is_empty() && !interrupt.is_requested() {
        interrupt.drain();
    }
    Ok(stdin.is_some() && !fds[1].revents().is_empty())
}
