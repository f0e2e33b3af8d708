//! Splits → their examples. In: a split, the tokenizer, the job's questions. Out: its [`Data`], cut the same way for all splits, and a
//! warning or an error about mentions that no example can hold. It may not read files.

use std::path::Path;

use super::examples::{self, Examples};
use super::file::TrainFile;
use super::labelled::Split;
use super::recipe::OnProblem;
use crate::console;
use crate::error::{Error, Result};
use crate::mrc::documents::Reject;
use crate::mrc::query::{EntitySchema, Questions};
use crate::mrc::tokens::Tokenizer;
use crate::mrc::window::WindowRule;

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
pub(super) struct Cutter<'a> {
    file: &'a TrainFile,
    tokenizer: &'a Tokenizer,
    tokenizer_path: &'a Path,
    questions: Questions,
    rule: WindowRule,
}

impl<'a> Cutter<'a> {
    /// A cutter for the longest questions of `schema`; `tokenizer_path` is for messages.
    pub(super) fn new(
        file: &'a TrainFile,
        schema: &EntitySchema,
        tokenizer: &'a Tokenizer,
        tokenizer_path: &'a Path,
    ) -> Result<Self> {
        let questions = Questions::new(schema, tokenizer).map_err(failed(tokenizer_path))?;
        let (longest, most) = (questions.longest_query(0), file.recipe.max_length);
        if longest + 8 > most {
            return Err(Error::Setting {
                origin: "the training job".into(),
                key: "recipe.max_length".into(),
                reason: format!("{most} tokens leave no room for a context: the longest question takes {longest}"),
                hint: "say more tokens, or shorten the question".into(),
            });
        }
        let tokens = most - longest;
        let overlap = file.recipe.overlap_tokens.unwrap_or(tokens / 4).min(tokens / 2);
        Ok(Self { file, tokenizer, tokenizer_path, questions, rule: WindowRule { tokens, overlap } })
    }

    /// Cuts the split that was read from `location`. Mentions that are left out are told, or end the training, as the job says.
    pub(super) fn cut(&self, location: &str, split: Split) -> Result<Data> {
        let examples = examples::examples(&split.documents, self.tokenizer, &self.questions, self.rule)
            .map_err(failed(self.tokenizer_path))?;
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
                return Err(Error::Table {
                    what: "gold mentions".into(),
                    location: location.into(),
                    reason,
                    hint: "mend them, or leave them out with data.misaligned = \"skip\"".into(),
                });
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
