//! What was found in a document. In: a type and a place in the text. Out: a [`Mention`]. It must not know how it was found.

use crate::text::span::{ByteSpan, CharSpan};

/// An entity found in a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mention {
    /// Its type's place in the schema.
    pub entity_type: usize,
    /// Where it stands, in code points of the document's text.
    pub chars: CharSpan,
    /// Where it stands, in bytes of the document's text.
    pub bytes: ByteSpan,
    /// σ of the match logit, in 0..=1.
    pub score: f32,
    /// The window that found it.
    pub window: usize,
}
