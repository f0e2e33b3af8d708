//! Answers → tags. In: an input of a tagger with its mentions, how its tags are read. Out: for each token the tags that it may have. It must not know logits.

use crate::task::input::ModelInput;
use crate::task::tagger::{TagReader, words};
use crate::text::span::TokenSpan;

/// What is known of an input.
pub(crate) struct Marked<'e> {
    /// The window.
    pub(crate) query: &'e ModelInput,
    /// The types that are labelled in its document, ascending.
    pub(crate) types: &'e [usize],
    /// Type and tokens of the mentions that it holds, in order; they do not overlap.
    pub(crate) answers: Vec<(usize, TokenSpan)>,
    /// Tokens of mentions that it holds only in part.
    pub(crate) cut: &'e [TokenSpan],
}

/// Which tags each token of an input may have: `[width, tags]`, row-major. Only the first wordpieces of words have any. The words of an answer
/// have the tags of its mention. A word outside all answers has `O`, and the tags of the types that nobody labelled in its document. A word of a
/// mention that the window cuts has none: the loss does not look at it.
pub(crate) fn allowed(marked: &Marked<'_>, width: usize, reader: &TagReader) -> Vec<bool> {
    let (tags, window) = (&reader.tags, &marked.query.window);
    let (base, context) = (window.span.start, marked.query.context_start());
    let mut allowed = vec![false; width * tags.count()];
    let free: Vec<bool> = (0..tags.count())
        .map(|tag| {
            let labelled = reader.type_of_schema(tag).is_some_and(|own| marked.types.binary_search(&own).is_ok());
            tags.entity_type(tag).is_none() || !labelled
        })
        .collect();
    let words = words(&window.tokens);
    let cut = |first: usize| marked.cut.iter().any(|span| (span.start..span.end).contains(&(base + first)));
    for &(first, _) in words.iter().filter(|(first, _)| !cut(*first)) {
        allowed[(context + first) * tags.count()..][..tags.count()].copy_from_slice(&free);
    }
    let mut before: Option<(usize, usize)> = None;
    for &(of_schema, span) in &marked.answers {
        let Some(entity_type) = reader.type_of_tags(of_schema) else { continue };
        let inside = |&&(first, last): &&(usize, usize)| span.start <= base + first && base + last < span.end;
        let own: Vec<usize> = words.iter().filter(inside).map(|(first, _)| *first).collect();
        let behind = before == Some((of_schema, span.start));
        for (first, tag) in own.iter().zip(tags.of_mention(entity_type, own.len(), behind)) {
            let row = &mut allowed[(context + first) * tags.count()..][..tags.count()];
            row.fill(false);
            row[tag] = true;
        }
        before = Some((of_schema, span.end));
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::answer::Acceptance;
    use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
    use crate::task::input::Questions;
    use crate::task::kind::Kind;
    use crate::task::tagger::scheme::Scheme;
    use crate::task::tagger::tag_set::TagSet;
    use crate::text::span::CharSpan;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;
    use crate::text::window::WindowRule;
    use crate::train::data::dataset::{Gold, LabelledDocument};
    use crate::train::data::examples::{Example, examples};

    fn made(
        text: &str,
        mentions: &[(usize, usize, usize)],
        labelled: &[usize],
        tokens: usize,
    ) -> (Vec<Example>, TagReader) {
        let types = ["PER", "LOC"].map(|name| EntityType::new(name, "who"));
        let schema = EntitySchema { nested: Nesting::Flat, types: types.into() };
        let gold =
            |&(start, end, entity_type): &(usize, usize, usize)| Gold { chars: CharSpan::new(start, end), entity_type };
        let document = LabelledDocument {
            id: "a".into(),
            text: text.into(),
            mentions: mentions.iter().map(gold).collect(),
            labelled_types: labelled.into(),
        };
        let tokenizer = tiny(Words::Tokenizer);
        let questions = Questions::new(&schema, &tokenizer).unwrap();
        let rule = WindowRule { tokens, overlap: 0, words: None };
        let made = examples(&[document], &tokenizer, (&questions, Kind::Tagger), rule).unwrap();
        let tags = TagSet::new(Scheme::Bio, &["PER", "LOC"]);
        (made.examples, TagReader::new(tags, &schema, Acceptance::new(&schema, 0.0)))
    }

    /// The tags that each token may have.
    fn tags_of(example: &Example, reader: &TagReader) -> Vec<Vec<String>> {
        let allowed = allowed(&example.marked(), example.query.len(), reader);
        let names = |row: &[bool]| {
            row.iter().zip(reader.tags.names()).filter(|(own, _)| **own).map(|(_, name)| name.clone()).collect()
        };
        allowed.chunks(reader.tags.count()).map(names).collect()
    }

    #[test]
    fn first_wordpieces_have_the_tags_of_their_mentions() {
        // [CLS] bank ##er new york . [SEP]
        let (examples, reader) = made("banker new york.", &[(0, 6, 0), (7, 15, 1)], &[0, 1], 16);
        let expected: [&[&str]; 7] = [&[], &["B-PER"], &[], &["B-LOC"], &["I-LOC"], &["O"], &[]];
        assert_eq!(tags_of(&examples[0], &reader), expected);
    }

    #[test]
    fn a_word_can_have_the_tags_of_types_that_nobody_labelled() {
        let (examples, reader) = made("new york bank", &[(0, 8, 1)], &[1], 16);
        let expected: [&[&str]; 5] = [&[], &["B-LOC"], &["I-LOC"], &["O", "B-PER", "I-PER"], &[]];
        assert_eq!(tags_of(&examples[0], &reader), expected);
    }

    #[test]
    fn words_of_a_mention_that_the_window_cuts_have_no_tag() {
        let text = "new york ".repeat(8);
        let (examples, reader) = made(text.trim(), &[(0, 62, 0)], &[0, 1], 6);
        assert!(examples.len() > 2);
        for example in &examples[..examples.len() - 2] {
            assert!(tags_of(example, &reader).iter().all(Vec::is_empty));
        }
        let last = tags_of(&examples[examples.len() - 1], &reader);
        assert!(last.iter().any(|tags| tags == &["O"]), "{last:?}");
    }
}
