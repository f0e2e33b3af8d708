//! Folders that do not fit: an error before work that names the file, the key and the way out.
