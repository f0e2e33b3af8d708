//! The parity report: how graph variant and precision change the results. In: a model, its graphs, sample text. Out: for each graph the
//! differences of logits and mentions from portable fp32, and of a query's logits in a batch from the same query alone. It must not print
//! or set limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::cache;
use crate::model::package::directory::ModelDirectory;
use crate::model::precision::{GraphPart, GraphVariant, Precision};
use crate::model::runtime::library::Library;
use crate::model::runtime::questions::fixed;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::answer::{Answer, Span, sigmoid};
use crate::task::batch::{Batch, batches};
use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
use crate::task::input::ModelInput;
use crate::task::kind::{Kind, Task, TaskSettings};
use crate::task::mrc::decode::Logits;
use crate::task::tensor::{Tensor, Tensors, Values};
use crate::text::document::{Document, Reject};
use crate::text::window::{WindowRule, Windows};

/// Sample documents, one per line, written for this report: with names of many kinds, without names, short and long.
const SAMPLE: &str = include_str!("sample.txt");
/// Candidates are compared from a logit below the decision boundary, so that those close to it are included.
const BOUNDARY: f32 = -2.0;
/// Padded tokens of a batch.
const BATCH_TOKENS: usize = 4096;
/// The longest and the shortest window, in tokens.
const WINDOW_TOKENS: [usize; 2] = [128, 2];

/// The comparison of one graph with portable fp32 on the sample text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// The graph variant.
    pub variant: GraphVariant,
    /// The precision.
    pub precision: Precision,
    /// The number of queries.
    pub queries: usize,
    /// The number of compared logits: all of every token (start and end, or tags), and the match of every candidate that both graphs found.
    pub logits: usize,
    /// The largest difference of a logit.
    pub largest: f32,
    /// The mean difference of a logit.
    pub mean: f32,
    /// Mentions that portable fp32 finds: in MRC with all three logits above 0, else with a score above 0.5.
    pub mentions: usize,
    /// Mentions that only this graph finds.
    pub gained: usize,
    /// Mentions that only portable fp32 finds.
    pub lost: usize,
    /// The largest difference of a logit between a query in its batch and the same query alone, in this graph.
    pub batch_difference: f32,
}

/// Runs every graph on the sample text with the model's own questions (four common ones if it has none) and compares it with portable
/// fp32 on the same device.
pub fn measure(
    model: &ModelDirectory,
    graphs: &[(GraphVariant, Precision)],
    library: &Library,
    options: SessionOptions,
) -> Result<Vec<Parity>> {
    let (task, batches) = sample(model)?;
    let single = batches.iter().flat_map(|batch| &batch.inputs).map(|query| Batch { inputs: vec![query.clone()] });
    let single: Vec<Batch> = single.collect();
    let answers = |variant: GraphVariant, precision: Precision| -> Result<(Vec<Row>, Vec<Row>)> {
        let questions = || cache::derive_part(model, GraphPart::Questions, variant);
        let fixed = fixed(&task, questions, library, options.threads)?;
        let part = GraphPart::answering(task.kind(), precision);
        let mut session = Session::open(library, &cache::derive_part(model, part, variant)?, task.kind(), options)?;
        let mut answer = |batches: &[Batch]| -> Result<Vec<Row>> {
            let mut rows = Vec::new();
            for batch in batches {
                let outputs = session.run(&[&task.kind().tensors(batch), &fixed])?;
                rows.extend(rows_of(&task, batch, outputs).map_err(failed)?);
            }
            Ok(rows)
        };
        Ok((answer(&batches)?, answer(&single)?))
    };
    let (reference, _) = answers(GraphVariant::Portable, Precision::Fp32)?;
    let mut report = Vec::new();
    for (variant, precision) in graphs {
        let (in_batch, alone) = answers(*variant, *precision)?;
        let difference = Difference::between(&reference, &in_batch);
        let expected: BTreeSet<_> = mentions(&reference);
        let found = mentions(&in_batch);
        report.push(Parity {
            variant: *variant,
            precision: *precision,
            queries: reference.len(),
            logits: difference.count,
            largest: difference.largest,
            mean: (difference.sum / difference.count.max(1) as f64) as f32,
            mentions: expected.len(),
            gained: found.difference(&expected).count(),
            lost: expected.difference(&found).count(),
            batch_difference: Difference::between(&in_batch, &alone).largest,
        });
    }
    Ok(report)
}

fn failed(reason: String) -> Error {
    Error::Inference { doing: "compare graphs".into(), source: reason.into() }
}

/// The task of a model, and the sample's inputs in batches.
fn sample(model: &ModelDirectory) -> Result<(Task, Vec<Batch>)> {
    let tokenizer = model.tokenizer(None)?;
    let failed = |reject: Reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() };
    let (boundary_threshold, max_candidates) = (sigmoid(BOUNDARY), usize::MAX);
    let settings = match model.manifest().kind {
        Kind::Late => TaskSettings::Late { boundary_threshold, max_candidates },
        Kind::Tagger => TaskSettings::Tagger,
        Kind::Qa => TaskSettings::Qa { null_threshold: 0.0 },
        _ => TaskSettings::Mrc { boundary_threshold, max_candidates },
    };
    let task = Task::new(&settings, &schema(model), &tokenizer, model.own(), 0.0).map_err(failed)?;
    let (max_length, question_tokens) = (model.manifest().max_length, task.longest_input(0));
    let [longest, shortest] = WINDOW_TOKENS;
    let tokens = max_length.saturating_sub(question_tokens).min(longest);
    if tokens < shortest {
        return Err(Error::Model {
            path: model.root().to_owned(),
            reason: format!(
                "its longest question takes {question_tokens} of {max_length} tokens, which leaves no space for a text"
            ),
            hint: "shorten the questions (--schema), or correct `max_length` in quarry.json".to_owned(),
        });
    }
    let mut queries = Vec::new();
    for (document, text) in SAMPLE.lines().enumerate() {
        for window in
            Windows::new(&tokenizer, WindowRule { tokens, overlap: tokens / 4, words: None }, Document { text })
        {
            let window: Arc<_> = window.map_err(failed)?;
            queries.extend(task.ask(document, &window));
        }
    }
    Ok((task, batches(queries, BATCH_TOKENS)))
}

fn schema(model: &ModelDirectory) -> EntitySchema {
    let manifest = model.manifest();
    let mut types = manifest.types.clone();
    if types.is_empty() {
        types = vec![
            EntityType::new("PER", "Which people are named?"),
            EntityType::new("LOC", "Which places are named?"),
            EntityType::new("ORG", "Which organizations are named?"),
            EntityType::new("MISC", "Which other names appear?"),
        ];
    }
    EntitySchema { nested: Nesting::Nested, types }
}

/// One query's logits, without padding.
struct Row {
    /// Of each token as many as the kind has: start and end, or one per tag.
    logits: Vec<f32>,
    /// Start and end (inclusive) of a candidate, and its match logit; sorted by position.
    spans: Vec<([usize; 2], f32)>,
    /// Type, start and end (inclusive) of each mention. The type is 0 where a query asks for one.
    mentions: BTreeSet<[usize; 3]>,
}

impl Row {
    fn of(logits: &Logits, row: usize, width: usize, length: usize) -> Self {
        let place = row * width..row * width + length;
        let (starts, ends) = (&logits.start[place.clone()], &logits.end[place]);
        let candidates = logits.span_index.iter().zip(&logits.span).filter(|(index, _)| index[0] == row);
        let mut spans: Vec<_> = candidates.map(|(index, logit)| ([index[1], index[2]], *logit)).collect();
        spans.sort_by_key(|(place, _)| *place);
        let passes = |[start, end]: [usize; 2], logit: f32| logit > 0.0 && starts[start] > 0.0 && ends[end] > 0.0;
        let passing = spans.iter().filter(|(place, logit)| passes(*place, *logit));
        let mentions = passing.map(|([start, end], _)| [0, *start, *end]).collect();
        Self { logits: starts.iter().zip(ends).flat_map(|(start, end)| [*start, *end]).collect(), spans, mentions }
    }
}

/// The rows of a batch: for each input one of each type whose candidates the graph selects apart, else one.
fn rows_of(task: &Task, batch: &Batch, outputs: Tensors) -> Result<Vec<Row>, String> {
    let (width, inputs) = (batch.tokens(), batch.inputs.iter().enumerate());
    if matches!(task.kind(), Kind::Tagger | Kind::Qa) {
        let mut logits = vec![Vec::new(); batch.inputs.len()];
        for name in task.kind().outputs() {
            let Some(Tensor { values: Values::F32(values), .. }) = outputs.get(name) else { continue };
            let each = values.len() / (width * logits.len()).max(1);
            for (row, input) in batch.inputs.iter().enumerate() {
                logits[row].extend(&values[row * width * each..][..input.len() * each]);
            }
        }
        let answers = task.read(batch, outputs)?;
        let row = |(logits, answer): (Vec<f32>, Answer)| {
            let place = |span: &Span| [span.entity_type, span.tokens.start, span.tokens.end - 1];
            Row { logits, spans: Vec::new(), mentions: answer.spans.iter().map(place).collect() }
        };
        return Ok(logits.into_iter().zip(answers).map(row).collect());
    }
    let types = task.apart(outputs)?;
    let of = |(row, input): (usize, &ModelInput)| -> Vec<Row> {
        types.iter().map(|logits| Row::of(logits, row, width, input.len())).collect()
    };
    Ok(inputs.flat_map(of).collect())
}

/// Query, type, start and end of every mention.
fn mentions(rows: &[Row]) -> BTreeSet<(usize, [usize; 3])> {
    let rows = rows.iter().enumerate();
    rows.flat_map(|(query, row)| row.mentions.iter().map(move |place| (query, *place))).collect()
}

#[derive(Debug, Default)]
struct Difference {
    largest: f32,
    sum: f64,
    count: usize,
}

impl Difference {
    fn between(one: &[Row], other: &[Row]) -> Self {
        let mut difference = Self::default();
        for (one, other) in one.iter().zip(other) {
            for (one, other) in one.logits.iter().zip(&other.logits) {
                difference.add(*one, *other);
            }
            for (place, logit) in &one.spans {
                if let Ok(found) = other.spans.binary_search_by_key(place, |(place, _)| *place) {
                    difference.add(*logit, other.spans[found].1);
                }
            }
        }
        difference
    }

    fn add(&mut self, one: f32, other: f32) {
        let step = (one - other).abs();
        self.largest = self.largest.max(step);
        self.sum += f64::from(step);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::package::directory::Parts;
    use crate::model::package::manifest::Manifest;
    use crate::model::weights::safetensors_file::WeightForm;
    use crate::model::weights::tensors::Weights;
    use crate::model::weights::tensors::tests::made_up;
    use crate::model::weights::vocabulary::{TokenizerConfig, tokenizer_from_vocabulary};

    fn row(boundary: f32, spans: &[([usize; 2], f32)]) -> Row {
        let span_index = spans.iter().map(|([start, end], _)| [0, *start, *end]).collect();
        let span = spans.iter().map(|(_, logit)| *logit).collect();
        Row::of(&Logits { start: vec![boundary; 3], end: vec![boundary; 3], span_index, span }, 0, 3, 3)
    }

    #[test]
    fn only_common_candidates_are_compared() {
        let one = [row(1.0, &[([0, 1], 2.0), ([1, 1], 1.0)])];
        let other = [row(1.5, &[([0, 0], 9.0), ([1, 1], -1.0)])];
        let difference = Difference::between(&one, &other);
        assert_eq!((difference.count, difference.largest.to_bits()), (7, 2.0_f32.to_bits()));
        assert!((difference.sum - 5.0).abs() < 1e-9);
        assert_eq!(mentions(&one), BTreeSet::from([(0, [0, 0, 1]), (0, [0, 1, 1])]));
        assert_eq!(mentions(&other), BTreeSet::from([(0, [0, 0, 0])]));
    }

    #[test]
    fn a_row_excludes_padding_and_other_rows() {
        let logits = Logits {
            start: vec![1.0, 2.0, 3.0, 4.0],
            end: vec![5.0, 6.0, 7.0, 8.0],
            span_index: vec![[1, 0, 0], [0, 0, 1], [1, 0, 0]],
            span: vec![0.5, 0.6, 0.7],
        };
        let row = Row::of(&logits, 1, 2, 1);
        assert_eq!(row.logits, [3.0, 7.0]);
        assert_eq!(row.spans.len(), 2);
    }

    #[test]
    fn questions_that_leave_no_space_for_a_text_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n").unwrap();
        let tokenizer =
            tokenizer_from_vocabulary(&path, &TokenizerConfig::default()).unwrap().to_string(false).unwrap();
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).unwrap();
        // The longest default question is four words and a question mark, plus three special tokens.
        for (max_length, fits) in [(8, false), (9, false), (10, true), (24, true)] {
            let parts = Parts {
                weights: &weights,
                form: WeightForm::Fp32,
                config: &tiny(),
                tokenizer: tokenizer.as_bytes(),
                manifest: &Manifest { max_length, ..Manifest::default() },
                extra: &[],
            };
            let model = ModelDirectory::write(&folder.path().join("model"), &parts).unwrap();
            match sample(&model) {
                Ok((_, batches)) => {
                    assert!(fits && batches.iter().all(|batch| batch.tokens() <= max_length));
                    assert!(batches.iter().map(|batch| batch.inputs.len()).sum::<usize>() > SAMPLE.lines().count());
                }
                Err(error) => assert!(!fits && error.to_string().contains("leaves no space"), "{error}"),
            }
        }
    }

    #[test]
    fn the_sample_is_not_empty() {
        assert!(SAMPLE.lines().count() >= 10 && SAMPLE.lines().all(|line| !line.trim().is_empty()));
    }
}
