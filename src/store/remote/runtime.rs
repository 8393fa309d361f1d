//! The thread on which the clients of services work, which are asynchronous.

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use super::super::StoreError;

/// Waits until it is done, while other threads may wait for others. Not to be called by a task of the runtime.
///
/// # Errors
/// What it gives; the system gives no thread.
pub(super) fn wait<T>(task: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    static RUNTIME: OnceLock<Result<Runtime, io::ErrorKind>> = OnceLock::new();
    let begin = || Builder::new_multi_thread().worker_threads(1).thread_name("store").enable_all().build();
    match RUNTIME.get_or_init(|| begin().map_err(|error| error.kind())) {
        Ok(runtime) => runtime.block_on(task),
        Err(kind) => Err(StoreError::from_io("begin", "the store's thread", (*kind).into())),
    }
}
