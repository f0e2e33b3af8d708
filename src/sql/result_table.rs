//! A result as a text table. In: batches. Out: the wanted number of rows, drawn page by page, and the number of rows there are. It must not
//! hold more than a page.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::text_table::TextTable;
use crate::console::{self, thousands};
use crate::error::Cause;
use crate::sanitize::{escaped_lines, without_secrets};

/// How many rows beyond those shown a table counts.
const COUNTED: usize = 100_000;
/// Rows per page of a table that shows all rows.
const PAGE: usize = 1000;

/// The destination of rows.
pub(super) type Sink = Box<dyn Write + Send>;

/// The layout of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableOptions {
    /// Maximum number of rows shown; 0 for all.
    pub(super) rows: usize,
    /// Whether it shows one line per column of a row.
    pub(super) records: bool,
    /// Whether it is written to a file, with all rows and columns, or fits the width of the screen.
    pub(super) in_file: bool,
    /// Whether a shell shows it.
    pub(super) shell: bool,
}

/// A result as a table.
pub(super) struct Table {
    page: TextTable,
    sink: Sink,
    screen: Option<usize>,
    records: bool,
    shell: bool,
    /// Maximum number of rows shown.
    limit: usize,
    counted: usize,
    drawn: usize,
    hidden: usize,
    /// Whether it is a query plan, whose lines are printed unchanged.
    plan: bool,
}

impl Table {
    /// Begins a table.
    pub(super) fn new(options: TableOptions, schema: &SchemaRef, sink: Sink) -> Self {
        let figures = |field: &Arc<Field>| field.data_type().is_numeric();
        let page = TextTable::new(schema.fields().iter().map(|field| (field.name().clone(), figures(field))));
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Self {
            page,
            sink,
            screen: (!options.in_file).then(console::width).flatten(),
            records: options.records,
            shell: options.shell,
            limit: if options.in_file || options.rows == 0 { usize::MAX } else { options.rows },
            counted: 0,
            drawn: 0,
            hidden: 0,
            plan: names == ["plan_type", "plan"],
        }
    }

    /// Adds rows, and returns whether more are needed.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<bool, Cause> {
        let options = FormatOptions::new()
            .with_null("NULL")
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        let wanted = self.limit.saturating_sub(self.counted).min(batch.num_rows());
        for row in 0..wanted {
            if self.plan {
                let plan = columns[1].value(row).to_string();
                // A plan names the files that it reads, with their URLs.
                writeln!(self.sink, "{}\n{}", columns[0].value(row), escaped_lines(&without_secrets(plan.trim_end())))?;
                continue;
            }
            let cells = columns.iter().map(|column| column.value(row).try_to_string());
            self.page.push(cells.collect::<Result<Vec<_>, _>>()?.into_iter());
            if self.page.len() >= PAGE {
                self.draw()?;
            }
        }
        self.counted += batch.num_rows();
        Ok(self.counted.saturating_sub(COUNTED) < self.limit)
    }

    fn draw(&mut self) -> std::io::Result<()> {
        if self.records {
            self.sink.write_all(self.page.draw_records(self.drawn + 1).as_bytes())?;
        } else {
            let drawing = self.page.draw(self.screen);
            self.sink.write_all(drawing.text.as_bytes())?;
            self.hidden = self.hidden.max(drawing.hidden);
        }
        self.drawn += self.page.len();
        self.page.clear();
        Ok(())
    }

    /// Draws the remaining rows, and writes the number of rows and, if known, the duration.
    pub(super) fn finish(mut self, time: Option<Duration>) -> Result<(), Cause> {
        if self.plan {
            return Ok(self.sink.flush()?);
        }
        if self.page.len() > 0 || (self.drawn == 0 && !self.records) {
            self.draw()?;
        }
        let all = if self.shell { "\\rows 0" } else { "--rows 0" };
        let number = thousands(self.counted as u64);
        let mut footer = vec![match self.counted {
            1 => "1 row".to_owned(),
            counted if counted <= self.limit => format!("{number} rows"),
            counted => {
                let enough = counted.saturating_sub(COUNTED) >= self.limit;
                let total = if enough { format!("more than {}", thousands(COUNTED as u64)) } else { number };
                format!("first {} of {total} rows; {all} shows all", thousands(self.limit as u64))
            }
        }];
        if self.hidden > 0 {
            footer.push(format!("{} column(s) do not fit on the screen", self.hidden));
        }
        footer.extend(time.map(console::short_time));
        writeln!(self.sink, "({})", footer.join("; "))?;
        Ok(self.sink.flush()?)
    }
}
