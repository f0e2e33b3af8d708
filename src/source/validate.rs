//! Listed files → the job's documents. In: files of one format and the columns that the job names. Out: the readable files, with row
//! counts if their metadata has them, and the reasons why others are unreadable. It must not read rows, beyond a text file's first ones,
//! and columns that the job does not use must decide nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use object_store::ObjectStore;

use crate::error::{Error, Result};
use crate::source::columns::parquet_metadata;
use crate::source::columns::types::common_type;
use crate::source::corrupt_file::is_of_the_store;
use crate::source::filter::{bad_filter, condition_columns};
use crate::source::input::{Documents, InputSpec};
use crate::source::listing::{Format, Listing, SourceFile, partition_names, refused, store_of};
use crate::source::plan_error::first_line;
use crate::tables;

/// Files whose metadata is read concurrently.
const CONCURRENT_FILES: usize = 16;

/// What a file's ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdKind {
    /// All null.
    Unknown,
    Text,
    Integer,
}

/// The columns of the files so far.
#[derive(Debug)]
struct Merged {
    id: [DataType; 2],
    text: DataType,
    /// All other columns, if a condition can use them. Of types without a common one, the first stays.
    others: BTreeMap<String, DataType>,
    partitions: BTreeSet<String>,
}

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
        let state = context.state();
        let objects =
            store_of(context, &listing.objects).map_err(|reason| refused(&spec.documents, reason, "check the path"))?;
        let mut merged = Merged {
            id: [DataType::Null, DataType::Null],
            text: DataType::Null,
            others: BTreeMap::new(),
            partitions: BTreeSet::new(),
        };
        let (mut files, mut kinds, mut unreadable) = (Vec::new(), Vec::new(), listing.unusable.clone());
        let inspected = futures::stream::iter(std::mem::take(&mut listing.files))
            .map(|file| inspect_file(&state, &objects, listing.format, &spec, file));
        let mut inspected = inspected.buffered(CONCURRENT_FILES);
        while let Some(file) = inspected.next().await {
            let (file, columns) = file?;
            let checked = columns.and_then(|columns| {
                let kind = merged.add(&spec, listing.format, &columns)?;
                if spec.filter.is_some() {
                    merged.partitions.extend(partition_names(file.meta.location.as_ref()).map(str::to_owned));
                }
                Ok(kind)
            });
            match checked {
                Ok(kind) => {
                    files.push(file);
                    kinds.push(kind);
                }
                Err(reason) => unreadable.push((file, reason)),
            }
        }
        drop(inspected);
        let kind = most(&kinds);
        let mut kinds = kinds.into_iter();
        let fits = |file: &SourceFile, kind_of: IdKind, unreadable: &mut Vec<(SourceFile, String)>| {
            let fits = kind_of == kind || kind_of == IdKind::Unknown;
            if !fits {
                let (found, others) =
                    if kind == IdKind::Text { ("integers", "strings") } else { ("strings", "integers") };
                let reason = format!("column `{}` (`[input] id`) has {found}, in most other files {others}", spec.id);
                unreadable.push((file.clone(), reason));
            }
            fits
        };
        files.retain(|file| kinds.next().is_none_or(|kind_of| fits(file, kind_of, &mut unreadable)));
        unreadable.sort_by(|one, other| one.0.path.cmp(&other.0.path));
        if let (true, 0, Some((file, reason))) = (files.is_empty(), known, unreadable.first()) {
            let alone = file.path.ends_with(&spec.documents);
            let reason = if alone { reason.clone() } else { format!("`{}`: {reason}", file.path) };
            return Err(refused(&spec.documents, reason, "correct `[input] id` and `text`, or repair the file"));
        }
        let (id_type, id_column) = match kind {
            IdKind::Integer => (DataType::Int64, merged.id[1].clone()),
            IdKind::Text | IdKind::Unknown => (DataType::Utf8, merged.id[0].clone()),
        };
        let id_column = if listing.format == Format::Parquet { id_column } else { id_type.clone() };
        let mut columns = vec![Field::new(&spec.id, id_column, true)];
        if spec.text != spec.id {
            columns.push(Field::new(&spec.text, merged.text.clone(), true));
        }
        let mut partitions = Vec::new();
        if let (Some(filter), false) = (&spec.filter, files.is_empty()) {
            let names = merged.condition_columns(context, &columns, filter)?;
            for name in names.into_iter().filter(|name| *name != spec.id && *name != spec.text) {
                match merged.others.get(&name) {
                    Some(data_type) => columns.push(Field::new(name, data_type.clone(), true)),
                    None => partitions.push(name),
                }
            }
        }
        let schema = Arc::new(Schema::new(columns));
        let counts = BTreeMap::new();
        Ok(Self {
            spec,
            listing,
            schema,
            partitions,
            files,
            unreadable,
            id_type,
            counts,
            holes: BTreeMap::new(),
            by_row: false,
            known,
        })
    }
}

/// A file with the number of its rows, and its columns or the reason why it cannot be read. Fails if the object store does not answer.
async fn inspect_file(
    state: &dyn Session,
    objects: &Arc<dyn ObjectStore>,
    format: Format,
    spec: &InputSpec,
    file: SourceFile,
) -> Result<(SourceFile, Result<Arc<Schema>, String>)> {
    if file.meta.size == 0 {
        return Ok((file, Err("the file is empty".to_owned())));
    }
    // An object store that does not answer says nothing about the file.
    let unavailable = |error: DataFusionError, file: &SourceFile| Error::Engine {
        doing: format!("read `{}`", file.path),
        source: error.into(),
    };
    let columns = match format.columns(state, objects, &file.meta, [&spec.id, &spec.text]).await {
        Ok(columns) => columns,
        Err(error) if is_of_the_store(&error) => return Err(unavailable(error, &file)),
        Err(error) => return Ok((file, Err(unreadable(&error)))),
    };
    if format != Format::Parquet {
        return Ok((file, Ok(columns)));
    }
    match parquet_metadata(state, objects, &file.meta).await {
        Ok(metadata) => {
            let groups: i64 = metadata.row_groups().iter().map(|group| group.num_rows().max(0)).sum();
            Ok((SourceFile { rows: Some(groups), ..file }, Ok(columns)))
        }
        Err(error) if is_of_the_store(&error) => Err(unavailable(error, &file)),
        Err(error) => Ok((file, Err(unreadable(&error)))),
    }
}

impl Merged {
    /// Checks a file's columns and adds them; fails with the reason why its documents cannot be read.
    fn add(&mut self, spec: &InputSpec, format: Format, columns: &Schema) -> Result<IdKind, String> {
        let column = |key: &str, name: &str| {
            columns.field_with_name(name).map(Field::data_type).map_err(|_| {
                let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
                format!("it has no column `{name}` (`[input] {key}`), only {}", names.join(", "))
            })
        };
        let (id, text) = (column("id", &spec.id)?, column("text", &spec.text)?);
        // What CSV has is text, whatever it looks like.
        let (id, text) = if format == Format::Csv { (&DataType::Utf8, &DataType::Utf8) } else { (id, text) };
        let kind = id_kind(id).ok_or_else(|| {
            let name = &spec.id;
            let as_type = if id.is_numeric() { "bigint" } else { "varchar" };
            format!(
                "column `{name}` (`[input] id`) is {id}, expected a string or an integer: write the file with `quarry sql` and \
                 `SELECT CAST(\"{name}\" AS {as_type}) AS \"{name}\", …`"
            )
        })?;
        let string = |data_type: &DataType| match data_type {
            DataType::Dictionary(_, value) => value.is_string(),
            other => other.is_string() || other.is_null() || is_binary(other),
        };
        if !string(text) {
            return Err(format!("column `{}` (`[input] text`) is {text}, expected a string", spec.text));
        }
        let of_kind = &mut self.id[usize::from(kind == IdKind::Integer)];
        // A string and binary bytes are both read as strings.
        *of_kind = common_type(of_kind, id).unwrap_or(DataType::Utf8View);
        self.text = common_type(&self.text, text).unwrap_or(DataType::Utf8View);
        if spec.filter.is_some() {
            for field in columns.fields() {
                let known = self.others.entry(field.name().clone()).or_insert_with(|| field.data_type().clone());
                if let Some(common) = common_type(known, field.data_type()) {
                    *known = common;
                }
            }
        }
        Ok(kind)
    }

    /// The names of the columns that a condition uses.
    fn condition_columns(&self, context: &SessionContext, own: &[Field], filter: &str) -> Result<Vec<String>> {
        let mut fields = own.to_vec();
        let is_own = |name: &String| own.iter().any(|field| field.name() == name);
        for (name, data_type) in self.others.iter().filter(|(name, _)| !is_own(name)) {
            fields.push(Field::new(name, data_type.clone(), true));
        }
        for name in self.partitions.iter().filter(|name| !is_own(name) && !self.others.contains_key(*name)) {
            fields.push(Field::new(name, DataType::Utf8, true));
        }
        let schema = Arc::new(Schema::new(fields));
        condition_columns(context, &schema, filter).map_err(|error| bad_filter(&error))
    }
}

/// What ids of a type are; `None` if it cannot be one.
fn id_kind(data_type: &DataType) -> Option<IdKind> {
    match data_type {
        DataType::Null => Some(IdKind::Unknown),
        // A UUID.
        DataType::FixedSizeBinary(16) => Some(IdKind::Text),
        other if is_binary(other) => Some(IdKind::Text),
        other => match tables::id_type(other)? {
            DataType::Utf8 => Some(IdKind::Text),
            _ => Some(IdKind::Integer),
        },
    }
}

/// Whether a type is bytes, which some writers leave strings as.
fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// The kind of most files; of equally many, the first.
fn most(kinds: &[IdKind]) -> IdKind {
    let count = |kind: IdKind| kinds.iter().filter(|one| **one == kind).count();
    match count(IdKind::Text).cmp(&count(IdKind::Integer)) {
        std::cmp::Ordering::Greater => IdKind::Text,
        std::cmp::Ordering::Less => IdKind::Integer,
        std::cmp::Ordering::Equal => {
            kinds.iter().copied().find(|kind| *kind != IdKind::Unknown).unwrap_or(IdKind::Unknown)
        }
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
