//! What a table asks of its readers and writers (Delta protocol, "Protocol Evolution"). In: a table's protocol, settings and files. Out: an
//! error for anything that we cannot honour. It must not read rows: a row read without honouring a feature can be a wrong one.

use deltalake_core::kernel::{EagerSnapshot, LogicalFileView};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::tables::Table;

/// The protocol of our tables: the newest without table features.
const READER_VERSION: u64 = 1;
const WRITER_VERSION: u64 = 2;
/// From these versions on, a protocol lists its features instead.
const READER_FEATURES: u64 = 3;
const WRITER_FEATURES: u64 = 7;
/// The features that a table of ours has without listing them; of neither does it make use.
const KNOWN: [&str; 2] = ["appendOnly", "invariants"];
/// Settings that ask something of readers or writers, and the value that asks nothing.
const SETTINGS: [(&str, &str); 3] =
    [("delta.columnMapping.mode", "none"), ("delta.appendOnly", "false"), ("delta.enableDeletionVectors", "false")];

/// Checks that we honour all that a table asks of its readers and writers.
///
/// # Errors
/// [`Error::Unsupported`] with the first feature that we do not honour.
pub(crate) fn check(store: &str, table: Table, snapshot: &EagerSnapshot) -> Result<()> {
    let protocol = serde_json::to_value(snapshot.protocol()).unwrap_or_default();
    let settings = snapshot.metadata().configuration();
    let setting = SETTINGS.iter().find(|(key, none)| settings.get(*key).is_some_and(|value| value != none));
    let setting = setting.map(|(key, _)| format!("the setting `{key} = {}`", settings[*key]));
    match unsupported(&protocol).or(setting) {
        Some(feature) => Err(error(store, table, feature)),
        None => snapshot.log_data().iter().try_for_each(|file| check_file(store, table, &file)),
    }
}

/// Checks that all rows of a file are rows of the table.
///
/// # Errors
/// [`Error::Unsupported`] if it has a deletion vector.
pub(crate) fn check_file(store: &str, table: Table, file: &LogicalFileView) -> Result<()> {
    if file.deletion_vector_descriptor().is_none() {
        return Ok(());
    }
    Err(error(store, table, format!("a deletion vector, which deletes rows of `{}`", file.path())))
}

/// The error for the newest protocol of a log that asks something we do not honour, if one does.
pub(crate) fn explain(store: &str, table: Table, protocols: &[Value]) -> Option<Error> {
    protocols.iter().rev().find_map(unsupported).map(|feature| error(store, table, feature))
}

/// What of a protocol action we do not honour.
fn unsupported(protocol: &Value) -> Option<String> {
    let listed = |key: &str| {
        let names = protocol.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let features = [listed("readerFeatures"), listed("writerFeatures")].concat();
    if let Some(feature) = features.iter().find(|feature| !KNOWN.contains(&feature.as_str())) {
        return Some(format!("the feature `{feature}`"));
    }
    let version = |key: &str| protocol.get(key).and_then(Value::as_u64).unwrap_or_default();
    let (reader, writer) = (version("minReaderVersion"), version("minWriterVersion"));
    if reader > READER_VERSION && reader != READER_FEATURES {
        return Some(format!("the reader version {reader}"));
    }
    (writer > WRITER_VERSION && writer != WRITER_FEATURES).then(|| format!("the writer version {writer}"))
}

fn error(store: &str, table: Table, feature: String) -> Error {
    Error::Unsupported { store: store.to_owned(), table: table.name().to_owned(), feature }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_protocol_of_our_tables_is_honoured() {
        let ours = json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
        let listed =
            json!({ "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", "invariants"] });
        for protocol in [&ours, &listed] {
            assert_eq!(unsupported(protocol), None, "{protocol}");
        }
        for (protocol, expected) in [
            (json!({ "minReaderVersion": 2, "minWriterVersion": 5 }), "the reader version 2"),
            (json!({ "minReaderVersion": 4, "minWriterVersion": 9 }), "the reader version 4"),
            (json!({ "minReaderVersion": 1, "minWriterVersion": 3 }), "the writer version 3"),
            (
                json!({ "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"] }),
                "the feature `deletionVectors`",
            ),
            (
                json!({ "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["invariants", "rowTracking"] }),
                "the feature `rowTracking`",
            ),
            (
                json!({ "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["of the future"] }),
                "the feature `of the future`",
            ),
        ] {
            assert_eq!(unsupported(&protocol).as_deref(), Some(expected), "{protocol}");
        }
    }
}
