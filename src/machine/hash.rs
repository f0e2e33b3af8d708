//! Hashes of files and texts. In: bytes. Out: SHA-256 in lower-case hexadecimal. It must not load a whole file into memory.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A file's SHA-256, lower-case hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let unreadable = |source: std::io::Error| Error::Read { path: path.to_owned(), source: source.into() };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// The first `bytes` bytes (at most 32) of the SHA-256 of `data`, lower-case hexadecimal.
pub fn short_hash(data: &[u8], bytes: usize) -> String {
    hexadecimal(&Sha256::digest(data)[..bytes.min(32)])
}

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_matches_the_standard_example() {
        // FIPS 180-4's one-block example.
        assert_eq!(short_hash(b"abc", 4), "ba7816bf");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        assert!(sha256_of(file.path()).unwrap().starts_with("ba7816bf8f01cfea"));
    }
}
