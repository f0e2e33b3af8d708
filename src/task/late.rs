//! Machine reading comprehension with late interaction: the encoder reads each question once a job and each window once for all types, and
//! the head compares their vectors. In: windows, and the outputs of a graph. Out: inputs that are a window alone, and the spans of every type.
//! It must not run a graph.
//!
//! A model of this kind has two graphs. T = number of questions, d and m = widths of the head. The first is run once for each question:
//!
//! | | name | type | shape | |
//! |---|---|---|---|---|
//! | in | `input_ids`, `attention_mask`, `token_type_ids`, `shape_ids` | int64 | `[questions, tokens]` | a question alone in its frame |
//! | out | `question_starts`, `question_ends` | float32 | `[questions, d]` | divided by √d |
//! | out | `question_matches` | float32 | `[questions, m]` | the question's part of the match head's first layer, with its bias |
//!
//! The second has the inputs of [`mrc`], where the window is alone, and gets the outputs of the first for all questions with every batch:
//!
//! | | name | type | shape | |
//! |---|---|---|---|---|
//! | out | `start_logits`, `end_logits` | float32 | `[batch, T, tokens]` | |
//! | out | `span_index` | int64 | `[k, 4]` | row, type, start, end (inclusive) of every candidate, in this order |
//! | out | `span_logits` | float32 | `[k]` | the match logit of each candidate |
//!
//! The logits of a type do not depend on the other types that are asked for.

use std::sync::Arc;

use crate::task::answer::{Acceptance, Answer};
use crate::task::batch::{Batch, BatchTensors};
use crate::task::entity_schema::EntitySchema;
use crate::task::input::{ModelInput, Question, Questions};
use crate::task::mrc;
use crate::task::mrc::decode::{Candidate, DecodeRule, Logits, answer, undecided};
use crate::task::tensor::{GraphSignature, Misfit, Tensor, Tensors, Values};
use crate::text::document::Reject;
use crate::text::frame::{Frame, Part};
use crate::text::tokens::Tokenizer;
use crate::text::window::Window;

/// What the first graph gives of a question, and the second is given.
pub const QUESTION_OUTPUTS: [&str; 3] = ["question_starts", "question_ends", "question_matches"];

/// The questions of a schema and the rule that reads their answers.
#[derive(Debug, Clone)]
pub struct Late {
    /// The questions, tokenized.
    pub questions: Questions,
    /// Which pairs are candidates.
    pub rule: DecodeRule,
    /// Which candidates are answers.
    pub acceptance: Acceptance,
}

impl Late {
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

    /// The input for a window of document number `document`.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> ModelInput {
        ModelInput::alone(document, window, self.questions.frame())
    }

    /// The inputs of the first graph, one question each: what it gives of a question then depends on no other.
    pub fn asked(&self) -> impl Iterator<Item = Tensors> + use<'_> {
        let frame = self.questions.frame();
        self.questions.questions.iter().map(move |question| mrc::arrays(asked(std::slice::from_ref(question), frame)))
    }

    /// The tensors that the second graph takes with every batch: the boundary's logit, and what the first graph gave of each question, in their
    /// order.
    ///
    /// # Errors
    /// What violates the contract of the first graph.
    pub fn fixed(&self, given: Vec<Tensors>) -> Result<Tensors, String> {
        let mut given = given;
        let mut vectors = Tensors::default();
        for name in QUESTION_OUTPUTS {
            let mut all = Vec::new();
            for outputs in &mut given {
                all.extend(floats(outputs, name)?);
            }
            let count = given.len();
            let width = all.len() / count.max(1);
            if width * count != all.len() {
                return Err(format!("{name} has {} values for {count} questions", all.len()));
            }
            vectors = vectors.with(name, &[count, width], Values::F32(all));
        }
        self.with_vectors(vectors)
    }

    /// As [`Self::fixed`], from the vectors of all questions: float32 `[T, ..]` each.
    ///
    /// # Errors
    /// A tensor that is missing, or that has not one row for each question.
    pub fn with_vectors(&self, mut vectors: Tensors) -> Result<Tensors, String> {
        let mut fixed = mrc::fixed(self.rule.boundary);
        let asked = self.questions.questions.len();
        for name in QUESTION_OUTPUTS {
            let shape = vectors.get(name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
            let values = floats(&mut vectors, name)?;
            if shape.len() != 2 || shape[0] != asked || shape[0] * shape[1] != values.len() {
                return Err(format!("{name} has the shape {shape:?} for {asked} questions"));
            }
            fixed = fixed.with(name, &shape, Values::F32(values));
        }
        Ok(fixed)
    }

    /// As [`read`].
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&self, batch: &Batch, outputs: Tensors) -> Result<Vec<Answer>, String> {
        read(batch, self.questions.questions.len(), (&self.rule, &self.acceptance), outputs)
    }
}

/// The values of a float32 tensor.
fn floats(tensors: &mut Tensors, name: &str) -> Result<Vec<f32>, String> {
    match tensors.take(name) {
        Some(Tensor { values: Values::F32(values), .. }) => Ok(values),
        _ => Err(format!("{name} is not a float32 tensor")),
    }
}

/// Questions as inputs of the encoder, each alone in its frame, a row each.
pub fn asked(questions: &[Arc<Question>], frame: &Frame) -> BatchTensors {
    let framed = frame.framed(false);
    let tokens = questions.iter().map(|question| question.ids.len() + frame.alone_tokens()).max().unwrap_or(0);
    let mut tensors = BatchTensors::zeros(questions.len(), tokens);
    tensors.input_ids.fill(frame.pad.into());
    let special = |part: &'_ Part| part.ids.iter().copied().zip(part.types.iter().copied()).collect::<Vec<_>>();
    for (row, question) in questions.iter().enumerate() {
        let own = question.ids.iter().map(|&id| (id, framed.text_type));
        let ids = special(framed.before).into_iter().chain(own).chain(special(framed.after));
        for (place, (id, kind)) in (row * tokens..).zip(ids) {
            tensors.input_ids[place] = id.into();
            tensors.token_type_ids[place] = kind.into();
            tensors.attention_mask[place] = 1;
        }
    }
    tensors
}

/// One [`Answer`] per input of `batch`, in its order, with the spans of all `types` types.
///
/// # Errors
/// An output that [`accept`] has not returned.
pub fn read(
    batch: &Batch,
    types: usize,
    (rule, acceptance): (&DecodeRule, &Acceptance),
    mut outputs: Tensors,
) -> Result<Vec<Answer>, String> {
    let [starts, ends, scores] =
        ["start_logits", "end_logits", "span_logits"].map(|name| mrc::values(&mut outputs, name));
    let (starts, ends, scores) = (starts?, ends?, scores?);
    let index = mrc::index(&mut outputs)?;
    let width = batch.tokens();
    let mut candidates: Vec<Vec<Candidate>> = vec![Vec::new(); batch.inputs.len() * types];
    for (place, &logit) in index.as_chunks::<4>().0.iter().zip(&scores) {
        let [row, entity_type, start, end] = place.map(|place| place as usize);
        let lane = row * types + entity_type;
        let boundary = starts[lane * width + start] + ends[lane * width + end];
        candidates[lane].push(Candidate { start, end, logit, boundary });
    }
    let mut lanes = candidates.into_iter().enumerate();
    let mut answers = Vec::with_capacity(batch.inputs.len());
    for input in &batch.inputs {
        let mut all = Answer::default();
        for (lane, candidates) in lanes.by_ref().take(types) {
            let of_lane = lane * width..(lane + 1) * width;
            let found = answer(input, lane % types, candidates, (rule, acceptance));
            all.spans.extend(found.spans);
            all.capped += found.capped;
            all.undecided += found.undecided + undecided(input, &starts[of_lane.clone()], &ends[of_lane], rule);
        }
        all.spans.sort_by_key(|span| (span.tokens.start, span.tokens.end));
        answers.push(all);
    }
    Ok(answers)
}

/// The logits of each type, from outputs that [`accept`] has returned.
///
/// # Errors
/// An output that [`accept`] has not returned.
pub fn apart(mut outputs: Tensors) -> Result<Vec<Logits>, String> {
    let Some([rows, types, width]) =
        outputs.get("start_logits").and_then(|logits| <[usize; 3]>::try_from(logits.shape.clone()).ok())
    else {
        return Err("start_logits has not three dimensions".to_owned());
    };
    let [starts, ends, scores] =
        ["start_logits", "end_logits", "span_logits"].map(|name| mrc::values(&mut outputs, name));
    let (starts, ends, scores) = (starts?, ends?, scores?);
    let mut apart = vec![Logits::default(); types];
    for (entity_type, logits) in apart.iter_mut().enumerate() {
        for row in 0..rows {
            let lane = (row * types + entity_type) * width;
            logits.start.extend(&starts[lane..lane + width]);
            logits.end.extend(&ends[lane..lane + width]);
        }
    }
    for (place, &logit) in mrc::index(&mut outputs)?.as_chunks::<4>().0.iter().zip(&scores) {
        let [row, entity_type, start, end] = place.map(|place| place as usize);
        apart[entity_type].span_index.push([row, start, end]);
        apart[entity_type].span.push(logit);
    }
    Ok(apart)
}

/// Checks the inputs and outputs of the second graph against the contract.
///
/// # Errors
/// A [`Misfit`] that names the input or output.
pub fn check(graph: &GraphSignature) -> Result<(), Misfit> {
    const HINT: &str = "a graph of late interaction has the outputs start_logits [batch, T, tokens], end_logits, span_index [k, 4] and span_logits [k]; write one with `quarry export`";
    let known = |name: &str| mrc::INPUTS.contains(&name) || QUESTION_OUTPUTS.contains(&name);
    if let Some(unknown) = graph.inputs.iter().find(|name| !known(name)) {
        return Err(Misfit { reason: format!("the graph has an unknown input `{unknown}`"), hint: HINT });
    }
    if let Some(missing) = QUESTION_OUTPUTS.iter().find(|name| !graph.inputs.iter().any(|input| input == *name)) {
        return Err(Misfit { reason: format!("the graph has no input `{missing}`"), hint: HINT });
    }
    for (name, rank) in [("start_logits", 3), ("end_logits", 3), ("span_index", 2), ("span_logits", 1)] {
        match graph.output(name) {
            Some(output) if output.rank == rank && output.is_i64 == (name == "span_index") => {}
            Some(output) => {
                let reason = format!("{name} is {} of {} dimensions, expected {rank}", output.declared, output.rank);
                return Err(Misfit { reason, hint: HINT });
            }
            None => return Err(Misfit { reason: format!("the graph has no output `{name}`"), hint: HINT }),
        }
    }
    Ok(())
}

/// Checks the outputs of the first graph against the contract.
///
/// # Errors
/// A [`Misfit`] that names the output.
pub fn check_questions(graph: &GraphSignature) -> Result<(), Misfit> {
    let missing = QUESTION_OUTPUTS.iter().find(|name| graph.output(name).is_none_or(|output| output.rank != 2));
    missing.map_or(Ok(()), |name| {
        Err(Misfit {
            reason: format!("the graph of questions has no output `{name}` of two dimensions"),
            hint: "write the model again with `quarry export`",
        })
    })
}

/// Checks the outputs of a graph that was given the tensors that `given` finds.
///
/// # Errors
/// What violates the contract: a missing output, another number of values, a candidate outside the batch.
pub fn accept<'a>(given: &dyn Fn(&str) -> Option<&'a Tensor>, mut outputs: Tensors) -> Result<Tensors, String> {
    let shape = |name: &str| given(name).and_then(|tensor| <[usize; 2]>::try_from(tensor.shape.clone()).ok());
    let (Some([rows, tokens]), Some([types, _])) = (shape("input_ids"), shape("question_starts")) else {
        return Err("input_ids are not a batch, or question_starts are not there".to_owned());
    };
    let size = [rows, types, tokens];
    let count = outputs.get("span_index").and_then(|index| index.shape.first().copied()).unwrap_or(0);
    let start = mrc::floats(outputs.take("start_logits"), "start_logits", size.iter().product())?;
    let end = mrc::floats(outputs.take("end_logits"), "end_logits", size.iter().product())?;
    let span = mrc::floats(outputs.take("span_logits"), "span_logits", count)?;
    let index = mrc::index(&mut outputs)?;
    let inside = |&[row, entity_type, first, last]: &[i64; 4]| {
        let within = |place: i64, size: usize| (0..size as i64).contains(&place);
        within(row, rows)
            && within(entity_type, types)
            && within(first, tokens)
            && within(last, tokens)
            && first <= last
    };
    let (places, rest) = index.as_chunks::<4>();
    if !rest.is_empty() || places.len() != count || !places.iter().all(inside) {
        return Err(format!("span_index {index:?} is outside the batch of {size:?}"));
    }
    Ok(Tensors::default()
        .with("start_logits", &size, Values::F32(start))
        .with("end_logits", &size, Values::F32(end))
        .with("span_index", &[count, 4], Values::I64(index))
        .with("span_logits", &[count], Values::F32(span)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::answer::tests::acceptance;
    use crate::task::batch::tests::queries;
    use crate::task::entity_schema::{EntityType, Nesting};
    use crate::task::mrc::decode::decode;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;

    fn late(types: usize, rule: DecodeRule) -> Late {
        let types = (0..types).map(|number| EntityType::new(number.to_string(), "who")).collect();
        let schema = EntitySchema { nested: Nesting::Flat, types };
        let acceptance = Acceptance::new(&schema, rule.tolerance);
        Late::new(&schema, &tiny(Words::Tokenizer), (rule, acceptance)).unwrap()
    }

    const RULE: DecodeRule = DecodeRule { boundary: 0.0, nested: true, max_candidates: 3, tolerance: 1e-1 };

    #[test]
    fn a_question_is_asked_alone_in_its_frame() {
        let asked: Vec<Tensors> = late(2, RULE).asked().collect();
        let [one, _] = asked.as_slice() else { panic!("two questions") };
        let Some(Tensor { shape, values: Values::I64(ids) }) = one.get("input_ids") else { panic!("no ids") };
        // "who" is three letters.
        assert_eq!((shape.as_slice(), ids[0], ids[4]), ([1, 5].as_slice(), 2, 3));
    }

    #[test]
    fn what_is_given_of_the_questions_is_stacked_in_their_order() {
        let late = late(2, RULE);
        let given = |value: f32| {
            let row = |width: usize| Values::F32(vec![value; width]);
            let outputs = Tensors::default().with("question_starts", &[1, 2], row(2));
            outputs.with("question_ends", &[1, 2], row(2)).with("question_matches", &[1, 3], row(3))
        };
        let fixed = late.fixed(vec![given(1.0), given(2.0)]).unwrap();
        let matches = fixed.get("question_matches").unwrap();
        assert_eq!(matches.shape, [2, 3]);
        assert_eq!(matches.values, Values::F32(vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
        assert!(fixed.get("boundary_logit").is_some());
        assert_eq!(late.fixed(vec![given(1.0)]).unwrap_err(), "question_starts has the shape [1, 2] for 2 questions");
        assert_eq!(late.fixed(vec![Tensors::default(); 2]).unwrap_err(), "question_starts is not a float32 tensor");
    }

    proptest! {
        /// Every type is decoded as if it had been asked alone.
        #[test]
        fn types_are_decoded_apart(
            texts in proptest::collection::vec("[a-f .]{1,12}", 1..4),
            values in proptest::collection::vec(-2.0_f32..2.0, 997),
            types in 1_usize..4,
            nested in any::<bool>(),
            accepted in proptest::collection::vec((0.2_f32..0.8, 0.5_f32..2.0), 1..4),
        ) {
            let mut late = late(types, DecodeRule { nested, ..RULE });
            late.acceptance = acceptance(types, &accepted, RULE.tolerance);
            // Of the queries of one window, one input without its question.
            let windows: Vec<ModelInput> = queries(&texts).into_iter().step_by(2).map(|query| late.ask(query.document, &query.window)).collect();
            prop_assume!(!windows.is_empty());
            let batch = Batch { inputs: windows };
            let (rows, width) = (batch.inputs.len(), batch.tokens());
            let value = |number: usize| values[number % values.len()];
            let (mut starts, mut ends) = (vec![0.0; rows * types * width], vec![0.0; rows * types * width]);
            let (mut index, mut scores) = (Vec::new(), Vec::new());
            let mut alone = vec![Logits::default(); types];
            for row in 0..rows {
                for (entity_type, logits) in alone.iter_mut().enumerate() {
                    let lane = (row * types + entity_type) * width;
                    for place in lane..lane + width {
                        (starts[place], ends[place]) = (value(place), value(3 * place + 1));
                    }
                    logits.start.extend(&starts[lane..lane + width]);
                    logits.end.extend(&ends[lane..lane + width]);
                    for (start, end) in (1..width).flat_map(|start| (start..width).map(move |end| (start, end))) {
                        let logit = value(lane + 31 * start + end);
                        index.extend([row, entity_type, start, end].map(|place| place as i64));
                        scores.push(logit);
                        logits.span_index.push([row, start, end]);
                        logits.span.push(logit);
                    }
                }
            }
            let given = Tensors::default().with("input_ids", &[rows, width], Values::I64(Vec::new())).with("question_starts", &[types, 1], Values::F32(Vec::new()));
            let count = scores.len();
            let outputs = Tensors::default()
                .with("start_logits", &[rows, types, width], Values::F32(starts))
                .with("end_logits", &[rows, types, width], Values::F32(ends))
                .with("span_index", &[count, 4], Values::I64(index))
                .with("span_logits", &[count], Values::F32(scores));
            let found = late.read(&batch, accept(&|name| given.get(name), outputs).unwrap()).unwrap();
            let alone = alone.iter().enumerate().map(|(number, logits)| {
                // A row without a question is of the first type.
                let own = acceptance(1, &accepted[number % accepted.len()..], RULE.tolerance);
                decode(&batch, logits, &late.rule, &own)
            });
            let alone: Vec<Vec<Answer>> = alone.collect();
            for (row, answer) in found.iter().enumerate() {
                for (entity_type, alone) in alone.iter().enumerate() {
                    let of_type = |span: &&crate::task::answer::Span| span.entity_type == entity_type;
                    let spans: Vec<_> = answer.spans.iter().filter(of_type).map(|span| (span.tokens, span.logit)).collect();
                    let expected: Vec<_> = alone[row].spans.iter().map(|span| (span.tokens, span.logit)).collect();
                    prop_assert_eq!(spans, expected);
                }
                prop_assert_eq!(answer.capped, alone.iter().map(|alone| alone[row].capped).sum::<usize>());
                prop_assert_eq!(answer.undecided, alone.iter().map(|alone| alone[row].undecided).sum::<usize>());
            }
        }
    }

    #[test]
    fn outputs_outside_the_batch_are_refused_and_rows_that_are_not_finite_named() {
        let given = Tensors::default().with("input_ids", &[2, 3], Values::I64(Vec::new())).with(
            "question_starts",
            &[2, 1],
            Values::F32(Vec::new()),
        );
        let outputs = |candidate: [i64; 4], logit: f32, size: usize| {
            let outputs = Tensors::default()
                .with("start_logits", &[2, 2, 3], Values::F32(vec![0.0; size]))
                .with("end_logits", &[2, 2, 3], Values::F32(vec![0.0; 12]))
                .with("span_index", &[1, 4], Values::I64(candidate.to_vec()))
                .with("span_logits", &[1], Values::F32(vec![logit]));
            accept(&|name| given.get(name), outputs)
        };
        assert!(mrc::unanswered(&outputs([1, 1, 0, 2], 1.0, 12).unwrap()).is_empty());
        assert_eq!(mrc::unanswered(&outputs([1, 1, 0, 2], f32::NAN, 12).unwrap()), [1]);
        for outside in [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 1], [0, 0, 0, 3], [0, -1, 0, 0]] {
            assert!(outputs(outside, 1.0, 12).unwrap_err().contains("is outside the batch"), "{outside:?}");
        }
        assert!(outputs([0, 0, 0, 0], 1.0, 11).unwrap_err().contains("start_logits"));
    }
}
