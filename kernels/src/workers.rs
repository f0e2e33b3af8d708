//! Threads. In: one function. Out: the function has run on each of several threads. It must not know what they do.

use crate::error::Error;

/// Something that runs a function on several threads at once, or one after another.
pub trait Workers {
    /// How many there are; at least one.
    fn count(&self) -> usize;

    /// Calls `work` with each number below [`count`](Self::count) and returns when all calls have returned. The calls share their work
    /// among themselves, so they can also be made one after another.
    fn run(&self, work: &(dyn Fn(usize) + Sync));
}

/// The calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Workers for Alone {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        work(0);
    }
}

/// Threads that wait for work.
#[derive(Debug)]
pub struct Pool(rayon::ThreadPool);

impl Pool {
    /// Starts `threads` threads, at least one.
    pub fn new(threads: usize) -> Result<Self, Error> {
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("kernel {index}"));
        pool.build().map(Self).map_err(|error| Error::Threads { threads, cause: error.to_string() })
    }
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        self.0.broadcast(|context| work(context.index()));
    }
}
