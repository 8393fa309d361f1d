//! SIGINT and SIGTERM pause the run; the second one ends the process at once.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use wasm_ckpt::Pause;

/// From now on the signals ask for a pause.
pub fn pause_on(pause: &Pause) -> Result<()> {
    let (mut woken, wake) = UnixStream::pair().context("cannot make a pipe for signals")?;
    let once = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let explain = || format!("cannot handle signal {signal}");
        // In this order the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, 128 + signal, once.clone()).with_context(explain)?;
        flag::register(signal, once.clone()).with_context(explain)?;
        low_level::pipe::register(signal, wake.try_clone()?).with_context(explain)?;
    }
    let pause = pause.clone();
    let wait = move || {
        if matches!(woken.read(&mut [0]), Ok(1)) {
            pause.request();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("cannot start a thread")?;
    // `wake` is kept open by the handlers' own clones.
    Ok(())
}
