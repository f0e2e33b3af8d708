//! Extractive question answering: one best span per question and document, or none. In: windows, and the outputs of a graph. Out: inputs
//! `[CLS] question [SEP] window [SEP]`, and the span that answers each question best. It must not run a graph.
//!
//! | | name | type | shape | |
//! |---|---|---|---|---|
//! | in | `input_ids`, `attention_mask`, `token_type_ids` | int64 | `[batch, tokens]` | mask: ones, then zeros for padding |
//! | in | `shape_ids` | int64 | `[batch, tokens]` | [how words are written](crate::text::word_shape); only of encoders that are told |
//! | out | `start_logits`, `end_logits` | float32 | `[batch, tokens]` | |
//!
//! A span can start with the first wordpiece of a word of the window and end with the last one of the same or a later word; its logit is the sum of
//! its start and its end logit. The null answer is the span of `[CLS]` alone, as in SQuAD 2 (Rajpurkar et al. 2018). The score of a span is the
//! softmax of its logit over all spans of the window and the null answer. A window answers with its best span if this span's logit
//! exceeds that of the null answer by more than `null_threshold`, and its score the threshold. Of the windows of a document that answer a
//! question, the one with the highest score counts.

use crate::task::answer::{Acceptance, Answer, Span};
use crate::task::batch::Batch;
use crate::task::entity_schema::EntitySchema;
use crate::task::input::{ModelInput, Questions};
use crate::task::mrc;
use crate::task::tensor::{GraphSignature, Misfit, Tensor, Tensors, Values};
use crate::text::document::Reject;
use crate::text::tokens::Tokenizer;

/// The outputs that are read.
pub const OUTPUTS: [&str; 2] = ["start_logits", "end_logits"];

/// The inputs that a graph can have.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "shape_ids"];

/// The largest logit of a score: `f64` knows no probability nearer to 1.
const LARGEST: f64 = 36.0;

/// The questions of a schema and the rule that reads their answers.
#[derive(Debug, Clone)]
pub struct Qa {
    /// The questions, tokenized.
    pub questions: Questions,
    /// When a span is better than no answer.
    pub rule: AnswerRule,
    /// When its score is that of a mention.
    pub acceptance: Acceptance,
}

/// When a span is better than no answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerRule {
    /// By how much a span's logit must exceed that of the null answer.
    pub null_threshold: f32,
    /// A decision closer to its threshold than this counts as undecided.
    pub tolerance: f32,
}

impl Qa {
    /// The kind for the types of `schema`.
    ///
    /// # Errors
    /// A [`Reject`] if the tokenizer fails on a question.
    pub fn new(
        schema: &EntitySchema,
        tokenizer: &Tokenizer,
        (rule, acceptance): (AnswerRule, Acceptance),
    ) -> Result<Self, Reject> {
        Ok(Self { questions: Questions::new(schema, tokenizer)?, rule, acceptance })
    }
}

/// One [`Answer`] per input of `batch`, in its order.
///
/// # Errors
/// An output that [`accept`] has not returned.
pub fn read(batch: &Batch, read_by: (&AnswerRule, &Acceptance), mut outputs: Tensors) -> Result<Vec<Answer>, String> {
    let [starts, ends] = OUTPUTS.map(|name| mrc::values(&mut outputs, name));
    let (starts, ends, width) = (starts?, ends?, batch.tokens());
    let rows = batch.inputs.iter().zip(starts.chunks(width).zip(ends.chunks(width)));
    Ok(rows.map(|(input, (starts, ends))| answer(input, starts, ends, read_by)).collect())
}

/// The answer to one input from its logits, `[tokens]` each.
fn answer(input: &ModelInput, starts: &[f32], ends: &[f32], (rule, acceptance): (&AnswerRule, &Acceptance)) -> Answer {
    let mut answer = Answer { one_of_type: true, ..Answer::default() };
    let Some(best) = best(input, starts, ends) else { return answer };
    let entity_type = input.entity_type().unwrap_or_default();
    let near_null = (best.above_null - rule.null_threshold).abs() < rule.tolerance;
    answer.undecided = usize::from(near_null) + usize::from(acceptance.undecided(entity_type, best.logit));
    if best.above_null > rule.null_threshold
        && let Some(logit) = acceptance.judge(entity_type, best.logit)
        && let Some(tokens) = input.place(best.start, best.end)
    {
        answer.spans.push(Span { entity_type, tokens, logit });
    }
    answer
}

/// The best span of an input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Best {
    /// Its first token in the input.
    start: usize,
    /// Its last.
    end: usize,
    /// The logit of its score.
    logit: f32,
    /// Its logit − that of the null answer.
    above_null: f32,
}

/// The best span of an input; of equal ones the first. `None` if no word is whole in the window.
fn best(input: &ModelInput, starts: &[f32], ends: &[f32]) -> Option<Best> {
    let context = input.context_start();
    let null = f64::from(starts[0]) + f64::from(ends[0]);
    // Sums over all spans that end up to here, over all starts up to here, and the best of both.
    let (mut all, mut started) = (null, f64::NEG_INFINITY);
    let mut start: Option<(usize, f64)> = None;
    let mut best: Option<(usize, usize, f64)> = None;
    for (place, token) in input.window.tokens.iter().enumerate().map(|(place, token)| (context + place, token)) {
        if token.starts_word {
            let logit = f64::from(starts[place]);
            started = log_sum(started, logit);
            start = start.filter(|(_, other)| *other >= logit).or(Some((place, logit)));
        }
        if token.ends_word
            && let Some((start, logit)) = start
        {
            let end = f64::from(ends[place]);
            all = log_sum(all, started + end);
            best = best.filter(|(_, _, other)| *other >= logit + end).or(Some((start, place, logit + end)));
        }
    }
    let (start, end, logit) = best?;
    let probability = (logit - all).exp().min(1.0);
    let score = (probability.ln() - (1.0 - probability).ln()).clamp(-LARGEST, LARGEST);
    Some(Best { start, end, logit: score as f32, above_null: (logit - null) as f32 })
}

/// ln(eᵃ + eᵇ).
fn log_sum(a: f64, b: f64) -> f64 {
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    if large == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() }
}

/// Checks a graph's inputs and outputs against the contract.
///
/// # Errors
/// A [`Misfit`] that names the input or output.
pub fn check(graph: &GraphSignature) -> Result<(), Misfit> {
    const HINT: &str = "a graph of question answering has the inputs input_ids, attention_mask, token_type_ids and shape_ids, and the outputs start_logits and end_logits [batch, tokens]";
    let outputs: Vec<&str> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
    if outputs.contains(&"span_logits") {
        return Err(Misfit {
            reason: "the graph has the output `span_logits`".to_owned(),
            hint: "this is an MRC model: say kind = \"mrc\" in its quarry.json",
        });
    }
    if outputs.contains(&"logits") && !outputs.contains(&"start_logits") {
        return Err(Misfit {
            reason: "the graph has no output `start_logits`, but `logits`".to_owned(),
            hint: "this is a tagger: say kind = \"tagger\" in its quarry.json, or a *ForTokenClassification, such as BertForTokenClassification, as `architectures` in its config.json",
        });
    }
    if let Some(unknown) = graph.inputs.iter().find(|name| !INPUTS.contains(&name.as_str())) {
        return Err(Misfit { reason: format!("the graph has an unknown input `{unknown}`"), hint: HINT });
    }
    for name in OUTPUTS {
        match graph.output(name) {
            Some(output) if output.rank == 2 && !output.is_i64 => {}
            Some(output) => {
                let reason = format!("{name} is {} of {} dimensions, expected 2", output.declared, output.rank);
                return Err(Misfit { reason, hint: HINT });
            }
            None => return Err(Misfit { reason: format!("the graph has no output `{name}`"), hint: HINT }),
        }
    }
    Ok(())
}

/// Checks the outputs of a graph that was given the tensors that `given` finds.
///
/// # Errors
/// An output that is missing, or has another number of values.
pub fn accept<'a>(given: &dyn Fn(&str) -> Option<&'a Tensor>, mut outputs: Tensors) -> Result<Tensors, String> {
    let Some(shape) = given("input_ids").and_then(|ids| <[usize; 2]>::try_from(ids.shape.clone()).ok()) else {
        return Err("input_ids are not a batch".to_owned());
    };
    let mut accepted = Tensors::default();
    for name in OUTPUTS {
        let values = mrc::floats(outputs.take(name), name, shape[0] * shape[1])?;
        accepted = accepted.with(name, &shape, Values::F32(values));
    }
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::answer::sigmoid;
    use crate::task::answer::tests::acceptance;
    use crate::task::batch::tests::queries;
    use crate::task::entity_schema::Nesting;
    use crate::task::merge::Mentions;
    use crate::task::tensor::OutputSignature;

    const RULE: AnswerRule = AnswerRule { null_threshold: 0.0, tolerance: 1e-3 };

    /// Accepts every span.
    fn any() -> Acceptance {
        acceptance(2, &[(1e-30, 1.0)], 1e-3)
    }

    fn outputs(batch: &Batch, starts: Vec<f32>, ends: Vec<f32>) -> Tensors {
        let shape = [batch.inputs.len(), batch.tokens()];
        Tensors::default().with("start_logits", &shape, Values::F32(starts)).with(
            "end_logits",
            &shape,
            Values::F32(ends),
        )
    }

    proptest! {
        #[test]
        fn answers_equal_brute_force(
            texts in proptest::collection::vec("[a-f .]{1,16}", 1..4),
            values in proptest::collection::vec(-4.0_f32..4.0, 2048),
            null_threshold in -2.0_f32..2.0,
        ) {
            let batch = Batch { inputs: queries(&texts) };
            prop_assume!(!batch.inputs.is_empty());
            let (size, width) = (batch.padded_tokens(), batch.tokens());
            let starts: Vec<f32> = (0..size).map(|at| values[at % 1024]).collect();
            let ends: Vec<f32> = (0..size).map(|at| values[1024 + at % 1023]).collect();
            let masks = batch.tensors();
            let rule = AnswerRule { null_threshold, ..RULE };
            let answers = read(&batch, (&rule, &any()), outputs(&batch, starts.clone(), ends.clone())).unwrap();
            for (row, input) in batch.inputs.iter().enumerate() {
                let at = |place: usize| row * width + place;
                let logit = |first: usize, last: usize| f64::from(starts[at(first)]) + f64::from(ends[at(last)]);
                let spans: Vec<(usize, usize)> = (0..width)
                    .flat_map(|first| (first..width).map(move |last| (first, last)))
                    .filter(|&(first, last)| masks.start_mask[at(first)] && masks.end_mask[at(last)])
                    .collect();
                let total: f64 = spans.iter().map(|&(first, last)| logit(first, last).exp()).sum::<f64>() + logit(0, 0).exp();
                let best = spans.iter().map(|&(first, last)| logit(first, last)).fold(f64::NEG_INFINITY, f64::max);
                let expected = best > logit(0, 0) + f64::from(null_threshold);
                prop_assert_eq!(answers[row].spans.len(), usize::from(expected));
                for span in &answers[row].spans {
                    let offset = input.context_start() - input.window.span.start;
                    let found = logit(span.tokens.start + offset, span.tokens.end - 1 + offset);
                    prop_assert!((found - best).abs() < 1e-9);
                    prop_assert!((f64::from(sigmoid(span.logit)) - best.exp() / total).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn a_document_has_the_best_answer_of_its_windows_to_each_question() {
        // Words of one letter: windows of sixteen tokens that overlap.
        let text = "a b c d e f g h i j k l m n o p q r s t u v w x y z";
        let batch = Batch { inputs: queries(&[text.to_owned()]) };
        assert!(batch.inputs.len() >= 4, "two windows, two questions");
        let width = batch.tokens();
        let (mut starts, mut ends) = (vec![-9.0; batch.padded_tokens()], vec![-9.0; batch.padded_tokens()]);
        for (row, input) in batch.inputs.iter().enumerate() {
            // The first window says its third word, the second its eighth, with more certainty.
            let (word, logit) = if input.window.index == 0 { (2, 2.0) } else { (7, 4.0) };
            let place = row * width + input.context_start() + word;
            (starts[place], ends[place]) = (logit, logit);
        }
        let answers = read(&batch, (&RULE, &any()), outputs(&batch, starts, ends)).unwrap();
        let finished = |reversed: bool| {
            let mut mentions = Mentions::default();
            let mut pairs: Vec<_> = batch.inputs.iter().zip(&answers).collect();
            if reversed {
                pairs.reverse();
            }
            for (input, answer) in pairs {
                mentions.add(input, answer);
            }
            mentions.finish(text, Nesting::Nested)
        };
        let found = finished(false);
        assert_eq!(found.iter().map(|one| one.entity_type).collect::<Vec<_>>(), [0, 1]);
        assert!(found.iter().all(|one| one.window == 1));
        assert_eq!(found, finished(true), "the order of the answers does not matter");
    }

    #[test]
    fn extreme_logits_have_finite_scores() {
        let batch = Batch { inputs: queries(&["a b c".to_owned()])[..1].to_vec() };
        for (start, end) in [(f32::MAX, f32::MAX), (-f32::MAX, 0.0), (f32::NEG_INFINITY, f32::NEG_INFINITY)] {
            let starts: Vec<f32> = (0..batch.tokens()).map(|at| if at % 2 == 0 { start } else { 0.0 }).collect();
            for answer in read(&batch, (&RULE, &any()), outputs(&batch, starts, vec![end; batch.tokens()])).unwrap() {
                assert!(answer.spans.iter().all(|span| span.logit.is_finite()), "{answer:?}");
            }
        }
    }

    #[test]
    fn graphs_of_another_kind_are_refused() {
        let graph = |outputs: &[(&str, usize)]| GraphSignature {
            inputs: vec!["input_ids".into()],
            outputs: outputs
                .iter()
                .map(|(name, rank)| OutputSignature {
                    name: (*name).into(),
                    rank: *rank,
                    is_i64: false,
                    declared: "f".into(),
                })
                .collect(),
        };
        assert_eq!(check(&graph(&[("start_logits", 2), ("end_logits", 2)])), Ok(()));
        assert!(check(&graph(&[("logits", 3)])).unwrap_err().hint.contains("kind = \"tagger\""));
        assert!(check(&graph(&[("start_logits", 2), ("span_logits", 1)])).unwrap_err().hint.contains("kind = \"mrc\""));
        assert_eq!(check(&graph(&[("start_logits", 2)])).unwrap_err().reason, "the graph has no output `end_logits`");
        assert!(check(&graph(&[("start_logits", 3), ("end_logits", 2)])).unwrap_err().reason.contains("expected 2"));
    }
}
