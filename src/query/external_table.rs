//! Data files → a table in the session. In: a path, glob or URL, and the expected columns. Out: a registered table with checked
//! columns. It must not read rows.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::{Error, Result};
use crate::machine::panics::contain_future;
use crate::source::columns::difference;
use crate::source::columns::types::common_schema;
use crate::source::corrupt_file::is_of_the_store;
use crate::source::listing::{Compression, Format, Listing, store_of};
use crate::source::operator::contain_panics::ContainPanicsExec;
use crate::source::plan_error::first_line;
use crate::tables;

/// The columns of a table of mentions that are strings in CSV, whatever they look like.
pub const MENTION_STRINGS: [&str; 3] = ["doc_id", "entity_type", "text"];

/// Files whose columns are read concurrently.
const CONCURRENT_FILES: usize = 16;

/// A table in files, and its purpose.
#[derive(Debug, Clone, Copy)]
pub struct ExternalTable<'a> {
    /// The table's name in the session.
    pub table: &'a str,
    /// What it holds, for error messages: `gold mentions`.
    pub what: &'a str,
    /// A file, folder, glob or URL of Parquet, JSON Lines or CSV files.
    pub location: &'a str,
}

impl ExternalTable<'_> {
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
        self.refuse(
            first_line(error),
            "check that the files are complete and of one format, and that you may read them",
        )
    }

    /// Lists the files, reads their columns and registers them as one table. Replaces a table of that name. In CSV, the ids and texts of
    /// a table of mentions are strings.
    pub async fn register(&self, context: &SessionContext) -> Result<SchemaRef> {
        self.register_with_strings(context, &MENTION_STRINGS).await
    }

    /// Like [`ExternalTable::register`], with these columns as strings in CSV.
    pub async fn register_with_strings(&self, context: &SessionContext, strings: &[&str]) -> Result<SchemaRef> {
        let (schema, provider) = self.table(context, strings).await?;
        context.deregister_table(self.table).map_err(|error| self.failed(&error))?;
        context.register_table(self.table, provider).map_err(|error| self.failed(&error))?;
        Ok(schema)
    }

    /// Lists the files and reads their columns; the columns `strings` of CSV are strings, whatever they look like.
    pub async fn table(
        &self,
        context: &SessionContext,
        strings: &[&str],
    ) -> Result<(SchemaRef, Arc<dyn TableProvider>)> {
        let failed = |error: DataFusionError| self.failed(&error);
        let Listing { format, objects: root, files, unusable, .. } =
            Listing::find(context, self.location).await.map_err(|error| match error {
                Error::Input { reason, hint, .. } | Error::Setting { reason, hint, .. } => self.refuse(reason, hint),
                // The object store does not answer.
                other => other,
            })?;
        if let Some((file, reason)) = unusable.first() {
            return Err(self.refuse(format!("`{}`: {reason}", file.path), "or name the others with a glob"));
        }
        let files: Vec<ObjectMeta> = files.into_iter().map(|file| file.meta).collect();
        if let Some(empty) = files.iter().find(|file| file.size == 0) {
            let reason = format!("the file `{}` is empty", empty.location.filename().unwrap_or_default());
            return Err(self.refuse(reason, "even a table without rows has columns: write it again"));
        }
        if let Some(other) = files.iter().find(|file| Compression::of(file.location.as_ref()) != Compression::None) {
            let reason = format!("`{}` is compressed", other.location.filename().unwrap_or_default());
            return Err(
                self.refuse(reason, "decompress it with `gunzip` or `unzstd`; only `quarry run` reads it as it is")
            );
        }
        let objects = store_of(context, &root).map_err(|reason| self.refuse(reason, "check the path"))?;
        let schema = self.columns(&context.state(), &objects, format, &files).await?;
        let schema = Arc::new(if format == Format::Csv { with_strings(&schema, strings) } else { schema });
        let urls = files.iter().map(|file| url_of(&root, &file.location)).collect::<Result<Vec<_>, _>>();
        let config = ListingTableConfig::new_with_multi_paths(urls.map_err(failed)?)
            .with_listing_options(ListingOptions::new(format.reader()).with_file_extension(""))
            .with_schema(Arc::clone(&schema));
        let table = ListingTable::try_new(config).map_err(failed)?;
        let provider: Arc<dyn TableProvider> = Arc::new(ContainedTable(table));
        Ok((schema, provider))
    }

    /// The columns of one file.
    async fn columns_of(
        &self,
        state: &dyn Session,
        objects: &Arc<dyn ObjectStore>,
        format: Format,
        file: &ObjectMeta,
    ) -> Result<SchemaRef> {
        let columns = format.engine_columns(state, objects, file).await;
        columns.map_err(|error| {
            if is_of_the_store(&error) {
                return Error::Engine { doing: format!("read `{}`", file.location), source: error.into() };
            }
            let reason = format!("`{}`: {}", file.location.filename().unwrap_or_default(), first_line(&error));
            self.refuse(reason, "repair the file, or name the others with a glob")
        })
    }

    /// The columns of all files, each with a type for all of them. DataFusion reads CSV columns by position, so all CSV files must have
    /// the same header.
    async fn columns(
        &self,
        state: &dyn Session,
        objects: &Arc<dyn ObjectStore>,
        format: Format,
        files: &[ObjectMeta],
    ) -> Result<Schema> {
        let columns: Vec<BoxFuture<'_, Result<SchemaRef>>> =
            files.iter().map(|file| self.columns_of(state, objects, format, file).boxed()).collect();
        let mut columns = futures::stream::iter(columns).buffered(CONCURRENT_FILES);
        let (mut all, mut number) = (Schema::empty(), 0);
        let mut first: Option<SchemaRef> = None;
        while let Some(schema) = columns.next().await {
            let (schema, file) = (schema?, &files[number]);
            number += 1;
            let Some(first) = &first else {
                all = schema.as_ref().clone();
                first = Some(schema);
                continue;
            };
            if format == Format::Csv
                && let Some(difference) = difference(first, &schema)
            {
                return Err(self.refuse(
                    format!("`{}` and `{}` have different headers: {difference}", files[0].location, file.location),
                    "write the same columns in the same order into all of them, or name one kind with a glob",
                ));
            }
            all = match common_schema(&all, &schema) {
                Ok(common) => common,
                // Text is text, whatever one file's first records look like.
                Err(column) if format == Format::Csv => {
                    common_schema(&with_strings(&all, &[&column]), &with_strings(&schema, &[&column])).unwrap_or(all)
                }
                Err(column) => {
                    let of =
                        |schema: &Schema| schema.field_with_name(&column).map(|field| field.data_type().to_string());
                    let (one, other) = (of(&all).unwrap_or_default(), of(&schema).unwrap_or_default());
                    return Err(self.refuse(
                        format!("column `{column}` is {other} in `{}` and {one} in the files before it", file.location),
                        "write the column with one type into all of them, or name one kind with a glob",
                    ));
                }
            };
        }
        Ok(all)
    }

    /// Checks that `schema` has the column `name` with values of `kind`.
    pub fn expect(&self, schema: &SchemaRef, name: &str, kind: Kind, hint: &str) -> Result<()> {
        let Ok(field) = schema.field_with_name(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(self.refuse(format!("there is no column `{name}`, only {}", names.join(", ")), hint));
        };
        let found = field.data_type();
        if kind.accepts(found) {
            return Ok(());
        }
        Err(self.refuse(format!("column `{name}` is {found}, expected {}", kind.description()), hint))
    }
}

/// The kinds of values a column can be required to have.
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
    fn accepts(self, found: &DataType) -> bool {
        let value_type = match found {
            DataType::Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        // A column of nulls, as an empty data frame writes it, is accepted for every kind.
        match (self, value_type) {
            (_, DataType::Null) => true,
            (Self::Id, value_type) => tables::id_type(value_type).is_some() || value_type.is_integer(),
            (Self::Text, value_type) => value_type.is_string(),
            (Self::Integer, value_type) => value_type.is_integer(),
            (Self::Number, value_type) => value_type.is_numeric(),
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Id => "a string or an integer",
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
        }
    }
}

/// A schema in which some columns are strings.
fn with_strings(schema: &Schema, names: &[&str]) -> Schema {
    let field = |field: &FieldRef| {
        let found = names.contains(&field.name().as_str());
        if found { Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)) } else { Arc::clone(field) }
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// A table of files whose readers can panic on damaged ones.
#[derive(Debug)]
struct ContainedTable(ListingTable);

#[async_trait]
impl TableProvider for ContainedTable {
    fn schema(&self) -> SchemaRef {
        TableProvider::schema(&self.0)
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        // It reads the files' statistics.
        let plan = contain_future(self.0.scan(state, projection, filters, limit)).await??;
        Ok(Arc::new(ContainPanicsExec::new(plan)))
    }
}

/// The URL of an object, with every byte escaped that has another meaning in a URL or glob.
fn url_of(root: &ObjectStoreUrl, location: &Path) -> Result<ListingTableUrl, DataFusionError> {
    let mut url = root.as_str().to_owned();
    for byte in location.as_ref().bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    ListingTableUrl::parse(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::session::{SessionSettings, session};
    use crate::query::statement;

    /// How many rows the files at `location` have, or why they are not a table.
    async fn count(context: &SessionContext, location: &str) -> Result<usize> {
        ExternalTable { table: "files", what: "files", location }.register(context).await?;
        statement::count(context, "SELECT count(*) FROM files").await
    }

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[tokio::test]
    async fn files_are_listed_as_for_a_run() {
        let one = "id,body\n1,x\n";
        let files = [
            ("dt=1/a.csv", one),
            ("dt=2/a.csv", one),
            ("dt=2/_delta_log/0.json", "{}"),
            ("_temporary/b.csv", one),
            ("dt=1/deep/c.csv", one),
        ];
        let (folder, context) = (folder(&files), session(&SessionSettings::default()).unwrap());
        let root = folder.path().to_str().unwrap();
        assert_eq!(count(&context, root).await.unwrap(), 3);
        assert_eq!(count(&context, &format!("{root}/dt=*/*.csv")).await.unwrap(), 2);
        let error = count(&context, &format!("{root}/dt=*/*.parquet")).await.unwrap_err();
        assert!(error.to_string().ends_with("there is no Parquet, JSON Lines or CSV file"), "{error}");
        assert!(matches!(&error, Error::Table { what, .. } if what == "files"), "{error:?}");
    }

    #[tokio::test]
    async fn any_file_name_is_accepted() {
        let names = ["a#1.csv", "a%41.csv", "a b+c.csv", "für.csv", "q&a=1.csv", "50%.csv"];
        let (folder, context) =
            (folder(&names.map(|name| (name, "id\n1\n"))), session(&SessionSettings::default()).unwrap());
        for name in names {
            assert_eq!(count(&context, folder.path().join(name).to_str().unwrap()).await.unwrap(), 1, "{name}");
        }
        assert_eq!(count(&context, folder.path().to_str().unwrap()).await.unwrap(), names.len());
    }

    #[tokio::test]
    async fn csv_files_with_different_headers_are_refused() {
        let (one, turned, more) = ("id,body\n1,x\n", "body,id\nx,1\n", "id,body,lang\n1,x,en\n");
        let context = session(&SessionSettings::default()).unwrap();
        for (other, column) in [
            (turned, "column 1 is `id` in the first and `body` in the second"),
            (more, "column 3 is not there in the first and `lang` in the second"),
        ] {
            let folder = folder(&[("a.csv", one), ("b.csv", other)]);
            let error = count(&context, folder.path().to_str().unwrap()).await.unwrap_err().to_string();
            assert!(error.contains("a.csv` and `") && error.contains("b.csv` have different headers: "), "{error}");
            assert!(error.ends_with(column), "{error}");
        }
        let folder = folder(&[("a.csv", one), ("b.csv", one)]);
        assert_eq!(count(&context, folder.path().to_str().unwrap()).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_folder_is_listed_each_time() {
        let (folder, context) = (folder(&[("a.csv", "id\n1\n")]), session(&SessionSettings::default()).unwrap());
        let root = folder.path().to_str().unwrap();
        assert_eq!(count(&context, root).await.unwrap(), 1);
        std::fs::write(folder.path().join("b.csv"), "id\n2\n").unwrap();
        assert_eq!(count(&context, root).await.unwrap(), 2);
        std::fs::remove_file(folder.path().join("a.csv")).unwrap();
        assert_eq!(count(&context, root).await.unwrap(), 1);
    }
}
