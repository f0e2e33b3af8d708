//! Parquet files as a table. In: files, each with the rows to read and the values of its folders' names. Out: DataFusion's own scan of them,
//! in file order, in one partition. It must not know our columns.

use std::sync::Arc;

use arrow::datatypes::{Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use crate::source::listing::Format;

/// The table: the columns of the files, then those of the folders' names.
#[derive(Debug)]
pub(super) struct ParquetFiles {
    /// The files' object store.
    pub(super) objects: ObjectStoreUrl,
    /// The columns of the files that are read.
    pub(super) columns: SchemaRef,
    /// The columns of the folders' names.
    pub(super) folders: Fields,
    /// The files, in the order in which they are read.
    pub(super) files: Vec<PartitionedFile>,
}

#[async_trait]
impl TableProvider for ParquetFiles {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.fields().iter().chain(&self.folders).cloned().collect::<Fields>()))
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
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let reader = Format::Parquet.reader();
        let columns = TableSchema::builder(Arc::clone(&self.columns))
            .with_table_partition_cols(self.folders.iter().cloned().collect::<Vec<_>>());
        let source = reader.file_source(columns.build());
        // With work stealing, files come in any order and are consumed by the plan's first execution.
        let scan = FileScanConfigBuilder::new(self.objects.clone(), source)
            .with_preserve_order(true)
            .with_file_groups(vec![FileGroup::new(self.files.clone())])
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        reader.create_physical_plan(state, scan).await
    }
}
