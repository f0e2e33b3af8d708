//! Splits → their examples. In: a split, the tokenizer, the job's questions. Out: its [`Data`], with the same windows for all splits, and
//! a warning or an error about mentions that no example can hold. It must not read files.

use std::path::Path;

use crate::error::{Error, Result};
use crate::task::batch::BatchTensors;
use crate::task::entity_schema::EntitySchema;
use crate::task::input::Questions;
use crate::task::kind::Kind;
use crate::task::late::asked;
use crate::text::document::Reject;
use crate::text::tokens::Tokenizer;
use crate::text::window::{SHORTEST_WINDOW, WindowRule};
use crate::train::data::dataset::{LabelledDocument, Split};
use crate::train::data::examples;
use crate::train::data::examples::Examples;
use crate::train::data::outermost::outermost;
use crate::train::data::word_dropout::WordDropout;
use crate::train::file::TrainFile;
use crate::train::recipe::OnProblem;

/// The number of misaligned mentions that a warning quotes.
const QUOTED: usize = 3;

/// A split with its examples.
#[derive(Debug)]
pub struct Data {
    /// Documents and gold.
    pub split: Split,
    /// Their inputs and answers.
    pub examples: Examples,
}

/// Converts splits to examples, with the same windows for all.
pub(crate) struct Featurizer<'a> {
    file: &'a TrainFile,
    tokenizer: &'a Tokenizer,
    tokenizer_path: &'a Path,
    questions: Questions,
    rule: WindowRule,
}

impl<'a> Featurizer<'a> {
    /// A featurizer whose windows leave space for the longest question of `schema`; `tokenizer_path` is for messages.
    ///
    /// # Errors
    /// [`Error::Setting`] if the recipe's lengths do not fit the questions or each other.
    pub(crate) fn new(
        file: &'a TrainFile,
        schema: &EntitySchema,
        tokenizer: &'a Tokenizer,
        tokenizer_path: &'a Path,
    ) -> Result<Self> {
        let questions = Questions::new(schema, tokenizer).map_err(failed(tokenizer_path))?;
        let max_length = file.recipe.max_length;
        // What an input has beside its window, and the shortest input with the longest question.
        let special = questions.frame().alone_tokens();
        let alone = SHORTEST_WINDOW + special;
        let (beside, shortest) = match file.recipe.model_kind() {
            Kind::Tagger => (special, alone),
            Kind::Late => (special, questions.longest_alone().max(alone)),
            _ => (questions.longest_query(0), questions.longest_query(SHORTEST_WINDOW)),
        };
        let refuse = |key: &str, reason: String, hint: &str| Error::Setting {
            origin: "the training job".into(),
            key: key.into(),
            reason,
            hint: hint.into(),
        };
        if shortest > max_length {
            let reason =
                format!("{max_length} tokens are too few: with the longest question at least {shortest} are needed");
            return Err(refuse("recipe.max_length", reason, "use a larger number, or shorten the question"));
        }
        let tokens = max_length - beside;
        let rule = WindowRule::new(tokens, file.recipe.overlap_tokens).map_err(|overlap| {
            let reason =
                format!("{overlap} is more than half of the window ({tokens}: max_length without the question)");
            refuse("recipe.overlap_tokens", reason, "use a smaller number; the default is an eighth of the window")
        })?;
        Ok(Self { file, tokenizer, tokenizer_path, questions, rule })
    }

    /// The questions of the job as inputs of the encoder, a row each.
    pub(crate) fn asked(&self) -> BatchTensors {
        asked(&self.questions.questions, self.questions.frame())
    }

    /// The words that training hides.
    ///
    /// # Errors
    /// [`Error::Setting`] if words are to be hidden and the tokenizer has no token for them.
    pub(crate) fn word_dropout(&self) -> Result<WordDropout> {
        match (self.file.recipe.word_dropout, self.tokenizer.mask()) {
            (share, Some(mask)) => Ok(WordDropout { share, mask }),
            (share, None) if share <= 0.0 => Ok(WordDropout { share, mask: 0 }),
            (_, None) => Err(Error::Setting {
                origin: self.tokenizer_path.display().to_string(),
                key: "recipe.word_dropout".into(),
                reason: "the vocabulary has neither [MASK] nor [UNK]".into(),
                hint: "omit the key".into(),
            }),
        }
    }

    /// Converts the split that was read from `location`. Mentions that no example holds cause a warning or an error, as the job says; a
    /// split without a query is an error.
    pub(crate) fn featurize(&self, location: &str, split: Split) -> Result<Data> {
        let kind = self.file.recipe.model_kind();
        let flat = (kind == Kind::Tagger).then(|| flat(location, &split));
        let documents = flat.as_ref().unwrap_or(&split.documents);
        let examples = examples::examples(documents, self.tokenizer, (&self.questions, kind), self.rule)
            .map_err(failed(self.tokenizer_path))?;
        if kind == Kind::Qa {
            note_further(location, &examples);
        }
        let refuse = |table: &str, reason: String, hint: &str| Error::Table {
            what: table.into(),
            location: location.into(),
            reason,
            hint: hint.into(),
        };
        if examples.examples.is_empty() {
            let reason = "the split is empty: none of its texts has a word".to_owned();
            return Err(refuse("documents", reason, "name a split whose texts have words"));
        }
        let (misaligned, lost) = (&examples.misaligned, examples.misaligned.len() + examples.split);
        if lost > 0 {
            let some: Vec<String> = misaligned
                .iter()
                .take(QUOTED)
                .map(|one| format!("`{}` at {} of `{}`", one.text, one.start, one.id))
                .collect();
            let reason = format!(
                "{} of {} gold mentions begin or end inside a word{}{}, {} fit into no window",
                misaligned.len(),
                split.mentions(),
                if some.is_empty() { "" } else { ": " },
                some.join(", "),
                examples.split
            );
            if self.file.data.misaligned == OnProblem::Stop {
                let hint = "correct them, or skip them with data.misaligned = \"skip\"";
                return Err(refuse("gold mentions", reason, hint));
            }
            tracing::warn!("{location}: {reason}; they are skipped");
        }
        Ok(Data { split, examples })
    }
}

/// The documents with the mentions that a tagger can mark. The number of the others is logged; on dev and test they count as missed.
fn flat(location: &str, split: &Split) -> Vec<LabelledDocument> {
    let mut others = 0;
    let flat = split.documents.iter().map(|document| {
        let (mentions, nested) = outermost(&document.mentions);
        others += nested;
        LabelledDocument { mentions, ..document.clone() }
    });
    let flat = flat.collect();
    if others > 0 {
        tracing::warn!(
            "{location}: {others} of {} gold mentions overlap a longer one: a tagger gives each word one tag, so only the longest are learned",
            split.mentions()
        );
    }
    flat
}

/// Logs the number of answers that question answering does not learn.
fn note_further(location: &str, examples: &Examples) {
    let further: usize = examples.examples.iter().map(|example| example.answers.len().saturating_sub(1)).sum();
    if further > 0 {
        tracing::warn!(
            "{location}: {further} mentions are not the first of their type in a window: a question has one answer, so only the first is learned"
        );
    }
}

/// The error for a text on which the tokenizer at `path` fails.
fn failed(path: &Path) -> impl Fn(Reject) -> Error {
    move |reject| Error::Tokenizer { path: path.to_owned(), source: reject.detail.into() }
}
