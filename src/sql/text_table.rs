//! Rows → a text table. In: cells as text, and the width of the screen. Out: lines no wider than the screen. It must not lose a row, and it
//! marks truncated cells and hidden columns.

use std::fmt::Write;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::sanitize::escaped;

/// Minimum width of a text column before columns are hidden.
const MIN_WIDTH: usize = 8;

/// Rows of cells under a header.
#[derive(Debug, Clone, Default)]
pub(super) struct TextTable {
    names: Vec<String>,
    /// Whether a column holds numbers, which are right-aligned and never truncated.
    figures: Vec<bool>,
    rows: Vec<Vec<String>>,
}

/// A drawn table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drawing {
    /// The lines, each with its line end.
    pub(super) text: String,
    /// Number of hidden columns.
    pub(super) hidden: usize,
}

impl TextTable {
    /// An empty table; `columns` are names and whether the column holds numbers.
    pub(super) fn new(columns: impl Iterator<Item = (String, bool)>) -> Self {
        let (names, figures) = columns.map(|(name, figures)| (escaped(&name).into_owned(), figures)).unzip();
        Self { names, figures, rows: Vec::new() }
    }

    /// Adds a row; characters that move the cursor are escaped.
    pub(super) fn push(&mut self, cells: impl Iterator<Item = String>) {
        self.rows.push(cells.map(|cell| escaped(&cell).into_owned()).collect());
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Removes all rows.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// The table in at most `screen` columns of characters; at its natural width without a screen.
    pub(super) fn draw(&self, screen: Option<usize>) -> Drawing {
        let (columns, widths) = self.layout(screen.unwrap_or(usize::MAX));
        let hidden = self.names.len() - columns.len();
        // Hidden columns are those before the last one.
        let gap = (hidden > 0).then(|| columns.len().saturating_sub(1));
        let rule = |left: &str, middle: &str, right: &str| {
            let mut parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            if let Some(gap) = gap {
                parts.insert(gap, "───".to_owned());
            }
            format!("{left}{}{right}\n", parts.join(middle))
        };
        let line = |cells: &[String], header: bool| {
            let cell = |(&column, &width): (&usize, &usize)| {
                let text = truncated(&cells[column], width);
                let space = " ".repeat(width.saturating_sub(text.width()));
                if self.figures[column] && !header { format!(" {space}{text} ") } else { format!(" {text}{space} ") }
            };
            let mut parts: Vec<String> = columns.iter().zip(&widths).map(cell).collect();
            if let Some(gap) = gap {
                parts.insert(gap, " … ".to_owned());
            }
            format!("│{}│\n", parts.join("│"))
        };
        let mut text = rule("┌", "┬", "┐") + &line(&self.names, true) + &rule("├", "┼", "┤");
        text.extend(self.rows.iter().map(|row| line(row, false)));
        text += &rule("└", "┴", "┘");
        Drawing { text, hidden }
    }

    /// The rows one below the other, one line per column; `first` is the number of the first row.
    pub(super) fn draw_records(&self, first: usize) -> String {
        let width = self.names.iter().map(|name| name.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "─[ {} ]─", first + number);
            for (name, cell) in self.names.iter().zip(row) {
                let _ = writeln!(text, "{name}{} │ {cell}", " ".repeat(width - name.width()));
            }
        }
        text
    }

    /// The shown columns and their widths.
    fn layout(&self, screen: usize) -> (Vec<usize>, Vec<usize>) {
        let natural: Vec<usize> = (0..self.names.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].width());
                cells.chain([self.names[column].width()]).max().unwrap_or(0).max(1)
            })
            .collect();
        let mut columns: Vec<usize> = (0..natural.len()).collect();
        loop {
            let hidden = columns.len() < natural.len();
            let frame = 3 * columns.len() + 1 + if hidden { 4 } else { 0 };
            let fitted = fit(&columns, &natural, &self.figures, screen.saturating_sub(frame));
            if let Some(widths) = fitted {
                return (columns, widths);
            }
            if columns.len() <= 2 {
                // On a screen this narrow, truncate numbers, too.
                let each = (screen.saturating_sub(frame) / columns.len().max(1)).max(1);
                let widths = columns.iter().map(|&column| natural[column].min(each)).collect();
                return (columns, widths);
            }
            columns.remove(columns.len() - 2);
        }
    }
}

/// Widths of `columns` whose sum is at most `available`: text columns shrink, the widest first.
fn fit(columns: &[usize], natural: &[usize], figures: &[bool], available: usize) -> Option<Vec<usize>> {
    let fixed: usize = columns.iter().filter(|&&column| figures[column]).map(|&column| natural[column]).sum();
    let mut texts: Vec<usize> =
        columns.iter().filter(|&&column| !figures[column]).map(|&column| natural[column]).collect();
    let mut left = available.checked_sub(fixed)?;
    texts.sort_unstable();
    // Narrow columns keep their width; wide columns share the rest.
    let mut most = usize::MAX;
    for (index, &width) in texts.iter().enumerate() {
        let share = left / (texts.len() - index);
        if width > share {
            most = share;
            break;
        }
        left -= width;
    }
    if most < MIN_WIDTH {
        return None;
    }
    let width = |&column: &usize| if figures[column] { natural[column] } else { natural[column].min(most) };
    Some(columns.iter().map(width).collect())
}

/// The beginning of `text` in `width` columns of characters.
fn truncated(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for cluster in text.graphemes(true) {
        used += cluster.width();
        if used > width {
            break;
        }
        kept += cluster;
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use proptest::prelude::*;

    fn table(columns: &[(&str, bool)], rows: &[&[&str]]) -> TextTable {
        let mut table = TextTable::new(columns.iter().map(|(name, figures)| ((*name).to_owned(), *figures)));
        for row in rows {
            table.push(row.iter().map(|cell| (*cell).to_owned()));
        }
        table
    }

    #[test]
    fn numbers_are_right_aligned() {
        let table = table(&[("text", false), ("n", true)], &[&["Ada\nLovelace", "7"], &["東京", "1200"]]);
        assert_snapshot!(table.draw(None).text, @r"
        ┌───────────────┬──────┐
        │ text          │ n    │
        ├───────────────┼──────┤
        │ Ada\nLovelace │    7 │
        │ 東京          │ 1200 │
        └───────────────┴──────┘
        ");
        assert_snapshot!(table.draw_records(1), @r"
        ─[ 1 ]─
        text │ Ada\nLovelace
        n    │ 7
        ─[ 2 ]─
        text │ 東京
        n    │ 1200
        ");
    }

    #[test]
    fn wide_texts_are_truncated_and_columns_hidden() {
        let long = "a text that goes on and on";
        let table =
            table(&[("id", true), ("one", false), ("two", false), ("three", false)], &[&["1", long, long, long]]);
        let drawing = table.draw(Some(50));
        assert_snapshot!(drawing.text, @r"
        ┌────┬─────────────┬─────────────┬─────────────┐
        │ id │ one         │ two         │ three       │
        ├────┼─────────────┼─────────────┼─────────────┤
        │  1 │ a text tha… │ a text tha… │ a text tha… │
        └────┴─────────────┴─────────────┴─────────────┘
        ");
        assert_eq!(drawing.hidden, 0);
        let drawing = table.draw(Some(36));
        assert_snapshot!(drawing.text, @r"
        ┌────┬────────────┬───┬────────────┐
        │ id │ one        │ … │ three      │
        ├────┼────────────┼───┼────────────┤
        │  1 │ a text th… │ … │ a text th… │
        └────┴────────────┴───┴────────────┘
        ");
        assert_eq!(drawing.hidden, 1);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(
            rows in proptest::collection::vec(proptest::collection::vec("[a-z東é🎉\n\t ]{0,30}", 5), 0..4),
            figures in proptest::collection::vec(any::<bool>(), 5),
            screen in 30_usize..120,
        ) {
            let mut table = TextTable::new(figures.iter().enumerate().map(|(index, figures)| (format!("c{index}"), *figures)));
            for row in &rows {
                table.push(row.iter().cloned());
            }
            let drawing = table.draw(Some(screen));
            prop_assert_eq!(drawing.text.lines().count(), rows.len() + 4);
            let widths: Vec<usize> = drawing.text.lines().map(UnicodeWidthStr::width).collect();
            prop_assert!(widths.iter().all(|width| *width == widths[0] && *width <= screen), "{}", drawing.text);
        }
    }
}
