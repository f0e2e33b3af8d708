//! Listed files → the job's documents. In: files of one format and the columns that the job names. Out: the readable files, with row
//! counts if their metadata has them, and the reasons why others are unreadable. It must not read rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::source::columns::difference;
use crate::source::corrupt_file::is_of_the_store;
use crate::source::filter::{bad_filter, condition};
use crate::source::input::{Documents, InputSpec};
use crate::source::listing::{Format, Listing, SourceFile, refused, store_of};
use crate::source::plan_error::first_line;
use crate::tables;

/// Files whose metadata is read concurrently.
const CONCURRENT_FILES: usize = 16;

impl Documents {
    /// Reads the files' metadata and checks their columns. `known` is how many files of the input were done by earlier runs.
    ///
    /// # Errors
    /// [`Error::Input`] if no file is readable and `known` is 0, [`Error::Setting`] if the filter is not a condition,
    /// [`Error::Engine`] if the object store does not answer.
    pub async fn inspect(
        context: &SessionContext,
        spec: InputSpec,
        mut listing: Listing,
        known: usize,
    ) -> Result<Self> {
        let (state, format, reader) = (context.state(), listing.format, listing.format.reader());
        let objects =
            store_of(context, &listing.objects).map_err(|reason| refused(&spec.documents, reason, "check the path"))?;
        let inspected = futures::stream::iter(std::mem::take(&mut listing.files)).map(|file| {
            let (state, reader, objects) = (&state, &reader, &objects);
            async move {
                if file.meta.size == 0 {
                    return Ok((file, Err("the file is empty".to_owned())));
                }
                // An object store that does not answer says nothing about the file.
                let unavailable = |error: DataFusionError| Error::Engine {
                    doing: format!("read `{}`", file.path),
                    source: error.into(),
                };
                let schema = match format.columns(state, objects, std::slice::from_ref(&file.meta)).await {
                    Ok(schema) => schema,
                    Err(error) if is_of_the_store(&error) => return Err(unavailable(error)),
                    Err(error) => return Ok((file, Err(unreadable(&error)))),
                };
                let rows = match reader.infer_stats(state, objects, Arc::clone(&schema), &file.meta).await {
                    Ok(statistics) => statistics.num_rows.get_value().copied(),
                    Err(error) if is_of_the_store(&error) => return Err(unavailable(error)),
                    Err(_) => None,
                };
                Ok((SourceFile { rows: rows.map(|rows| rows as i64), ..file }, Ok(schema)))
            }
        });
        let mut inspected = std::pin::pin!(inspected.buffered(CONCURRENT_FILES));
        let mut documents = Self {
            schema: Arc::new(Schema::empty()),
            files: Vec::new(),
            unreadable: Vec::new(),
            id_type: DataType::Utf8,
            counts: BTreeMap::new(),
            spec,
            listing,
        };
        // Schemas are merged as they come: of many files they would take much memory.
        while let Some((file, schema)) = inspected.try_next().await? {
            match schema.and_then(|schema| documents.check_columns(&schema)) {
                Ok(()) => documents.files.push(file),
                Err(reason) => documents.unreadable.push((file, reason)),
            }
        }
        if let (true, 0, Some((file, reason))) = (documents.files.is_empty(), known, documents.unreadable.first()) {
            let alone = file.path.ends_with(&documents.spec.documents);
            let reason = if alone { reason.clone() } else { format!("`{}`: {reason}", file.path) };
            return Err(refused(
                &documents.spec.documents,
                reason,
                "correct `[input] id` and `text`, or repair the file",
            ));
        }
        if let (Some(filter), false) = (&documents.spec.filter, documents.files.is_empty()) {
            condition(context, &documents.schema, filter).map_err(|error| bad_filter(&error))?;
        }
        Ok(documents)
    }

    /// Checks a file's columns. The first file that passes sets the types that the others must have.
    fn check_columns(&mut self, schema: &SchemaRef) -> Result<(), String> {
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
            // CSV columns are read by position.
            return Err(format!("its header is not that of the files before it: {difference}"));
        } else if let Ok(merged) = Schema::try_merge([self.schema.as_ref().clone(), schema.as_ref().clone()]) {
            // A column that the filter names can be missing in some files; of differing types the first one stays.
            self.schema = Arc::new(merged);
        }
        Ok(())
    }
}

/// The reason why a file cannot be read.
fn unreadable(error: &DataFusionError) -> String {
    let reason = first_line(error);
    if reason.contains("Range request not supported") {
        return "its server does not send parts of a file, which Parquet needs: download it first".to_owned();
    }
    reason
}
