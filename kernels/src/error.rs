//! Every way in which a layer can be refused.

/// Why weights or a batch were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A size is zero or beyond what the integer sums can hold.
    #[error("{what} is {value}, allowed are 1 to {limit}")]
    Size {
        /// The size's name.
        what: &'static str,
        /// What it is,
        value: usize,
        /// and what it can be at most.
        limit: usize,
    },
    /// The heads do not divide the hidden size.
    #[error("{heads} heads do not divide the hidden size {hidden}")]
    Heads {
        /// Number of attention heads.
        heads: usize,
        /// Width of a token vector.
        hidden: usize,
    },
    /// A slice has another length than the shape asks for.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// The slice.
        what: &'static str,
        /// Its length,
        found: usize,
        /// and the length that the shape asks for.
        expected: usize,
    },
    /// The processor lacks the instructions of the requested path.
    #[error("this processor cannot run the path {path}; `Path::best()` chooses one that it can")]
    Path {
        /// The path's name.
        path: &'static str,
    },
    /// The system refused threads.
    #[error("cannot start {threads} threads: {cause}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        cause: String,
    },
    /// A thread panicked, or the workers did not call the function that they were given.
    #[error("the workers left the batch incomplete: a thread panicked, or none was run; compute the batch again")]
    Incomplete,
}
