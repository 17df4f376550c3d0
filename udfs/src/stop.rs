//! Work on other threads ends with the statement that waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells another thread that nobody waits for it any more.
pub(crate) struct StopOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
