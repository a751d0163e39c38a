//! Threads that evaluate, and a bounded queue before them.
//!
//! A backtest keeps a processor busy for as long as it takes, so none runs where messages are handled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// Something to do.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads end once the last handle is gone and the queue is empty.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    jobs: Sender<Job>,
}

impl Pool {
    /// `threads` threads, and room for as many jobs before them.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = bounded(threads);
        for number in 0..threads {
            let queue: Receiver<Job> = queue.clone();
            let name = format!("evaluate-{number}");
            thread::Builder::new().name(name).spawn(move || {
                for job in &queue {
                    // Whoever waits sees that no answer came: what the job would have answered by is
                    // gone with it. The thread is sound, for a job shares nothing that it changes.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::warn!("an evaluation panicked");
                    }
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Has `job` done as soon as a thread is free; gives it back when the queue is full.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|unsent| match unsent {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_job_that_panics_ends_neither_its_thread_nor_the_next_job() {
        let pool = Pool::new(1).unwrap();
        let (sender, answers) = bounded::<u32>(1);
        let dropped = sender.clone();
        assert!(
            pool.submit(Box::new(move || {
                let _held = dropped;
                panic!("on purpose");
            }))
            .is_ok()
        );
        drop(sender);
        assert!(answers.recv_timeout(PATIENCE).is_err(), "no answer, and nobody left to give one");
        let (sender, answers) = bounded::<u32>(1);
        let mut job: Job = Box::new(move || sender.send(5).expect("somebody waits"));
        while let Err(unsent) = pool.submit(job) {
            job = unsent;
            thread::yield_now();
        }
        assert_eq!(answers.recv_timeout(PATIENCE), Ok(5));
    }
}
