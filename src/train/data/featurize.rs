//! Splits → their examples. In: a split, the tokenizer, the job's questions. Out: its [`Data`], cut the same way for all splits, and a
//! warning or an error about mentions that no example can hold. It may not read files.

use std::path::Path;

use crate::console;
use crate::error::{Error, Result};
use crate::task::entity_schema::EntitySchema;
use crate::task::query::Questions;
use crate::text::document::Reject;
use crate::text::tokens::Tokenizer;
use crate::text::window::{SHORTEST_WINDOW, WindowRule};
use crate::train::data::dataset::Split;
use crate::train::data::examples;
use crate::train::data::examples::Examples;
use crate::train::file::TrainFile;
use crate::train::recipe::OnProblem;

/// Misaligned mentions that are named in a warning.
const NAMED: usize = 3;

/// A split with its examples.
#[derive(Debug)]
pub struct Data {
    /// Documents and gold.
    pub split: Split,
    /// Their queries and answers.
    pub examples: Examples,
}

/// Cuts splits into examples, the same way for all.
pub(crate) struct Featurizer<'a> {
    file: &'a TrainFile,
    tokenizer: &'a Tokenizer,
    tokenizer_path: &'a Path,
    questions: Questions,
    rule: WindowRule,
}

impl<'a> Featurizer<'a> {
    /// A cutter for the longest questions of `schema`; `tokenizer_path` is for messages.
    ///
    /// # Errors
    /// [`Error::Setting`] where the recipe's lengths do not fit the questions or one another.
    pub(crate) fn new(
        file: &'a TrainFile,
        schema: &EntitySchema,
        tokenizer: &'a Tokenizer,
        tokenizer_path: &'a Path,
    ) -> Result<Self> {
        let questions = Questions::new(schema, tokenizer).map_err(failed(tokenizer_path))?;
        let (longest, most) = (questions.longest_query(0), file.recipe.max_length);
        let refuse = |key: &str, reason: String, hint: &str| Error::Setting {
            origin: "the training job".into(),
            key: key.into(),
            reason,
            hint: hint.into(),
        };
        if longest + SHORTEST_WINDOW > most {
            let reason = format!("{most} tokens leave no room for a context: the longest question takes {longest}");
            return Err(refuse("recipe.max_length", reason, "say more tokens, or shorten the question"));
        }
        let tokens = most - longest;
        let rule = WindowRule::new(tokens, file.recipe.overlap_tokens).map_err(|overlap| {
            let reason =
                format!("{overlap} is more than half of the window ({tokens}: max_length without the question)");
            refuse("recipe.overlap_tokens", reason, "left out, it is an eighth of the window")
        })?;
        Ok(Self { file, tokenizer, tokenizer_path, questions, rule })
    }

    /// Cuts the split that was read from `location`. Mentions that are left out are told, or end the training, as the job says; so does a
    /// split without a query.
    pub(crate) fn cut(&self, location: &str, split: Split) -> Result<Data> {
        let examples = examples::examples(&split.documents, self.tokenizer, &self.questions, self.rule)
            .map_err(failed(self.tokenizer_path))?;
        let refuse = |what: &str, reason: String, hint: &str| Error::Table {
            what: what.into(),
            location: location.into(),
            reason,
            hint: hint.into(),
        };
        if examples.examples.is_empty() {
            let reason = "the split is empty: no text there has a word that could be asked about".to_owned();
            return Err(refuse("documents", reason, "name a split whose texts have words"));
        }
        let (misaligned, lost) = (&examples.misaligned, examples.misaligned.len() + examples.split);
        if lost > 0 {
            let some: Vec<String> = misaligned
                .iter()
                .take(NAMED)
                .map(|one| format!("`{}` at {} of `{}`", one.text, one.start, one.id))
                .collect();
            let reason = format!(
                "{} of {} gold mentions begin or end inside a word{}{}, {} are in no single window",
                misaligned.len(),
                split.mentions(),
                if some.is_empty() { "" } else { ": " },
                some.join(", "),
                examples.split
            );
            if self.file.data.misaligned == OnProblem::Stop {
                let hint = "mend them, or leave them out with data.misaligned = \"skip\"";
                return Err(refuse("gold mentions", reason, hint));
            }
            console::warn(&format!("{location}: {reason}; they are left out"));
        }
        Ok(Data { split, examples })
    }
}

/// A text that the tokenizer in `path` fails on.
fn failed(path: &Path) -> impl Fn(Reject) -> Error {
    move |reject| Error::Tokenizer { path: path.to_owned(), source: reject.detail.into() }
}
