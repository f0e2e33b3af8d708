//! Token classification: one tag per word, all types of a window in one pass. In: windows, and the outputs of a graph. Out: inputs
//! `[CLS] window [SEP]`, and the spans that the tags mark. It must not run a graph.
//!
//! | | name | type | shape | |
//! |---|---|---|---|---|
//! | in | `input_ids`, `attention_mask`, `token_type_ids` | int64 | `[batch, tokens]` | mask: ones, then zeros for padding |
//! | in | `shape_ids` | int64 | `[batch, tokens]` | [how words are written](crate::text::word_shape); only of encoders that are told |
//! | out | `logits` | float32 | `[batch, tokens, tags]` | |
//!
//! Tags are read by words: the logits of a word's first wordpiece are the word's, so no word is ever split. Each window is read as a whole text:
//! the answer is the best legal sequence of tags ([`lattice`]), and the score of a mention is its probability among all legal
//! sequences. A word that the window cuts has no tag. All types of the model compete, also those that are not asked for, so a type's
//! answer does not depend on the others that are asked for.
//!
//! | file | what |
//! |---|---|
//! | [`tag_set`] | names of tags → scheme, types, and which tag can follow which |
//! | [`lattice`] | logits of words → mentions with their probabilities |

pub mod lattice;
pub mod scheme;
pub mod tag_set;

use std::sync::Arc;

use crate::task::answer::{Acceptance, Answer, Span};
use crate::task::batch::Batch;
use crate::task::entity_schema::EntitySchema;
use crate::task::input::ModelInput;
use crate::task::mrc;
use crate::task::tagger::lattice::Lattice;
use crate::task::tagger::tag_set::TagSet;
use crate::task::tensor::{GraphSignature, Misfit, Tensor, Tensors, Values};
use crate::text::frame::Frame;
use crate::text::tokens::Token;
use crate::text::window::Window;

/// The outputs that are read.
pub const OUTPUTS: [&str; 1] = ["logits"];

/// The inputs that a graph can have.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "shape_ids"];

/// The kind for some of the types that a model knows.
#[derive(Debug, Clone)]
pub struct Tagger {
    /// Its tags, and what is asked for.
    pub reader: TagReader,
    frame: Arc<Frame>,
}

/// How the tags of a model are read for a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct TagReader {
    /// The tags.
    pub tags: TagSet,
    /// For each type of the tags its index in the schema, if it is asked for.
    types: Vec<Option<usize>>,
    /// Which mentions of each type are accepted.
    acceptance: Acceptance,
}

impl Tagger {
    /// The kind that asks as `reader` reads; `frame` has the tokens around windows.
    pub const fn new(reader: TagReader, frame: Arc<Frame>) -> Self {
        Self { reader, frame }
    }

    /// The tokens around windows.
    pub const fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// The input for a window of document number `document`.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> ModelInput {
        ModelInput::alone(document, window, &self.frame)
    }
}

impl TagReader {
    /// Reads these tags for the types of `schema`. Types of the schema that the tags do not have are never found: [`unknown_type`] names them.
    pub fn new(tags: TagSet, schema: &EntitySchema, acceptance: Acceptance) -> Self {
        let types = tags.types().iter().map(|name| schema.index_of(name)).collect();
        Self { tags, types, acceptance }
    }

    /// The index in the tags of a type of the schema.
    pub fn type_of_tags(&self, entity_type: usize) -> Option<usize> {
        self.types.iter().position(|one| *one == Some(entity_type))
    }

    /// The index in the schema of the type of a tag; `None` for `O`, and for a type that is not asked for.
    pub fn type_of_schema(&self, tag: usize) -> Option<usize> {
        self.tags.entity_type(tag).and_then(|number| self.types[number])
    }

    /// One [`Answer`] per input of `batch`, in its order.
    ///
    /// # Errors
    /// Outputs that [`accept`] has not returned, or of another number of tags.
    pub fn read(&self, batch: &Batch, mut outputs: Tensors) -> Result<Vec<Answer>, String> {
        let (count, width) = (self.tags.count(), batch.tokens());
        let shape = outputs.get("logits").map(|logits| logits.shape.clone()).unwrap_or_default();
        if shape != [batch.inputs.len(), width, count] {
            return Err(format!("logits has shape {shape:?}, and the model's configuration names {count} tags"));
        }
        let logits = mrc::values(&mut outputs, "logits")?;
        let rows = batch.inputs.iter().zip(logits.chunks(width * count));
        Ok(rows.map(|(input, logits)| self.answer(input, logits)).collect())
    }

    /// The spans of one input from its logits, `[tokens, tags]`.
    fn answer(&self, input: &ModelInput, logits: &[f32]) -> Answer {
        let (count, context) = (self.tags.count(), input.context_start());
        let words = words(&input.window.tokens);
        let of_word = |&(first, _): &(usize, usize)| &logits[(context + first) * count..(context + first + 1) * count];
        let lattice = Lattice::new(&self.tags, words.iter().map(of_word));
        let mut answer = Answer::default();
        for mention in lattice.mentions() {
            let Some(entity_type) = self.types[mention.entity_type] else { continue };
            answer.undecided += usize::from(self.acceptance.undecided(entity_type, mention.logit));
            let place = input.place(context + words[mention.first].0, context + words[mention.last].1);
            if let (Some(tokens), Some(logit)) = (place, self.acceptance.judge(entity_type, mention.logit)) {
                answer.spans.push(Span { entity_type, tokens, logit });
            }
        }
        answer
    }
}

/// The first type of `schema` that the tags do not have.
pub fn unknown_type<'s>(tags: &TagSet, schema: &'s EntitySchema) -> Option<&'s str> {
    let mut names = schema.types.iter().map(|one| one.name.as_str());
    names.find(|name| !tags.types().iter().any(|known| known == name))
}

/// The words of a window: the places of their first and last wordpieces among its tokens. A word that begins before the window or ends after
/// it is not among them.
pub fn words(tokens: &[Token]) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut first = None;
    for (place, token) in tokens.iter().enumerate() {
        if token.starts_word {
            first = Some(place);
        }
        if token.ends_word
            && let Some(first) = first.take()
        {
            words.push((first, place));
        }
    }
    words
}

/// The tensors of a batch.
pub fn tensors(batch: &Batch) -> Tensors {
    mrc::tensors(batch)
}

/// Checks a graph's inputs and outputs against the contract.
///
/// # Errors
/// A [`Misfit`] that names the input or output.
pub fn check(graph: &GraphSignature) -> Result<(), Misfit> {
    const HINT: &str = "a tagger has the inputs input_ids, attention_mask, token_type_ids and shape_ids, and the output logits [batch, tokens, tags]";
    if let Some(unknown) = graph.inputs.iter().find(|name| !INPUTS.contains(&name.as_str())) {
        return Err(Misfit { reason: format!("the graph has an unknown input `{unknown}`"), hint: HINT });
    }
    match graph.output("logits") {
        Some(output) if output.rank == 3 && !output.is_i64 => Ok(()),
        Some(output) => {
            let reason = format!("logits is {} of {} dimensions, expected 3", output.declared, output.rank);
            Err(Misfit { reason, hint: HINT })
        }
        None if graph.output("start_logits").is_some() => Err(Misfit {
            reason: "the graph has no output `logits`, but `start_logits`".to_owned(),
            hint: "this is not a tagger: say kind = \"qa\" in its quarry.json, or a *ForQuestionAnswering, such as BertForQuestionAnswering, as `architectures` in its config.json",
        }),
        None => Err(Misfit { reason: "the graph has no output `logits`".to_owned(), hint: HINT }),
    }
}

/// Checks the outputs of a graph that was given the tensors that `given` finds.
///
/// # Errors
/// Logits that are missing, or not one per tag and token.
pub fn accept<'a>(given: &dyn Fn(&str) -> Option<&'a Tensor>, mut outputs: Tensors) -> Result<Tensors, String> {
    let Some([rows, tokens]) = given("input_ids").and_then(|ids| <[usize; 2]>::try_from(ids.shape.clone()).ok()) else {
        return Err("input_ids are not a batch".to_owned());
    };
    let Some(logits) = outputs.take("logits") else { return Err("there are no logits".to_owned()) };
    let shape = logits.shape.clone();
    if shape.len() != 3 || shape[..2] != [rows, tokens] {
        return Err(format!("logits has shape {shape:?}, expected [{rows}, {tokens}, tags]"));
    }
    let values = mrc::floats(Some(logits), "logits", shape.iter().product())?;
    Ok(Tensors::default().with("logits", &shape, Values::F32(values)))
}

/// The rows of outputs that [`accept`] has returned in which a logit is NaN or +∞.
pub fn unanswered(outputs: &Tensors) -> Vec<usize> {
    let Some(Tensor { shape, values: Values::F32(values) }) = outputs.get("logits") else { return Vec::new() };
    let width = shape.iter().skip(1).product::<usize>().max(1);
    let invalid = |row: &[f32]| row.iter().any(|value| value.is_nan() || *value == f32::INFINITY);
    values.chunks(width).enumerate().filter(|(_, row)| invalid(row)).map(|(row, _)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::answer::tests::acceptance;
    use crate::task::entity_schema::{EntityType, Nesting};
    use crate::task::tagger::scheme::Scheme;
    use crate::task::tensor::OutputSignature;
    use crate::text::document::Document;
    use crate::text::span::TokenSpan;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;
    use crate::text::window::{WindowRule, Windows};

    fn schema(names: &[&str]) -> EntitySchema {
        let one = |name: &&str| EntityType::new(*name, "who");
        EntitySchema { nested: Nesting::Flat, types: names.iter().map(one).collect() }
    }

    /// A batch of the windows of a text.
    fn batch(text: &str, tokens: usize) -> Batch {
        let tokenizer = tiny(Words::Tokenizer);
        let windows = Windows::new(&tokenizer, WindowRule { tokens, overlap: 0, words: None }, Document { text });
        let frame = tokenizer.frame();
        Batch { inputs: windows.map(|window| ModelInput::alone(0, &window.unwrap(), frame)).collect() }
    }

    /// Logits that are sure of a tag at some tokens of the first row, and of `O` elsewhere.
    fn logits(batch: &Batch, tags: usize, marked: &[(usize, usize)]) -> Tensors {
        let (rows, width) = (batch.inputs.len(), batch.tokens());
        let mut values = vec![0.0; rows * width * tags];
        for token in 0..rows * width {
            let tag = marked.iter().find(|(place, _)| *place == token).map_or(0, |(_, tag)| *tag);
            values[token * tags + tag] = 9.0;
        }
        Tensors::default().with("logits", &[rows, width, tags], Values::F32(values))
    }

    #[test]
    fn a_word_has_the_tag_of_its_first_wordpiece() {
        // [CLS] bank ##er new york [SEP]
        let batch = batch("banker new york", 16);
        let tags = TagSet::new(Scheme::Bio, &["PER", "LOC"]);
        let reader = TagReader::new(tags, &schema(&["LOC", "PER"]), acceptance(2, &[(0.5, 1.0)], 1e-3));
        // The second wordpiece says another type, and is not read.
        let marked = [(1, 1), (2, 3), (3, 3), (4, 4)];
        let answers = reader.read(&batch, logits(&batch, 5, &marked)).unwrap();
        let spans: Vec<_> = answers[0].spans.iter().map(|span| (span.entity_type, span.tokens)).collect();
        assert_eq!(spans, [(1, TokenSpan::new(0, 2)), (0, TokenSpan::new(2, 4))]);
        // A type that is not asked for changes nothing else.
        let only = TagReader::new(reader.tags.clone(), &schema(&["LOC"]), acceptance(1, &[(0.5, 1.0)], 1e-3));
        let alone = only.read(&batch, logits(&batch, 5, &marked)).unwrap();
        assert_eq!(alone[0].spans, answers[0].spans[1..]);
        let strict = TagReader { acceptance: acceptance(2, &[(1.0, 1.0)], 0.0), ..reader.clone() };
        assert!(strict.read(&batch, logits(&batch, 5, &marked)).unwrap()[0].spans.is_empty());
        assert!(reader.read(&batch, logits(&batch, 4, &[])).unwrap_err().contains("names 5 tags"));
    }

    #[test]
    fn a_word_that_a_window_cuts_has_no_tag() {
        let batch = batch(&format!("a {}", "b".repeat(20)), 8);
        assert!(batch.inputs.len() > 1);
        assert_eq!(words(&batch.inputs[0].window.tokens), [(0, 0)]);
        assert_eq!(words(&batch.inputs[1].window.tokens), []);
        let reader =
            TagReader::new(TagSet::new(Scheme::Bioes, &["A"]), &schema(&["A"]), acceptance(1, &[(0.5, 1.0)], 0.0));
        let marked: Vec<(usize, usize)> = (0..batch.padded_tokens()).map(|token| (token, 4)).collect();
        let answers = reader.read(&batch, logits(&batch, 5, &marked)).unwrap();
        let found: Vec<_> = answers.iter().flat_map(|answer| &answer.spans).map(|span| span.tokens).collect();
        assert_eq!(found, [TokenSpan::new(0, 1)]);
    }

    #[test]
    fn graphs_and_outputs_of_another_kind_are_refused() {
        let output =
            |name: &str, rank| OutputSignature { name: name.into(), rank, is_i64: false, declared: "f".into() };
        let graph = |inputs: &[&str], outputs: &[(&str, usize)]| GraphSignature {
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: outputs.iter().map(|(name, rank)| output(name, *rank)).collect(),
        };
        assert_eq!(check(&graph(&["input_ids"], &[("logits", 3)])), Ok(()));
        let reason = |graph: &GraphSignature| check(graph).unwrap_err().reason;
        assert_eq!(reason(&graph(&["pixels"], &[])), "the graph has an unknown input `pixels`");
        assert_eq!(reason(&graph(&[], &[("logits", 2)])), "logits is f of 2 dimensions, expected 3");
        assert!(check(&graph(&[], &[("start_logits", 2)])).unwrap_err().hint.contains("kind = \"qa\""));
        let given = Tensors::default().with("input_ids", &[2, 3], Values::I64(Vec::new()));
        let accepted = |shape: &[usize], values: Vec<f32>| {
            accept(&|name| given.get(name), Tensors::default().with("logits", shape, Values::F32(values)))
        };
        assert!(accepted(&[2, 3], vec![0.0; 6]).is_err() && accepted(&[2, 4, 1], vec![0.0; 8]).is_err());
        let outputs = accepted(&[2, 3, 2], [vec![0.0; 11], vec![f32::NAN]].concat()).unwrap();
        assert_eq!(unanswered(&outputs), [1]);
    }

    #[test]
    fn a_type_without_a_tag_is_named() {
        let tags = TagSet::new(Scheme::Bio, &["PER", "LOC"]);
        assert_eq!(unknown_type(&tags, &schema(&["LOC"])), None);
        assert_eq!(unknown_type(&tags, &schema(&["LOC", "SHIP"])), Some("SHIP"));
    }
}
