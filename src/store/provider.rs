//! A store's table for SQL. In: a snapshot of the table's log. Out: a scan of exactly the snapshot's files, without those whose
//! statistics exclude every row. It must not list folders or write.
//!
//! We do not use the provider of `deltalake-core`: without a filter it gives the planner no column statistics, so `max(commit)` in the
//! views would read every file; and its feature `datafusion` adds 16 crates and `DataFusion`'s default features to the build.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake_core::kernel::{EagerSnapshot, LogicalFileView};
use object_store::ObjectMeta;
use serde_json::Value;

use crate::error::Error;
use crate::source::location::StoreLocation;
use crate::store::log::features;
use crate::tables::Table;

/// One version of a table. It is readable until its files are removed.
#[derive(Debug)]
pub struct StoreTable {
    schema: SchemaRef,
    file_schema: SchemaRef,
    objects: ObjectStoreUrl,
    files: Vec<PartitionedFile>,
}

impl StoreTable {
    /// The table at the version of `snapshot`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a file has a deletion vector, [`Error::Store`] if one has no valid time or a negative size in the log.
    pub fn try_new(
        location: &StoreLocation,
        table: Table,
        id_type: &DataType,
        snapshot: &EagerSnapshot,
    ) -> crate::error::Result<Self> {
        let file_schema = table.file_schema(id_type);
        let mut files = Vec::new();
        for file in snapshot.log_data().iter() {
            features::check_file(&location.to_string(), table, &file)?;
            let file = partitioned_file(location, table, &file_schema, &file).map_err(|cause| Error::Store {
                doing: "read".to_owned(),
                store: location.to_string(),
                source: cause,
            })?;
            files.push(file);
        }
        Ok(Self { schema: table.schema(id_type), file_schema, objects: location.object_store_url()?, files })
    }

    /// The files that can hold rows which pass `filters`.
    fn matching(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<PartitionedFile>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(self.files.clone()) };
        let columns = DFSchema::try_from(Arc::clone(&self.schema))?;
        let Ok(predicate) = state.create_physical_expr(filter, &columns).and_then(|filter| {
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema)).try_build(filter)
        }) else {
            return Ok(self.files.clone()); // not every filter can be checked against minimum and maximum values
        };
        let unknown = Arc::new(Statistics::new_unknown(&self.schema));
        let statistics = self.files.iter().map(|file| file.statistics.as_ref().unwrap_or(&unknown));
        let keep =
            predicate.prune(&PrunableStatistics::new(statistics.cloned().collect(), Arc::clone(&self.schema)))?;
        Ok(self.files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }

    /// The merged statistics of `files` for the planner. Another writer can truncate long strings in its statistics, so for
    /// strings they are good for skipping files, but are not exact answers to `min` and `max`.
    fn statistics(&self, files: &[PartitionedFile]) -> Result<Statistics> {
        let unknown = Statistics::new_unknown(&self.schema);
        let each = files.iter().map(|file| file.statistics.as_deref().unwrap_or(&unknown));
        let mut total = Statistics::try_merge_iter(each, &self.schema)?;
        for (column, field) in total.column_statistics.iter_mut().zip(self.file_schema.fields()) {
            if field.data_type() == &DataType::Utf8 {
                *column = column.clone().to_inexact();
            }
        }
        Ok(total)
    }
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.matching(state, filters)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let partition: Vec<_> = self.schema.fields().iter().skip(self.file_schema.fields().len()).cloned().collect();
        let source = ParquetSource::new(
            TableSchema::builder(Arc::clone(&self.file_schema)).with_table_partition_cols(partition).build(),
        );
        let statistics = self.statistics(&files)?;
        let scan = FileScanConfigBuilder::new(self.objects.clone(), Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(state.config().target_partitions().max(1)))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_statistics(statistics)
            .build();
        let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
        format.create_physical_plan(state, scan).await
    }
}

fn partitioned_file(
    location: &StoreLocation,
    table: Table,
    file_schema: &SchemaRef,
    file: &LogicalFileView,
) -> std::result::Result<PartitionedFile, crate::error::Cause> {
    let meta = ObjectMeta {
        location: location.table_path(table).parts().chain(file.object_store_path().parts()).collect(),
        last_modified: file.modification_datetime()?,
        size: file.size().try_into()?,
        e_tag: None,
        version: None,
    };
    let mut partitioned = PartitionedFile::new_from_meta(meta);
    if let Some(column) = table.partition_column() {
        let value = file.partition_values_map().remove(column).flatten();
        partitioned = partitioned.with_partition_values(vec![ScalarValue::Utf8(value)]);
    }
    Ok(match file.stats().and_then(|stats| serde_json::from_str::<Value>(&stats).ok()) {
        Some(stats) => partitioned.with_statistics(Arc::new(file_statistics(&stats, file.size(), file_schema))),
        None => partitioned,
    })
}

/// Converts a file's Delta statistics (Delta protocol, "Per-file Statistics") to the planner's.
fn file_statistics(stats: &Value, size: i64, file_schema: &SchemaRef) -> Statistics {
    let exact = |value: Option<&Value>| {
        value.and_then(Value::as_u64).map_or(Precision::Absent, |count| Precision::Exact(count as usize))
    };
    let columns = file_schema.fields().iter().map(|field| {
        let scalar = |group: &str| {
            let value = stats.get(group).and_then(|group| group.get(field.name()));
            value.and_then(|value| scalar(value, field.data_type())).map_or(Precision::Absent, Precision::Exact)
        };
        ColumnStatistics {
            null_count: exact(stats.get("nullCount").and_then(|counts| counts.get(field.name()))),
            min_value: scalar("minValues"),
            max_value: scalar("maxValues"),
            ..ColumnStatistics::new_unknown()
        }
    });
    Statistics {
        num_rows: exact(stats.get("numRecords")),
        total_byte_size: Precision::Inexact(size.max(0) as usize),
        column_statistics: columns.collect(),
    }
}

fn scalar(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Utf8 => value.as_str().map(ScalarValue::from),
        DataType::Int32 => value.as_i64().and_then(|value| i32::try_from(value).ok()).map(ScalarValue::from),
        DataType::Int64 => value.as_i64().map(ScalarValue::from),
        _ => None,
    }
}
