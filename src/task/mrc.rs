//! Machine reading comprehension, the kind of Li et al. (ACL 2020): one question per entity type and window. In: windows, and the outputs
//! of a graph. Out: inputs with a question and a window, and the spans that answer each question. It must not run a graph.
//!
//! The contract of its graph. One that scores all pairs instead has no `span_index`, and its `span_logits` are `[batch, tokens, tokens]`.
//!
//! | | name | type | shape | |
//! |---|---|---|---|---|
//! | in | `input_ids`, `attention_mask` | int64 | `[batch, tokens]` | mask: ones, then zeros for padding |
//! | in | `token_type_ids` | int64 | `[batch, tokens]` | what the tokens belong to; only of encoders that are told |
//! | in | `shape_ids` | int64 | `[batch, tokens]` | [how words are written](crate::text::word_shape); only of encoders that are told |
//! | in | `start_mask`, `end_mask` | bool | `[batch, tokens]` | tokens that can start or end a mention |
//! | in | `boundary_logit` | float32 | scalar | start and end logits must be greater |
//! | out | `start_logits`, `end_logits` | float32 | `[batch, tokens]` | |
//! | out | `span_index` | int64 | `[k, 3]` | row, start, end (inclusive) of every candidate, in this order |
//! | out | `span_logits` | float32 | `[k]` | the match logit of each candidate |

pub mod decode;

use std::sync::Arc;

use crate::task::answer::{Acceptance, Answer};
use crate::task::batch::{Batch, BatchTensors};
use crate::task::entity_schema::EntitySchema;
use crate::task::input::{ModelInput, Questions};
use crate::task::mrc::decode::{DecodeRule, Logits, decode};
use crate::task::tensor::{GraphSignature, Misfit, Tensor, Tensors, Values};
use crate::text::document::Reject;
use crate::text::tokens::Tokenizer;
use crate::text::window::Window;

/// The inputs that a graph can have; `input_ids` is required.
pub(crate) const INPUTS: [&str; 7] =
    ["input_ids", "attention_mask", "token_type_ids", "shape_ids", "start_mask", "end_mask", "boundary_logit"];

/// The outputs that are read.
pub const OUTPUTS: [&str; 4] = ["start_logits", "end_logits", "span_index", "span_logits"];

/// The questions of a schema and the rule that reads their answers.
#[derive(Debug, Clone)]
pub struct Mrc {
    /// The questions, tokenized.
    pub questions: Questions,
    /// Which pairs are candidates.
    pub rule: DecodeRule,
    /// Which candidates are answers.
    pub acceptance: Acceptance,
}

impl Mrc {
    /// The kind for the types of `schema`.
    ///
    /// # Errors
    /// A [`Reject`] if the tokenizer fails on a question.
    pub fn new(
        schema: &EntitySchema,
        tokenizer: &Tokenizer,
        (rule, acceptance): (DecodeRule, Acceptance),
    ) -> Result<Self, Reject> {
        Ok(Self { questions: Questions::new(schema, tokenizer)?, rule, acceptance })
    }

    /// One input per entity type.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> impl Iterator<Item = ModelInput> + use<'_> {
        self.questions.ask(document, window)
    }

    /// One [`Answer`] per input of `batch`, in its order.
    ///
    /// # Errors
    /// As for [`logits`].
    pub fn read(&self, batch: &Batch, outputs: Tensors) -> Result<Vec<Answer>, String> {
        Ok(decode(batch, &logits(outputs)?, &self.rule, &self.acceptance))
    }
}

/// The tensors that a graph takes with every batch: the logit that a start and an end must exceed to be a candidate.
pub fn fixed(boundary: f32) -> Tensors {
    Tensors::default().with("boundary_logit", &[], Values::F32(vec![boundary]))
}

/// The tensors of a batch.
pub fn tensors(batch: &Batch) -> Tensors {
    arrays(batch.tensors())
}

/// A batch's arrays under the names of a graph's inputs.
pub(crate) fn arrays(made: BatchTensors) -> Tensors {
    let shape = [made.rows, made.tokens];
    Tensors::default()
        .with("input_ids", &shape, Values::I64(made.input_ids))
        .with("attention_mask", &shape, Values::I64(made.attention_mask))
        .with("token_type_ids", &shape, Values::I64(made.token_type_ids))
        .with("shape_ids", &shape, Values::I64(made.shape_ids))
        .with("start_mask", &shape, Values::Bool(made.start_mask))
        .with("end_mask", &shape, Values::Bool(made.end_mask))
}

/// Checks a graph's inputs and outputs against the contract.
///
/// # Errors
/// A [`Misfit`] that names the input or output.
pub fn check(graph: &GraphSignature) -> Result<(), Misfit> {
    if let Some(unknown) = graph.inputs.iter().find(|name| !INPUTS.contains(&name.as_str())) {
        return Err(Misfit {
            reason: format!("the graph has an unknown input `{unknown}`"),
            hint: "an MRC graph has the inputs input_ids, attention_mask, token_type_ids, shape_ids, start_mask, end_mask and boundary_logit",
        });
    }
    for name in ["start_logits", "end_logits", "span_logits"] {
        if graph.output(name).is_none() {
            let found: Vec<&str> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(Misfit {
                reason: format!("the graph has no output `{name}`, only {}", found.join(", ")),
                hint: "an MRC graph has the outputs start_logits, end_logits, span_index and span_logits; write one with `quarry export`",
            });
        }
    }
    let (index, rank) = (graph.output("span_index"), graph.output("span_logits").map_or(0, |output| output.rank));
    let (wanted, shape) = if index.is_none() { (3, "[batch, tokens, tokens]") } else { (1, "[k]") };
    if rank != wanted {
        return Err(Misfit {
            reason: format!("span_logits has {rank} dimensions, expected {shape}"),
            hint: "an MRC graph scores candidates (span_index [k, 3], span_logits [k]) or all pairs (span_logits [batch, tokens, tokens])",
        });
    }
    if let Some(index) = index.filter(|index| !index.is_i64) {
        return Err(Misfit {
            reason: format!("span_index is {}, expected int64 [k, 3]", index.declared),
            hint: "an MRC graph gives the row, start and end of each candidate as int64",
        });
    }
    Ok(())
}

/// Checks the outputs of a graph that was given the tensors that `given` finds. A graph without `span_index` scores all pairs: its
/// candidates are selected here, as a graph that has it selects them.
///
/// # Errors
/// What violates the contract: a missing output, another number of values, a candidate outside the batch.
pub fn accept<'a>(given: &dyn Fn(&str) -> Option<&'a Tensor>, mut outputs: Tensors) -> Result<Tensors, String> {
    let Some([rows, tokens]) = given("input_ids").and_then(|ids| <[usize; 2]>::try_from(ids.shape.clone()).ok()) else {
        return Err("input_ids are not a batch".to_owned());
    };
    let size = rows * tokens;
    let start = floats(outputs.take("start_logits"), "start_logits", size)?;
    let end = floats(outputs.take("end_logits"), "end_logits", size)?;
    let (index, span) = if let Some(index) = outputs.take("span_index") {
        let span = floats(outputs.take("span_logits"), "span_logits", index.shape.first().copied().unwrap_or(0))?;
        let Values::I64(index) = index.values else { return Err("span_index is not int64".to_owned()) };
        let inside = |&[row, first, last]: &[i64; 3]| {
            (0..rows as i64).contains(&row) && 0 <= first && first <= last && last < tokens as i64
        };
        let (triples, rest) = index.as_chunks::<3>();
        if !rest.is_empty() || triples.len() != span.len() || !triples.iter().all(inside) {
            return Err(format!("span_index {index:?} is outside the batch of {:?}", [rows, tokens]));
        }
        (index, span)
    } else {
        let pairs = floats(outputs.take("span_logits"), "span_logits", size * tokens)?;
        candidates(given, tokens, (&start, &end, &pairs))?
    };
    let (shape, count) = ([rows, tokens], span.len());
    Ok(Tensors::default()
        .with("start_logits", &shape, Values::F32(start))
        .with("end_logits", &shape, Values::F32(end))
        .with("span_index", &[count, 3], Values::I64(index))
        .with("span_logits", &[count], Values::F32(span)))
}

/// The rows of outputs that [`accept`] has returned in which a logit is NaN or +∞, as when an activation overflows: such a row answers
/// nothing. (-∞ is allowed: a graph can use it for an impossible span.)
pub fn unanswered(outputs: &Tensors) -> Vec<usize> {
    let invalid = |value: &f32| value.is_nan() || *value == f32::INFINITY;
    let invalid_at = |name: &str| -> Vec<usize> {
        match outputs.get(name).map(|output| &output.values) {
            Some(Values::F32(values)) => (0..values.len()).filter(|&place| invalid(&values[place])).collect(),
            _ => Vec::new(),
        }
    };
    let width = outputs.get("start_logits").map_or(1, |output| output.shape.iter().skip(1).product::<usize>()).max(1);
    let mut rows: Vec<usize> =
        ["start_logits", "end_logits"].into_iter().flat_map(invalid_at).map(|place| place / width).collect();
    if let Some(Tensor { shape, values: Values::I64(index) }) = outputs.get("span_index") {
        // The row is the first of the numbers of a candidate.
        let numbers = shape.last().copied().unwrap_or_default();
        let row = |candidate: usize| Some(*index.get(numbers * candidate)? as usize);
        rows.extend(invalid_at("span_logits").into_iter().filter_map(row));
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Outputs that [`accept`] has returned, as logits.
///
/// # Errors
/// An output that is missing or of another type.
pub fn logits(mut outputs: Tensors) -> Result<Logits, String> {
    let [start, end, span] = ["start_logits", "end_logits", "span_logits"].map(|name| values(&mut outputs, name));
    let (start, end, span) = (start?, end?, span?);
    let index = index(&mut outputs)?;
    let span_index = index.as_chunks::<3>().0.iter().map(|triple| triple.map(|place| place as usize)).collect();
    Ok(Logits { start, end, span_index, span })
}

/// The values of an output.
pub(crate) fn values(outputs: &mut Tensors, name: &str) -> Result<Vec<f32>, String> {
    match outputs.take(name).map(|output| output.values) {
        Some(Values::F32(values)) => Ok(values),
        _ => Err(format!("{name} is not a float32 tensor")),
    }
}

/// The values of `span_index`.
pub(crate) fn index(outputs: &mut Tensors) -> Result<Vec<i64>, String> {
    match outputs.take("span_index").map(|output| output.values) {
        Some(Values::I64(index)) => Ok(index),
        _ => Err("span_index is not int64".to_owned()),
    }
}

/// The values of an output: as many as expected.
pub(crate) fn floats(output: Option<Tensor>, name: &str, expected: usize) -> Result<Vec<f32>, String> {
    let Some(Tensor { shape, values: Values::F32(values) }) = output else {
        return Err(format!("{name} is not a float32 tensor"));
    };
    if values.len() != expected {
        return Err(format!("{name} has shape {shape:?}, expected {expected} values"));
    }
    Ok(values)
}

/// The candidates of a graph that scores all pairs: row, start and end of each, and their scores.
fn candidates<'a>(
    given: &dyn Fn(&str) -> Option<&'a Tensor>,
    width: usize,
    (start, end, pairs): (&[f32], &[f32], &[f32]),
) -> Result<(Vec<i64>, Vec<f32>), String> {
    let mask = |name: &str| match given(name).map(|tensor| &tensor.values) {
        Some(Values::Bool(mask)) => Ok(mask),
        _ => Err(format!("{name} is not given")),
    };
    let Some(Values::F32(boundary)) = given("boundary_logit").map(|tensor| &tensor.values) else {
        return Err("boundary_logit is not given".to_owned());
    };
    let (starts, ends, boundary) = (mask("start_mask")?, mask("end_mask")?, boundary.first().copied().unwrap_or(0.0));
    let (mut index, mut span) = (Vec::new(), Vec::new());
    for row in (0..start.len()).step_by(width.max(1)) {
        for first in (row..row + width).filter(|&at| starts[at] && start[at] > boundary) {
            for last in (first..row + width).filter(|&at| ends[at] && end[at] > boundary) {
                index.extend([row / width, first - row, last - row].map(|place| place as i64));
                span.push(pairs[first * width + last - row]);
            }
        }
    }
    Ok((index, span))
}
