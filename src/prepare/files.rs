//! The input → its files. In: a file or folder and the suffixes of a format. Out: the files in order, and line numbers in their text.
//! It must not know the formats.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its name in the input: relative to the folder, with `/` between folders.
    pub(crate) name: String,
}

/// Lists `input` if it is a file, else the files below it that have one of the suffixes `endings`, sorted by name.
pub(crate) fn list(input: &Path, endings: &'static [&'static str]) -> Result<Vec<InputFile>> {
    let unreadable = |path: &Path, source: std::io::Error| Error::Read { path: path.into(), source: source.into() };
    let about = std::fs::metadata(input).map_err(|source| unreadable(input, source))?;
    if !about.is_dir() {
        let name = input.file_name().unwrap_or(input.as_os_str()).to_string_lossy().into_owned();
        return Ok(vec![InputFile { path: input.into(), name }]);
    }
    let mut files = Vec::new();
    let mut folders = vec![input.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|source| unreadable(&folder, source))? {
            let path = entry.map_err(|source| unreadable(&folder, source))?.path();
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
            if name.starts_with(['.', '_']) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let inside = path.strip_prefix(input).unwrap_or(&path);
                let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                files.push(InputFile { name: parts.join("/"), path });
            }
        }
    }
    if files.is_empty() {
        return Err(Error::Input {
            location: input.display().to_string(),
            reason: "it contains no file of this format".into(),
            hint: format!("files in a folder are selected by suffix: {}; or name one file", endings.join(", ")),
        });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

impl InputFile {
    /// Its name without `ending`.
    pub(crate) fn stem(&self, ending: &str) -> &str {
        self.name.strip_suffix(ending).unwrap_or(&self.name)
    }

    /// The sibling file whose name has the suffix `to` instead of `from`.
    pub(crate) fn beside(&self, from: &str, to: &str) -> Self {
        let swap = |name: &str| format!("{}{to}", name.strip_suffix(from).unwrap_or(name));
        let file_name = self.path.file_name().map(|name| swap(&name.to_string_lossy())).unwrap_or_default();
        Self { path: self.path.with_file_name(file_name), name: swap(&self.name) }
    }
}

/// Maps byte positions in a text to line numbers, in any order.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    /// Indexes the lines of `text`.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(position, _)| position).collect())
    }

    /// The number, from 1, of the line that contains byte `position`.
    pub(crate) fn of(&self, position: usize) -> usize {
        self.0.partition_point(|&end| end < position) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_belongs_to_its_line() {
        let lines = Lines::new("ab\nc\n\nd");
        assert_eq!([0, 2, 3, 4, 5, 6].map(|position| lines.of(position)), [1, 1, 2, 2, 3, 4]);
    }

    #[test]
    fn a_sibling_file_has_the_same_stem() {
        let file = InputFile { path: "/corpus/bn/a.apf.xml".into(), name: "bn/a.apf.xml".into() };
        let other = file.beside(".apf.xml", ".sgm");
        assert_eq!((other.path.to_str(), other.name.as_str()), (Some("/corpus/bn/a.sgm"), "bn/a.sgm"));
        assert_eq!(file.stem(".apf.xml"), "bn/a");
    }
}
