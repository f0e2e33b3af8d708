//! Files → chunks of work. In: the files a run must read and the offsets that earlier runs reached. Out: row ranges in file order, each
//! chunk small enough that the ledger's entries for its documents fit in memory. It must not read files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::source::listing::SourceFile;

/// A text file is read from its beginning to reach a row, so a chunk takes whole text files, up to about this many bytes.
const CHUNK_BYTES: u64 = 64 << 20;
/// Of a text file with more bytes, a chunk takes this many rows; it is a multiple of every border of slices. The file is
/// read from its beginning for each chunk, which costs time and bounds the memory for ids.
const TEXT_ROWS: i64 = 1 << 20;
/// A chunk has at most this many files: a plan holds about 2 KB for each.
const CHUNK_FILES: usize = 4096;

/// Rows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRange {
    /// The file's index in the list of files.
    pub file: usize,
    /// Row numbers, from 0; the end is [`i64::MAX`] for a file of unknown length.
    pub rows: Range<i64>,
}

/// The ranges that one plan reads, in the order of files and rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Never empty.
    pub ranges: Vec<RowRange>,
}

impl Chunk {
    /// The part before a row of a file; `None` if that is empty.
    pub fn before(mut self, file: usize, row: i64) -> Option<Self> {
        self.ranges.retain(|range| range.file < file || range.file == file && range.rows.start < row);
        if let Some(last) = self.ranges.last_mut().filter(|last| last.file == file) {
            last.rows.end = last.rows.end.min(row);
        }
        (!self.ranges.is_empty()).then_some(self)
    }

    /// Whether it ends inside a file of unknown length.
    pub fn is_part_of_unknown(&self, files: &[SourceFile]) -> bool {
        self.ranges.last().is_some_and(|last| last.rows.end < i64::MAX && files[last.file].readable().is_none())
    }
}

/// Cuts files into chunks, lazily.
#[derive(Debug)]
pub struct Chunks {
    /// The ranges still to be returned, in the order of the files, each with its file's size in bytes.
    remaining: VecDeque<(RowRange, u64)>,
    rows: i64,
    /// A chunk that ends inside a file ends at a multiple of this many rows.
    border: i64,
    /// Files that need a chunk of their own.
    alone: BTreeSet<usize>,
}

impl Chunks {
    /// Chunks of about `rows` rows over `files`, in whole slices. `begun` has the first row of each file not done yet; a slice always
    /// ends at a multiple of `border` rows.
    pub fn new(files: &[SourceFile], begun: &BTreeMap<String, i64>, rows: u64, border: i64) -> Self {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX).max(1);
        let rows = rows.saturating_add(border - 1) / border * border;
        // A file without rows is in a chunk too: only then is it recorded as done.
        let remaining = files.iter().enumerate().map(|(file, source)| {
            let first = begun.get(&source.path).copied().unwrap_or(0);
            let end = source.readable().unwrap_or(i64::MAX);
            (RowRange { file, rows: first.min(end)..end }, source.meta.size)
        });
        let alone = |(file, source): (usize, &SourceFile)| source.ends_early().then_some(file);
        Self {
            remaining: remaining.collect(),
            rows,
            border,
            alone: files.iter().enumerate().filter_map(alone).collect(),
        }
    }

    /// Skips everything before a row of a file.
    #[must_use]
    pub fn from(mut self, file: usize, row: i64) -> Self {
        self.remaining.retain(|(range, _)| range.file >= file);
        if let Some((range, _)) = self.remaining.front_mut().filter(|(range, _)| range.file == file) {
            range.rows.start = range.rows.start.max(row).min(range.rows.end);
        }
        self
    }
}

impl Iterator for Chunks {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let mut chunk = Chunk::default();
        let (mut rows, mut bytes) = (0, 0);
        while let Some((range, size)) = self.remaining.front_mut() {
            if chunk.ranges.len() == CHUNK_FILES {
                break;
            }
            if self.alone.contains(&range.file) || range.rows.end == i64::MAX && *size > CHUNK_BYTES {
                // Rows of a text file need a plan of their own: it ends with the last of them.
                if chunk.ranges.is_empty() {
                    let end = range.rows.start.saturating_add(TEXT_ROWS) / self.border * self.border;
                    let end = end.min(range.rows.end);
                    chunk.ranges.push(RowRange { file: range.file, rows: range.rows.start..end });
                    if end == range.rows.end {
                        self.remaining.pop_front();
                    } else {
                        range.rows.start = end;
                    }
                }
                break;
            }
            if range.rows.end == i64::MAX {
                // The row count is unknown: take whole files by size.
                if bytes > 0 && bytes + *size > CHUNK_BYTES {
                    break;
                }
                bytes += *size;
                chunk.ranges.push(range.clone());
                self.remaining.pop_front();
                continue;
            }
            let capacity = self.rows - rows;
            if capacity <= 0 {
                break;
            }
            // Slice borders are counted from the file's first row; a chunk ends at one of them or at the file's end.
            let border = range.rows.start.saturating_add(capacity) / self.border * self.border;
            let end = if border > range.rows.start {
                border.min(range.rows.end)
            } else if range.rows.end - range.rows.start <= capacity {
                range.rows.end
            } else {
                break;
            };
            rows += end - range.rows.start;
            chunk.ranges.push(RowRange { file: range.file, rows: range.rows.start..end });
            if end == range.rows.end {
                self.remaining.pop_front();
            } else {
                range.rows.start = end;
                break;
            }
        }
        (!chunk.ranges.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::input::SLICE_ROWS;
    use object_store::ObjectMeta;

    fn file(name: &str, size: u64, rows: Option<i64>) -> SourceFile {
        let location = object_store::path::Path::from(name);
        let meta =
            ObjectMeta { location, last_modified: chrono::DateTime::UNIX_EPOCH, size, e_tag: None, version: None };
        SourceFile { path: name.to_owned(), meta, rows, broken: None }
    }

    fn ranges(chunks: Chunks) -> Vec<Vec<(usize, i64, i64)>> {
        let flat =
            |chunk: Chunk| chunk.ranges.into_iter().map(|one| (one.file, one.rows.start, one.rows.end)).collect();
        chunks.map(flat).collect()
    }

    fn chunks_of(files: &[SourceFile], begun: &BTreeMap<String, i64>, rows: u64) -> Chunks {
        Chunks::new(files, begun, rows, SLICE_ROWS)
    }

    #[test]
    fn chunks_are_whole_slices_and_miss_no_row() {
        let files = [file("a", 9, Some(700)), file("b", 9, Some(0)), file("c", 9, Some(300))];
        assert_eq!(
            ranges(chunks_of(&files, &BTreeMap::new(), 300)),
            [vec![(0, 0, 512)], vec![(0, 512, 700), (1, 0, 0), (2, 0, 256)], vec![(2, 256, 300)]]
        );
        let begun = BTreeMap::from([("a".to_owned(), 512), ("c".to_owned(), 300)]);
        assert_eq!(ranges(chunks_of(&files, &begun, 100_000)), [vec![(0, 512, 700), (1, 0, 0), (2, 300, 300)]]);
    }

    #[test]
    fn a_chunk_ends_where_larger_slices_do() {
        let files = [file("a", 9, Some(10_000)), file("b", 9, Some(5000))];
        let chunks_after = |begun: &[(&str, i64)]| {
            let begun = begun.iter().map(|(name, row)| ((*name).to_owned(), *row)).collect();
            ranges(Chunks::new(&files, &begun, 5000, 4096))
        };
        assert_eq!(
            chunks_after(&[]),
            [vec![(0, 0, 8192)], vec![(0, 8192, 10_000), (1, 0, 4096)], vec![(1, 4096, 5000)]]
        );
        // Also if a run resumes inside a slice.
        assert_eq!(
            chunks_after(&[("a", 300), ("b", 5000)]),
            [vec![(0, 300, 8192)], vec![(0, 8192, 10_000), (1, 5000, 5000)]]
        );
    }

    #[test]
    fn a_chunk_smaller_than_a_slice_takes_only_whole_files() {
        let none = BTreeMap::new();
        let files = [file("a", 9, Some(200)), file("b", 9, Some(300)), file("c", 9, Some(2)), file("d", 9, Some(0))];
        assert_eq!(
            ranges(chunks_of(&files, &none, 1)),
            [vec![(0, 0, 200)], vec![(1, 0, 256)], vec![(1, 256, 300), (2, 0, 2), (3, 0, 0)]]
        );
        let files: Vec<SourceFile> = (0..200).map(|number| file(&number.to_string(), 9, Some(3))).collect();
        let chunks = ranges(chunks_of(&files, &none, 256));
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [85, 85, 30]);
        assert!(chunks.iter().flatten().all(|(_, start, end)| end - start == 3), "no file is cut");
        let begun = BTreeMap::from([("a".to_owned(), 300)]);
        assert_eq!(ranges(chunks_of(&[file("a", 9, Some(500))], &begun, u64::MAX)), [[(0, 300, 500)]]);
    }

    #[test]
    fn corrupt_files_end_early_and_text_files_then_get_their_own_chunk() {
        let broken = |name: &str, rows| SourceFile { broken: Some((300, "torn".to_owned())), ..file(name, 9, rows) };
        let files = [file("a", 9, Some(10)), broken("b", Some(1000)), file("c", 9, Some(20))];
        let none = BTreeMap::new();
        assert_eq!(
            ranges(chunks_of(&files, &none, 512)),
            [vec![(0, 0, 10), (1, 0, 256)], vec![(1, 256, 300), (2, 0, 20)]]
        );
        let files = [file("a", 9, None), broken("b", None), file("c", 9, None)];
        let end = i64::MAX;
        assert_eq!(ranges(chunks_of(&files, &none, 512)), [vec![(0, 0, end)], vec![(1, 0, 300)], vec![(2, 0, end)]]);
        assert_eq!(ranges(chunks_of(&files, &none, 512).from(1, 256)), [vec![(1, 256, 300)], vec![(2, 0, end)]]);
    }

    #[test]
    fn a_chunk_ends_before_a_row() {
        let files = [file("a", 9, Some(700)), file("b", 9, Some(0)), file("c", 9, None)];
        let chunk = chunks_of(&files, &BTreeMap::new(), 1000).next().unwrap();
        let before = |file, row| ranges_of(chunk.clone().before(file, row));
        assert_eq!(before(2, 10), [(0, 0, 700), (1, 0, 0), (2, 0, 10)]);
        assert_eq!(before(2, 0), [(0, 0, 700), (1, 0, 0)]);
        assert_eq!(before(0, 300), [(0, 0, 300)]);
        assert_eq!(before(0, 0), []);
    }

    fn ranges_of(chunk: Option<Chunk>) -> Vec<(usize, i64, i64)> {
        let flat = |chunk: Chunk| chunk.ranges.into_iter().map(|one| (one.file, one.rows.start, one.rows.end));
        chunk.into_iter().flat_map(flat).collect()
    }

    #[test]
    fn files_of_unknown_length_are_chunked_by_size() {
        let files = [file("a", 40 << 20, None), file("b", 20 << 20, None), file("c", 10 << 20, None)];
        let begun = BTreeMap::from([("a".to_owned(), 7)]);
        assert_eq!(
            ranges(chunks_of(&files, &begun, 1)),
            [vec![(0, 7, i64::MAX), (1, 0, i64::MAX)], vec![(2, 0, i64::MAX)]]
        );
    }

    #[test]
    fn a_large_text_file_is_divided_and_its_chunks_miss_no_row() {
        let files = [file("a", 1, None), file("b", 65 << 20, None), file("c", 1, None)];
        let begun = BTreeMap::from([("b".to_owned(), 300)]);
        let mut chunks = Chunks::new(&files, &begun, 1, 4096);
        let first = [chunks.next(), chunks.next(), chunks.next()].map(ranges_of);
        let end = TEXT_ROWS;
        assert_eq!(first, [vec![(0, 0, i64::MAX)], vec![(1, 300, end)], vec![(1, end, 2 * end)]]);
        let part = Chunk { ranges: vec![RowRange { file: 1, rows: 300..end }] };
        assert!(part.is_part_of_unknown(&files));
        // The run says when the file has ended.
        assert_eq!(ranges(Chunks::new(&files, &begun, 1, 4096).from(2, 0)), [[(2, 0, i64::MAX)]]);
    }

    #[test]
    fn a_chunk_has_a_bounded_number_of_files() {
        let files: Vec<SourceFile> = (0..10_000).map(|number| file(&format!("{number:05}"), 9, None)).collect();
        let chunks = ranges(chunks_of(&files, &BTreeMap::new(), 100_000));
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
    }
}
