//! Data files → a table in the session. In: a path, glob or URL, and what is expected there. Out: a table under a name, and its
//! columns checked. It may not read a row.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::ObjectMeta;

use super::listing::{Format, listing_url};
use crate::error::{Error, Result};
use crate::tables;

/// Files that hold a table, and what they are for.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// The table's name in the session.
    pub table: &'a str,
    /// What it is to the reader of an error: `gold mentions`.
    pub what: &'a str,
    /// A file, folder, glob or URL of Parquet, JSON Lines or CSV files.
    pub location: &'a str,
}

impl Attachment<'_> {
    /// An error about these files.
    pub fn refuse(&self, reason: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Table {
            what: self.what.to_owned(),
            location: self.location.to_owned(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    fn failed(&self, error: &DataFusionError) -> Error {
        self.refuse(first_line(error), "check that the files are whole, of one format, and that you may read them")
    }

    /// Lists the files, reads their columns and registers them as one table; a table of that name is replaced.
    pub async fn register(&self, context: &SessionContext) -> Result<SchemaRef> {
        let (schema, provider) = self.table(context).await?;
        context.deregister_table(self.table).map_err(|error| self.failed(&error))?;
        context.register_table(self.table, provider).map_err(|error| self.failed(&error))?;
        Ok(schema)
    }

    /// Lists the files and reads their columns.
    pub async fn table(&self, context: &SessionContext) -> Result<(SchemaRef, Arc<dyn TableProvider>)> {
        let failed = |error: DataFusionError| self.failed(&error);
        let (base, _) = listing_url(context, self.location)
            .map_err(|error| self.refuse(cause(&error), error.hint().unwrap_or_default()))?;
        let state = context.state();
        let objects = context.runtime_env().object_store(&base).map_err(failed)?;
        let listed = base.list_all_files(&state, objects.as_ref(), "").await.map_err(failed)?;
        let mut files: Vec<ObjectMeta> = listed.try_collect().await.map_err(failed)?;
        files.retain(|file| file.location.filename().is_some_and(|name| !name.starts_with(['.', '_'])));
        if base.is_collection() {
            files.retain(|file| Format::of(file.location.as_ref()).is_some());
        }
        files.sort_by(|a, b| a.location.cmp(&b.location));
        let endings = "files are known by their ending: .parquet, .jsonl, .ndjson, .json or .csv";
        let Some(first) = files.first() else {
            return Err(self.refuse("there is no Parquet, JSON Lines or CSV file", endings));
        };
        let format = Format::of(first.location.as_ref())
            .ok_or_else(|| self.refuse(format!("`{}` has an unknown ending", first.location), endings))?;
        if let Some(other) = files.iter().find(|file| Format::of(file.location.as_ref()) != Some(format)) {
            let reason = format!("`{}` and `{}` are of different formats", first.location, other.location);
            return Err(self.refuse(reason, "name one kind with a glob, such as *.parquet"));
        }
        if let Some(empty) = files.iter().find(|file| file.size == 0) {
            let reason = format!("the file `{}` is empty", empty.location.filename().unwrap_or_default());
            return Err(self.refuse(reason, "even a table without rows has columns: write it again"));
        }
        let reader: Arc<dyn FileFormat> = format.reader();
        let schema = format.columns(&state, &objects, &files).await.map_err(failed)?;
        let root = base.object_store();
        let urls = files.iter().map(|file| ListingTableUrl::parse(format!("{}{}", root.as_str(), file.location)));
        let urls = urls.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(ListingOptions::new(reader).with_file_extension(""))
            .with_schema(Arc::clone(&schema));
        let provider = ListingTable::try_new(config).map_err(failed)?;
        Ok((schema, Arc::new(provider)))
    }

    /// Checks that `schema` has a column of the kind.
    pub fn expect(&self, schema: &SchemaRef, name: &str, kind: Kind, hint: &str) -> Result<()> {
        let Ok(field) = schema.field_with_name(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(self.refuse(format!("there is no column `{name}`, only {}", names.join(", ")), hint));
        };
        let found = field.data_type();
        if kind.takes(found) {
            return Ok(());
        }
        Err(self.refuse(format!("column `{name}` is {found}, expected {}", kind.words()), hint))
    }
}

/// What a column may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Strings or integers.
    Id,
    /// Strings.
    Text,
    /// Integers.
    Integer,
    /// Any number.
    Number,
}

impl Kind {
    fn takes(self, found: &DataType) -> bool {
        let plain = match found {
            DataType::Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        // A column of nulls only, as an empty data frame has it, is of any kind.
        match (self, plain) {
            (_, DataType::Null) => true,
            (Self::Id, plain) => tables::id_type(plain).is_some() || plain.is_integer(),
            (Self::Text, plain) => matches!(plain, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
            (Self::Integer, plain) => plain.is_integer(),
            (Self::Number, plain) => plain.is_numeric(),
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Id => "a string or an integer",
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
        }
    }
}

/// What an error of another kind says, without the location that this one names itself.
fn cause(error: &Error) -> String {
    match error {
        Error::Input { reason, .. } | Error::Setting { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// The message without the plan dumps some errors carry, nor a kind said twice.
pub(super) fn first_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(": ") {
        Some((kind, rest)) if rest.starts_with(kind) => rest.to_owned(),
        _ => line.to_owned(),
    }
}
