//! The reference implementation's counting method. In: documents, the model's tokenizer, the questions. Out: the views of mentions
//! without those past its maximum length, which it does not count. It must not change which mentions are correct.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::inputs::Inputs;
use super::tables::{AGAINST, GOLD, PREDICTED, TEXTS};
use crate::error::{Error, Result};
use crate::model::package::directory::ModelDirectory;
use crate::query::statement::{plan, query, register};
use crate::score::counting::cut;
use crate::tables::result_row::result_rows;
use crate::task::entity_schema::EntityType;
use crate::text::tokens::{Tokenizer, segments};

/// The table of the truncation point of each document and type.
const CUTS: &str = "cuts";

/// Removes from every view the mentions past the truncation point of their document and type at `tokens` wordpieces.
pub(super) async fn cut_off(context: &SessionContext, inputs: &Inputs, tokens: usize) -> Result<()> {
    let Some((model, types)) = &inputs.reference_model else { return Ok(()) };
    let model = ModelDirectory::open(model)?;
    let tokenizer = model.tokenizer(None)?;
    let refused = |reject: crate::text::document::Reject| Error::Tokenizer {
        path: model.tokenizer_path(),
        source: reject.detail.into(),
    };
    let mut questions = Vec::new();
    for EntityType { name, question, .. } in types {
        questions.push((name.as_str(), tokenizer.ids(question).map_err(refused)?.len()));
    }
    let views: Vec<&str> =
        [PREDICTED, GOLD, AGAINST].into_iter().filter(|view| context.table_exist(*view).unwrap_or(false)).collect();
    refuse_unknown_types(context, &views, &questions).await?;

    let failed = |source: crate::error::Cause| Error::Engine { doing: "read the documents' texts".into(), source };
    let mut stream = plan(
        context,
        &format!(
            "SELECT doc_id, CAST(text AS varchar) AS text FROM {TEXTS} WHERE doc_id IS NOT NULL AND text IS NOT NULL"
        ),
    )
    .await?
    .execute_stream()
    .await
    .map_err(|source| failed(source.into()))?;
    let mut cuts = Cuts::default();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|source| failed(source.into()))?;
        for row in result_rows([&batch]) {
            let (document, text): (&str, &str) = (row.get("doc_id")?, row.get("text")?);
            let ends = ends(&tokenizer, text, tokens).map_err(refused)?;
            for &(name, question) in &questions {
                if let Some(cut) = cut(&ends, question, tokens) {
                    cuts.documents.push(document.to_owned());
                    cuts.types.push(name.to_owned());
                    cuts.gold.push(cut.gold as i64);
                    cuts.predicted.push(cut.predicted as i64);
                }
            }
        }
    }
    let batch = cuts.batch().map_err(|source| failed(source.into()))?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(|source| failed(source.into()))?;
    context.register_table(CUTS, Arc::new(table)).map_err(|source| failed(source.into()))?;
    for view in views {
        let side = if view == GOLD { "gold" } else { "predicted" };
        let sql = format!(
            "SELECT m.* FROM {view} m LEFT JOIN {CUTS} c ON m.doc_id = c.doc_id AND m.entity_type = c.entity_type
             WHERE c.{side} IS NULL OR m.end_char <= c.{side}"
        );
        register(context, view, &sql).await?;
    }
    Ok(())
}

/// Fails if a mention has a type without a question.
async fn refuse_unknown_types(context: &SessionContext, views: &[&str], questions: &[(&str, usize)]) -> Result<()> {
    let each: Vec<String> = views.iter().map(|view| format!("SELECT entity_type FROM {view}")).collect();
    let batches =
        query(context, &format!("SELECT DISTINCT entity_type FROM ({}) ORDER BY 1", each.join(" UNION ALL "))).await?;
    let known: BTreeMap<&str, usize> = questions.iter().copied().collect();
    for row in result_rows(&batches) {
        let unknown: &str = row.get("entity_type")?;
        if !known.contains_key(unknown) {
            return Err(Error::Setting {
                origin: "evaluate".into(),
                key: "schema".into(),
                reason: format!("mentions have the type `{unknown}`, but no question asks for it"),
                hint: "name the schema that the model was run with: --schema FILE".into(),
            });
        }
    }
    Ok(())
}

/// The ends of the text's first wordpieces, in code points: at least `tokens` + 1 of them if the text has that many.
fn ends(tokenizer: &Tokenizer, text: &str, tokens: usize) -> Result<Vec<usize>, crate::text::document::Reject> {
    let (mut ends, mut byte, mut chars) = (Vec::new(), 0, 0);
    for segment in segments(text) {
        for token in tokenizer.tokenize(text, segment)?.tokens {
            if token.bytes.end > byte {
                chars += text[byte..token.bytes.end].chars().count();
                byte = token.bytes.end;
            }
            ends.push(chars);
        }
        if ends.len() > tokens {
            break;
        }
    }
    Ok(ends)
}

/// The rows of the table [`CUTS`].
#[derive(Default)]
struct Cuts {
    documents: Vec<String>,
    types: Vec<String>,
    gold: Vec<i64>,
    predicted: Vec<i64>,
}

impl Cuts {
    fn batch(self) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
        let columns: [(&str, ArrayRef); 4] = [
            ("doc_id", Arc::new(StringArray::from(self.documents))),
            ("entity_type", Arc::new(StringArray::from(self.types))),
            ("gold", Arc::new(Int64Array::from(self.gold))),
            ("predicted", Arc::new(Int64Array::from(self.predicted))),
        ];
        RecordBatch::try_from_iter(columns)
    }
}
