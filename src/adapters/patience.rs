//! How long tests of adapters wait: each wait fails with words where it would hang.

use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Long, since it only ever passes where a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `future` gives. The bound is on the real clock also where the test's time is virtual.
///
/// # Panics
/// When it takes longer than [`PATIENCE`]; the message is what `waited_for` tells.
pub async fn within<T>(future: impl Future<Output = T>, waited_for: impl FnOnce() -> String) -> T {
    let (is_over, over) = oneshot::channel::<()>();
    let (_done, watched) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = is_over.send(());
        }
    });
    tokio::select! {
        biased;
        given = future => given,
        _ = over => panic!("not within {PATIENCE:?}: {}", waited_for()),
    }
}
