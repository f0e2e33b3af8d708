//! The parity report: what a precision changes. In: a model, its graphs, sample text. Out: for each graph how far its logits and
//! its mentions are from fp32 portable, and a query's logits in a batch from those alone. It may not print or judge.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::cache;
use crate::model::package::directory::ModelDirectory;
use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::library::Library;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::batch::{QueryBatch, batches};
use crate::task::decode::Logits;
use crate::task::entity_schema::{EntitySchema, EntityType};
use crate::task::query::Questions;
use crate::text::document::{Document, Reject};
use crate::text::window::{WindowRule, Windows};

/// Sample documents, one a line, written for this report: names of many kinds, none at all, short and long.
const SAMPLE: &str = include_str!("sample.txt");
/// Candidates are compared a little below the decision, so that those near it are seen.
const BOUNDARY: f32 = -2.0;
/// Padded tokens of a batch.
const BUDGET: usize = 4096;
/// The most tokens of a text that are asked at once, and the fewest.
const ROOM: [usize; 2] = [128, 2];

/// How one graph compares with fp32 portable on the sample text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// Which operators.
    pub form: GraphVariant,
    /// Which number format.
    pub precision: Precision,
    /// Queries compared.
    pub queries: usize,
    /// Logits compared: start and end of every token, and the match of every candidate both found.
    pub logits: usize,
    /// The largest difference of a logit.
    pub largest: f32,
    /// The mean difference of a logit.
    pub mean: f32,
    /// Mentions fp32 portable finds (every logit above 0).
    pub mentions: usize,
    /// Mentions only this graph finds.
    pub gained: usize,
    /// Mentions only fp32 portable finds.
    pub lost: usize,
    /// The largest difference of a logit between a query in its batch and the same query alone, in this graph.
    pub batched: f32,
}

/// Runs every graph on the sample text under the model's own questions (four usual ones where it names none) and compares it
/// with fp32 portable on the same device.
pub fn measure(
    model: &ModelDirectory,
    graphs: &[(GraphVariant, Precision)],
    library: &Library,
    options: SessionOptions,
) -> Result<Vec<Parity>> {
    let batches = sample(model)?;
    let answers = |form: GraphVariant, precision: Precision| -> Result<(Vec<Logits>, Vec<Logits>)> {
        let mut session = cache::load(model, form, precision, |graph| Session::open(library, graph, options))?;
        let mut answer = |batch: &QueryBatch| session.answer(batch, BOUNDARY);
        let together: Vec<Logits> = batches.iter().map(&mut answer).collect::<Result<_>>()?;
        let single =
            batches.iter().flat_map(|batch| &batch.queries).map(|query| QueryBatch { queries: vec![query.clone()] });
        let alone: Vec<Logits> = single.map(|batch| answer(&batch)).collect::<Result<_>>()?;
        Ok((together, alone))
    };
    let (reference, _) = answers(GraphVariant::Portable, Precision::Fp32)?;
    let reference = rows(&batches, &reference);
    let mut report = Vec::new();
    for (form, precision) in graphs {
        let (together, alone) = answers(*form, *precision)?;
        let together = rows(&batches, &together);
        let alone: Vec<Row> =
            alone.iter().map(|logits| Row::of(logits, 0, logits.start.len(), logits.start.len())).collect();
        let difference = Difference::between(&reference, &together);
        let expected: BTreeSet<_> = mentions(&reference);
        let found = mentions(&together);
        report.push(Parity {
            form: *form,
            precision: *precision,
            queries: reference.len(),
            logits: difference.count,
            largest: difference.largest,
            mean: (difference.sum / difference.count.max(1) as f64) as f32,
            mentions: expected.len(),
            gained: found.difference(&expected).count(),
            lost: expected.difference(&found).count(),
            batched: Difference::between(&together, &alone).largest,
        });
    }
    Ok(report)
}

/// The sample's queries in batches.
fn sample(model: &ModelDirectory) -> Result<Vec<QueryBatch>> {
    let tokenizer = model.tokenizer(None)?;
    let failed = |reject: Reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() };
    let questions = Questions::new(&schema(model), &tokenizer).map_err(failed)?;
    let (longest, asked) = (model.manifest().max_length, questions.longest_query(0));
    let [most, fewest] = ROOM;
    let room = longest.saturating_sub(asked).min(most);
    if room < fewest {
        return Err(Error::Model {
            path: model.root().to_owned(),
            reason: format!("its longest question takes {asked} of {longest} tokens, which leaves no room for a text"),
            hint: "shorten the questions (--schema), or correct `max_length` in quarry.json".to_owned(),
        });
    }
    let mut queries = Vec::new();
    for (document, text) in SAMPLE.lines().enumerate() {
        for window in Windows::new(&tokenizer, WindowRule { tokens: room, overlap: room / 4 }, Document { text }) {
            let window: Arc<_> = window.map_err(failed)?;
            queries.extend(questions.ask(document, &window));
        }
    }
    Ok(batches(queries, BUDGET))
}

fn schema(model: &ModelDirectory) -> EntitySchema {
    let entity_type = |name: &str, question: &str| EntityType { name: name.to_owned(), question: question.to_owned() };
    let manifest = model.manifest();
    let mut types = manifest.types.clone();
    if types.is_empty() {
        types = vec![
            entity_type("PER", "Which people are named?"),
            entity_type("LOC", "Which places are named?"),
            entity_type("ORG", "Which organizations are named?"),
            entity_type("MISC", "Which other names appear?"),
        ];
    }
    EntitySchema { nested: true, types }
}

/// One query's logits, without padding.
struct Row {
    boundaries: Vec<[f32; 2]>,
    /// Start and end (inclusive) of a candidate, and its match logit; in the order of places.
    spans: Vec<([usize; 2], f32)>,
}

impl Row {
    fn of(logits: &Logits, row: usize, width: usize, length: usize) -> Self {
        let place = row * width..row * width + length;
        let boundaries = logits.start[place.clone()].iter().zip(&logits.end[place]).map(|(start, end)| [*start, *end]);
        let candidates = logits.span_index.iter().zip(&logits.span).filter(|(index, _)| index[0] == row);
        let mut spans: Vec<_> = candidates.map(|(index, logit)| ([index[1], index[2]], *logit)).collect();
        spans.sort_by_key(|(place, _)| *place);
        Self { boundaries: boundaries.collect(), spans }
    }
}

fn rows(batches: &[QueryBatch], answers: &[Logits]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (batch, logits) in batches.iter().zip(answers) {
        let width = batch.tokens();
        rows.extend(batch.queries.iter().enumerate().map(|(row, query)| Row::of(logits, row, width, query.len())));
    }
    rows
}

/// Query, start and end of what passes every threshold.
fn mentions(rows: &[Row]) -> BTreeSet<(usize, [usize; 2])> {
    let passes = |row: &Row, place: [usize; 2], logit: f32| {
        logit > 0.0 && row.boundaries[place[0]][0] > 0.0 && row.boundaries[place[1]][1] > 0.0
    };
    let places = |(query, row): (usize, &Row)| -> Vec<_> {
        let passing = row.spans.iter().filter(|(place, logit)| passes(row, *place, *logit));
        passing.map(|(place, _)| (query, *place)).collect()
    };
    rows.iter().enumerate().flat_map(places).collect()
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
            for (one, other) in one.boundaries.iter().flatten().zip(other.boundaries.iter().flatten()) {
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
    use crate::model::encoder::config::tests::tiny;
    use crate::model::package::directory::Parts;
    use crate::model::package::manifest::Manifest;
    use crate::model::weights::checkpoint::tokenizer_from_vocabulary;
    use crate::model::weights::safetensors_file::WeightForm;
    use crate::model::weights::tensors::Weights;
    use crate::model::weights::tensors::tests::made_up;

    fn row(boundary: f32, spans: &[([usize; 2], f32)]) -> Row {
        Row { boundaries: vec![[boundary, boundary]; 3], spans: spans.to_vec() }
    }

    #[test]
    fn only_candidates_of_both_are_compared() {
        let one = [row(1.0, &[([0, 1], 2.0), ([1, 1], 1.0)])];
        let other = [row(1.5, &[([0, 0], 9.0), ([1, 1], -1.0)])];
        let difference = Difference::between(&one, &other);
        assert_eq!((difference.count, difference.largest.to_bits()), (7, 2.0_f32.to_bits()));
        assert!((difference.sum - 5.0).abs() < 1e-9);
        assert_eq!(mentions(&one), BTreeSet::from([(0, [0, 1]), (0, [1, 1])]));
        assert_eq!(mentions(&other), BTreeSet::from([(0, [0, 0])]));
    }

    #[test]
    fn a_row_leaves_padding_and_other_rows_out() {
        let logits = Logits {
            start: vec![1.0, 2.0, 3.0, 4.0],
            end: vec![5.0, 6.0, 7.0, 8.0],
            span_index: vec![[1, 0, 0], [0, 0, 1], [1, 0, 0]],
            span: vec![0.5, 0.6, 0.7],
        };
        let row = Row::of(&logits, 1, 2, 1);
        assert_eq!(row.boundaries, [[3.0, 7.0]]);
        assert_eq!(row.spans.len(), 2);
    }

    #[test]
    fn questions_that_leave_no_room_for_a_text_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n").unwrap();
        let tokenizer = tokenizer_from_vocabulary(&path, None).unwrap().to_string(false).unwrap();
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).unwrap();
        // The longest usual question is four words and a question mark, in a frame of three.
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
                Ok(batches) => {
                    assert!(fits && batches.iter().all(|batch| batch.tokens() <= max_length));
                    assert!(batches.iter().map(|batch| batch.queries.len()).sum::<usize>() > SAMPLE.lines().count());
                }
                Err(error) => assert!(!fits && error.to_string().contains("leaves no room"), "{error}"),
            }
        }
    }

    #[test]
    fn the_sample_is_not_empty() {
        assert!(SAMPLE.lines().count() >= 10 && SAMPLE.lines().all(|line| !line.trim().is_empty()));
    }
}
