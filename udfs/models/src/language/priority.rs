//! Threads that give way to those of queries.
//!
//! A language model computes for minutes on every core it has, and a short query beside it must not wait for its turn. The standard library
//! cannot say so to the operating system: this module does, with the one call it takes.

#![allow(unsafe_code, reason = "explained above")]

/// As many steps of `nice` lower: the share of a core that such a thread keeps beside a busy one is about a tenth.
#[cfg(target_os = "linux")]
const STEPS: libc::c_int = 10;

/// Lowers the priority of the calling thread, and of threads that it starts from now on. Where the system does not let it, or knows no
/// priorities of threads, all stays as it is.
pub(super) fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: it takes no addresses; zero is the calling thread.
        let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, STEPS) } != 0;
        if failed {
            let error = std::io::Error::last_os_error();
            tracing::warn!(%error, "texts are generated with the priority of queries");
        }
    }
}
