//! Inline tags → sentences. In: lines of tokens with ENAMEX, NUMEX and TIMEX tags, nested or not. Out: one sentence per line, with
//! white space reduced to single spaces, and one mention per tag. It must not know the corpus.

use crate::prepare::markup::xml::Tag;
use crate::prepare::record::{Mention, Place};
use crate::text::span::CharSpan;

/// The tags that mark mentions.
const TAGS: [&str; 3] = ["ENAMEX", "NUMEX", "TIMEX"];

/// Whether a tag marks a mention.
pub(crate) fn is_mention(name: &str) -> bool {
    TAGS.contains(&name)
}

/// An open tag.
struct Open {
    tag: Tag,
    start: usize,
    line: usize,
}

/// A mention with the tag that marks it.
pub(crate) struct Tagged {
    /// The tag.
    pub(crate) tag: Tag,
    /// The text between opening and closing tag, without white space at the edges.
    pub(crate) span: CharSpan,
    /// The place of the opening tag.
    pub(crate) place: Place,
}

/// The sentence being read.
#[derive(Default)]
pub(crate) struct Inline {
    text: String,
    chars: usize,
    gap: bool,
    open: Vec<Open>,
    tagged: Vec<Tagged>,
}

impl Inline {
    /// Adds a part of a line: the text between line breaks and tags.
    pub(crate) fn text(&mut self, text: &str, token: impl Fn(&str) -> &str) {
        for (number, word) in text.split(|letter: char| letter.is_ascii_whitespace()).enumerate() {
            self.gap |= number > 0;
            if word.is_empty() {
                continue;
            }
            if std::mem::take(&mut self.gap) && self.chars > 0 {
                // White space at the edge of a mention lies outside it.
                for open in self.open.iter_mut().filter(|open| open.start == self.chars) {
                    open.start += 1;
                }
                self.text.push(' ');
                self.chars += 1;
            }
            let word = token(word);
            self.text.push_str(word);
            self.chars += word.chars().count();
        }
    }

    /// Begins a mention.
    pub(crate) fn open(&mut self, tag: Tag, line: usize) {
        self.open.push(Open { tag, start: self.chars, line });
    }

    /// Ends the innermost mention.
    pub(crate) fn close(&mut self) {
        if let Some(Open { tag, start, line }) = self.open.pop() {
            let span = CharSpan::new(start, self.chars);
            self.tagged.push(Tagged { tag, span, place: Place::Line(line) });
        }
    }

    /// Whether a mention is open.
    pub(crate) fn is_inside(&self) -> bool {
        !self.open.is_empty()
    }

    /// Handles a line break: it ends the sentence, unless a mention is open, in which it is white space.
    pub(crate) fn line_break(&mut self) -> Option<(String, Vec<Tagged>)> {
        if self.is_inside() {
            self.gap = true;
            return None;
        }
        let Self { text, tagged, .. } = std::mem::take(self);
        (!text.is_empty() || !tagged.is_empty()).then_some((text, tagged))
    }
}

/// Adds a text with line breaks; `sentence` receives each completed sentence.
pub(crate) fn add<E>(
    inline: &mut Inline,
    text: &str,
    token: impl Fn(&str) -> &str + Copy,
    mut sentence: impl FnMut(String, Vec<Tagged>) -> Result<(), E>,
) -> Result<(), E> {
    for (number, line) in text.split('\n').enumerate() {
        if number > 0
            && let Some((text, tagged)) = inline.line_break()
        {
            sentence(text, tagged)?;
        }
        inline.text(line, token);
    }
    Ok(())
}

/// The mention that a tag marks, with the given type.
pub(crate) fn mention(tagged: &Tagged, entity_type: &str) -> Mention {
    Mention::new(entity_type, tagged.span, tagged.place)
}
