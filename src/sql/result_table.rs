//! A result as a table for people. In: batches. Out: so many rows as are wanted, drawn in pieces, and how many there are. It may not hold
//! more than a piece.

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

/// How many rows beyond those it shows a table counts.
const COUNTED: usize = 100_000;
/// How many rows of a table that shows all are drawn in one piece.
const PAGE: usize = 1000;

/// Where rows go.
pub(super) type Sink = Box<dyn Write + Send>;

/// How a table looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// How many rows it shows; 0 for all.
    pub(super) rows: usize,
    /// Whether it has a line for every column of a row.
    pub(super) records: bool,
    /// Whether it goes into a file, where it has all rows and columns, or keeps to the width of the screen.
    pub(super) in_file: bool,
    /// Whether it is a shell's.
    pub(super) shell: bool,
}

/// A result as a table.
pub(super) struct Table {
    grid: TextTable,
    sink: Sink,
    screen: Option<usize>,
    records: bool,
    shell: bool,
    /// How many rows are shown.
    limit: usize,
    counted: usize,
    drawn: usize,
    hidden: usize,
    /// Whether it is a plan, whose lines are printed as they are.
    plan: bool,
}

impl Table {
    /// Begins a table.
    pub(super) fn new(look: Look, schema: &SchemaRef, sink: Sink) -> Self {
        let figures = |field: &Arc<Field>| field.data_type().is_numeric();
        let grid = TextTable::new(schema.fields().iter().map(|field| (field.name().clone(), figures(field))));
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Self {
            grid,
            sink,
            screen: (!look.in_file).then(console::width).flatten(),
            records: look.records,
            shell: look.shell,
            limit: if look.in_file || look.rows == 0 { usize::MAX } else { look.rows },
            counted: 0,
            drawn: 0,
            hidden: 0,
            plan: names == ["plan_type", "plan"],
        }
    }

    /// Takes rows; says whether more are wanted.
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
                writeln!(self.sink, "{}\n{}", columns[0].value(row), columns[1].value(row).to_string().trim_end())?;
                continue;
            }
            let cells = columns.iter().map(|column| column.value(row).try_to_string());
            self.grid.push(cells.collect::<Result<Vec<_>, _>>()?.into_iter());
            if self.grid.len() >= PAGE {
                self.draw()?;
            }
        }
        self.counted += batch.num_rows();
        Ok(self.counted.saturating_sub(COUNTED) < self.limit)
    }

    fn draw(&mut self) -> std::io::Result<()> {
        if self.records {
            self.sink.write_all(self.grid.draw_records(self.drawn + 1).as_bytes())?;
        } else {
            let drawing = self.grid.draw(self.screen);
            self.sink.write_all(drawing.text.as_bytes())?;
            self.hidden = self.hidden.max(drawing.hidden);
        }
        self.drawn += self.grid.len();
        self.grid.clear();
        Ok(())
    }

    /// Draws what is left and says how many rows there are and, where it is known, how long they took.
    pub(super) fn finish(mut self, time: Option<Duration>) -> Result<(), Cause> {
        if self.plan {
            return Ok(self.sink.flush()?);
        }
        if self.grid.len() > 0 || (self.drawn == 0 && !self.records) {
            self.draw()?;
        }
        let all = if self.shell { "\\rows 0" } else { "--rows 0" };
        let number = thousands(self.counted as u64);
        let mut said = vec![match self.counted {
            1 => "1 row".to_owned(),
            counted if counted <= self.limit => format!("{number} rows"),
            counted => {
                let enough = counted.saturating_sub(COUNTED) >= self.limit;
                let total = if enough { format!("more than {}", thousands(COUNTED as u64)) } else { number };
                format!("first {} of {total} rows; {all} shows all", thousands(self.limit as u64))
            }
        }];
        if self.hidden > 0 {
            said.push(format!("{} column(s) do not fit the screen", self.hidden));
        }
        said.extend(time.map(console::short_time));
        writeln!(self.sink, "({})", said.join("; "))?;
        Ok(self.sink.flush()?)
    }
}
