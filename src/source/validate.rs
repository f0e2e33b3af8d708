//! Listed files → the job's documents. In: files of one format, the columns that the job names. Out: which files can be read and why
//! others cannot, with their rows where their metadata tell. It may not read a row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::source::columns::difference;
use crate::source::corrupt_file::is_of_the_store;
use crate::source::input::{Documents, InputSpec, bad_filter};
use crate::source::listing::{Format, Listing, SourceFile, refused, store_of};
use crate::source::plan_error::first_line;
use crate::source::row_number::RowCounts;
use crate::tables;

/// Files whose metadata are read at the same time.
const INSPECTED_AT_ONCE: usize = 16;

impl Documents {
    /// Reads the files' metadata and checks their columns. Where not one file can be read it is an error, unless `known` files
    /// of the input have been read before.
    ///
    /// # Errors
    /// [`Error::Input`] for that, [`Error::Setting`] for a condition that is none, [`Error::Engine`] where the store
    /// of the files does not answer.
    pub async fn inspect(context: &SessionContext, spec: InputSpec, listing: Listing, known: usize) -> Result<Self> {
        let (state, format, reader) = (context.state(), listing.format, listing.format.reader());
        let objects =
            store_of(context, &listing.objects).map_err(|reason| refused(&spec.documents, reason, "check the path"))?;
        let inspected = futures::stream::iter(listing.files.clone()).map(|file| {
            let (state, reader, objects) = (&state, &reader, &objects);
            async move {
                if file.meta.size == 0 {
                    return Ok((file, Err("the file is empty".to_owned())));
                }
                // A store that does not answer says nothing about its files.
                let unanswered = |error: DataFusionError| Error::Engine {
                    doing: format!("read `{}`", file.path),
                    source: error.into(),
                };
                let schema = match format.columns(state, objects, std::slice::from_ref(&file.meta)).await {
                    Ok(schema) => schema,
                    Err(error) if is_of_the_store(&error) => return Err(unanswered(error)),
                    Err(error) => return Ok((file, Err(unreadable(&error)))),
                };
                let rows = match reader.infer_stats(state, objects, Arc::clone(&schema), &file.meta).await {
                    Ok(statistics) => statistics.num_rows.get_value().copied(),
                    Err(error) if is_of_the_store(&error) => return Err(unanswered(error)),
                    Err(_) => None,
                };
                Ok((SourceFile { rows: rows.map(|rows| rows as i64), ..file }, Ok(schema)))
            }
        });
        let inspected: Vec<_> = inspected.buffered(INSPECTED_AT_ONCE).try_collect().await?;
        let mut found = Self {
            schema: Arc::new(Schema::empty()),
            files: Vec::new(),
            unreadable: Vec::new(),
            id_type: DataType::Utf8,
            counts: RowCounts::default(),
            spec,
            listing,
        };
        for (file, schema) in inspected {
            match schema.and_then(|schema| found.admit(&schema)) {
                Ok(()) => found.files.push(file),
                Err(reason) => found.unreadable.push((file, reason)),
            }
        }
        if let (true, 0, Some((file, reason))) = (found.files.is_empty(), known, found.unreadable.first()) {
            let alone = file.path.ends_with(&found.spec.documents);
            let reason = if alone { reason.clone() } else { format!("`{}`: {reason}", file.path) };
            return Err(refused(&found.spec.documents, reason, "correct `[input] id` and `text`, or mend the file"));
        }
        if let (Some(filter), false) = (&found.spec.filter, found.files.is_empty()) {
            found.condition(context, filter).map_err(|error| bad_filter(&error))?;
        }
        Ok(found)
    }

    /// Checks a file's columns; the first file that passes says what the others must be.
    fn admit(&mut self, schema: &SchemaRef) -> Result<(), String> {
        let column = |key: &str, name: &str| {
            schema.field_with_name(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                format!("it has no column `{name}` (`[input] {key}`), only {}", names.join(", "))
            })
        };
        let id = column("id", &self.spec.id)?.data_type();
        let id_type = tables::id_type(id).ok_or_else(|| {
            format!("column `{}` (`[input] id`) is {id}, expected a string or an integer", self.spec.id)
        })?;
        let text = column("text", &self.spec.text)?.data_type();
        if !matches!(text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(format!("column `{}` (`[input] text`) is {text}, expected a string", self.spec.text));
        }
        if self.files.is_empty() {
            self.id_type = id_type;
            self.schema = Arc::clone(schema);
        } else if id_type != self.id_type {
            return Err(format!(
                "column `{}` (`[input] id`) is {id}, in the files before it {}",
                self.spec.id, self.id_type
            ));
        } else if self.listing.format == Format::Csv
            && let Some(difference) = difference(&self.schema, schema)
        {
            // Its columns are read by their places.
            return Err(format!("its header is not that of the files before it: {difference}"));
        } else if let Ok(merged) = Schema::try_merge([self.schema.as_ref().clone(), schema.as_ref().clone()]) {
            // Columns the filter names may be in some files only; a type that differs stays that of the first.
            self.schema = Arc::new(merged);
        }
        Ok(())
    }
}

/// Why a file cannot be read.
fn unreadable(error: &DataFusionError) -> String {
    let reason = first_line(error);
    if reason.contains("Range request not supported") {
        return "its server does not send parts of a file, which Parquet needs: download it first".to_owned();
    }
    reason
}
