//! Work that waits for a disk: on threads of its own, a few at a time.

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::open::Failure;

/// Files that are read at the same time. They have a thread each.
static PERMITS: Semaphore = Semaphore::const_new(32);

/// Does something that may have to wait.
///
/// # Errors
///
/// It was not done, as the process ends.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let permit = PERMITS.acquire().await.map_err(|_| Failure::Exhausted)?;
    // Who does not wait any more does not free its place: the thread is still busy.
    let work = spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    work.await.map_err(|_| Failure::Exhausted)
}
