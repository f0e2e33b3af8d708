//! An entity found in a document. In: a type and a place in the text. Out: a [`Mention`]. It must not know how it was found.

use crate::text::span::{ByteSpan, CharSpan};

/// A mention of an entity in a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mention {
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// Its place in code points of the document's text.
    pub chars: CharSpan,
    /// Its place in bytes of the document's text.
    pub bytes: ByteSpan,
    /// The logit of its score.
    pub logit: f32,
    /// σ(logit), in 0..=1.
    pub score: f32,
    /// The index of the window that found it.
    pub window: usize,
}
