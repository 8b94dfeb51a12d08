//! One processor for a thread and the servers that it starts.
//!
//! A replay is strictly one thing at a time: client and backend never run at once. On two processors each hands over by
//! waking the other's out of its idle sleep, which costs many times the statement (measured on two virtual processors:
//! 13 thousand statements a second, on one of them 75 thousand). What it is not: for targets in which sessions should
//! truly run at once. Invariant: a thread gets back the processors that it had.

use std::marker::PhantomData;

/// While it lives, this thread, and the threads and processes that it starts, run on one processor.
///
/// Claim it before the server is started. Several claims, by threads that replay at once, are spread over the processors
/// that are allowed. Where the system cannot do it, nothing happens, and all is slower.
#[derive(Debug)]
pub struct OneCpu {
    #[cfg(target_os = "linux")]
    before: Option<nix::sched::CpuSet>,
    // The mask belongs to the thread, so it is restored there.
    _stays_on_its_thread: PhantomData<*const ()>,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::marker::PhantomData;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
    use nix::unistd::Pid;

    use super::OneCpu;

    const THIS_THREAD: Pid = Pid::from_raw(0);

    impl OneCpu {
        /// Takes one of the processors that this thread may use, at first the one that it is on.
        pub fn claim() -> OneCpu {
            let before = narrow().ok();
            OneCpu { before, _stays_on_its_thread: PhantomData }
        }
    }

    impl Drop for OneCpu {
        fn drop(&mut self) {
            if let Some(before) = &self.before {
                let _ = sched_setaffinity(THIS_THREAD, before);
            }
        }
    }

    /// Returns what was allowed before.
    fn narrow() -> nix::Result<CpuSet> {
        static CLAIMED: AtomicUsize = AtomicUsize::new(0);
        let allowed = sched_getaffinity(THIS_THREAD)?;
        let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).collect();
        let current = sched_getcpu()?;
        let first = cpus.iter().position(|&cpu| cpu == current).unwrap_or(0);
        let mut one = CpuSet::new();
        one.set(cpus[(first + CLAIMED.fetch_add(1, Ordering::Relaxed)) % cpus.len()])?;
        sched_setaffinity(THIS_THREAD, &one)?;
        Ok(allowed)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn allowed_count() -> usize {
            let allowed = sched_getaffinity(THIS_THREAD).unwrap();
            (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).count()
        }

        #[test]
        fn a_claim_is_inherited_and_given_back() {
            let before = allowed_count();
            let claim = OneCpu::claim();
            assert_eq!(allowed_count(), 1);
            assert_eq!(std::thread::spawn(allowed_count).join().unwrap(), 1);
            drop(claim);
            assert_eq!(allowed_count(), before);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl OneCpu {
    /// Does nothing: there is no way to bind a thread here.
    pub fn claim() -> OneCpu {
        OneCpu { _stays_on_its_thread: PhantomData }
    }
}
