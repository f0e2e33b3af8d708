//! Reasons to refuse a `config.json`. In: keys with their values. Out: a [`ConfigError`] for the first that is wrong. It must not
//! know the file's path.

/// The maximum size. A larger one means a damaged file; the limit also keeps the product of two sizes from overflowing.
const MAX_SIZE: usize = 1 << 24;

/// Why a `config.json` is refused.
#[derive(Debug)]
pub enum ConfigError {
    /// It is not JSON, or a key is missing or of another type.
    Syntax(serde_json::Error),
    /// A key has a value that is not supported.
    Value {
        /// The key and its value.
        reason: String,
        /// The way out.
        hint: &'static str,
    },
}

impl From<serde_json::Error> for ConfigError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax(error)
    }
}

/// Refuses the first of these keys whose size is 0 or too large.
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| *size == 0 || *size > MAX_SIZE) {
        Some((key, size)) => {
            Err(ConfigError::Value { reason: format!("`{key}` is {size}"), hint: "a size must be between 1 and 2^24" })
        }
        None => Ok(()),
    }
}
