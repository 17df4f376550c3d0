//! How many bytes the stored tables may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// The limit and what is being written at the moment. What is stored already is counted by the store itself.
#[derive(Debug)]
pub(crate) struct Space {
    limit: Option<u64>,
    stored: AtomicU64,
    claimed: AtomicU64,
}

impl Space {
    pub(crate) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit, stored: AtomicU64::new(0), claimed: AtomicU64::new(0) })
    }

    /// Bytes of all stored tables.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    pub(crate) fn set_stored(&self, bytes: u64) {
        self.stored.store(bytes, Ordering::Release);
    }
}

/// The bytes of one writer; given back when dropped, by when they are stored or deleted.
#[derive(Debug)]
pub(crate) struct Claim {
    space: Arc<Space>,
    bytes: u64,
}

impl Claim {
    pub(crate) fn new(space: &Arc<Space>) -> Self {
        Self { space: Arc::clone(space), bytes: 0 }
    }

    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes += bytes;
        let claimed = self.space.claimed.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        match self.space.limit {
            Some(limit) if claimed.saturating_add(self.space.stored()) > limit => Err(Error::QuotaExceeded { limit }),
            _ => Ok(()),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.space.claimed.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
