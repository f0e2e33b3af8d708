//! Text → [`Token`]s, one segment at a time. In: a document's text. Out: wordpiece ids with their byte ranges and word
//! boundaries. It must not change the text or hold more than one segment of it.
//!
//! A text is split into segments of at most [`SEGMENT_BYTES`] before white space. No tokenizer joins characters across white space, and those
//! that keep the space before a word still find it, so the tokens stay the same, memory does not grow with the document, and no text is
//! truncated.
//!
//! Tokens of byte-level and Unigram vocabularies can hold the white space before a word, be nothing else, or be a part of one character. A
//! token's range is without white space; of several tokens in one character only the first can begin a word, and only the last can end one.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokenizers::{ModelWrapper, PreTokenizerWrapper};

use crate::error::{Error, Result};
use crate::text::document::{Reject, RejectReason};
use crate::text::frame::Frame;
use crate::text::growth;
use crate::text::span::ByteSpan;
use crate::text::split_words::split_words;
use crate::text::word_boundary::is_boundary;
use crate::text::word_shape::WordShape;

/// The longest segment that is tokenized at once, in bytes.
pub const SEGMENT_BYTES: usize = 64 * 1024;

/// The names of tokens that stand for unknown and for masked words.
const UNKNOWN: [&str; 2] = ["[UNK]", "<unk>"];
const MASK: [&str; 2] = ["[MASK]", "<mask>"];

/// How vocabularies write a space: those of SentencePiece, and those of bytes.
const SPACE: &str = "▁";
const SPACE_BYTE: &str = "Ġ";

/// What counts as a word: mentions start on a word's first wordpiece and end on its last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Words {
    /// Runs of letters and digits, and single punctuation marks: the pre-tokens of BERT's tokenizer, and the same of any other tokenizer.
    #[default]
    Tokenizer,
    /// Runs of characters between white space, for corpora that come tokenized.
    Whitespace,
}

/// One wordpiece of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its id in the tokenizer's vocabulary.
    pub id: u32,
    /// Its bytes in the document's text.
    pub bytes: ByteSpan,
    /// Whether it is the first wordpiece of a word: a mention can start here.
    pub starts_word: bool,
    /// Whether it is the last wordpiece of a word: a mention can end here.
    pub ends_word: bool,
    /// How its word is written: the tokenizer's word, whatever else counts as a word.
    pub shape: WordShape,
}

/// A segment's tokens, with counts of unknown tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// The tokens in the order of the text.
    pub tokens: Vec<Token>,
    /// How many of them are the unknown token.
    pub unknown: usize,
    /// How many unknown tokens are words longer than the tokenizer's limit.
    pub words_cut: usize,
}

/// A model's tokenizer with truncation, padding and special tokens disabled.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    words: Words,
    frame: Arc<Frame>,
    unknown: Option<u32>,
    longest_word: usize,
    words_from: WordsFrom,
}

/// Where the words of a tokenizer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WordsFrom {
    /// Its pre-tokens, which are without white space.
    PreTokens,
    /// The text, because its pre-tokens are between spaces or hold them. A token that is only this text is a space.
    Text(&'static str),
    /// [`split_words`], before the tokenizer: it reads every word alone.
    Split,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` of the `tokenizers` library.
    pub fn from_bytes(json: &[u8], path: &Path, words: Words) -> Result<Self> {
        Self::new(parse(json, path)?, path, words)
    }

    fn new(mut inner: tokenizers::Tokenizer, path: &Path, words: Words) -> Result<Self> {
        let refuse = |source| Error::Tokenizer { path: path.into(), source };
        inner.with_truncation(None).map_err(refuse)?;
        inner.with_padding(None);
        // The characters "[SEP]" in a document are text, not the special token.
        inner.set_encode_special_tokens(true);
        let frame = frame_of(&inner).map_err(refuse)?;
        let unknown = UNKNOWN.iter().find_map(|name| inner.token_to_id(name));
        let (longest_word, words_from) = match inner.get_model() {
            ModelWrapper::WordPiece(model) => (model.max_input_chars_per_word, WordsFrom::PreTokens),
            ModelWrapper::WordLevel(_) => (usize::MAX, WordsFrom::PreTokens),
            ModelWrapper::BPE(_) | ModelWrapper::Unigram(_) if of_bytes(&inner) => {
                (usize::MAX, WordsFrom::Text(SPACE_BYTE))
            }
            ModelWrapper::BPE(_) | ModelWrapper::Unigram(_) => (usize::MAX, WordsFrom::Text(SPACE)),
        };
        Ok(Self { inner, words, frame: Arc::new(frame), unknown, longest_word, words_from })
    }

    /// As [`Self::from_bytes`], for a model whose words are those of `split_words` and are tokenized one by one.
    pub fn of_split_words(json: &[u8], path: &Path) -> Result<Self> {
        Ok(Self { words_from: WordsFrom::Split, ..Self::from_bytes(json, path, Words::default())? })
    }

    /// The id of a token by its name; `None` if the vocabulary has no such token.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The special tokens around questions and windows.
    pub const fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// The token that stands for a hidden word: that of masked words, else that of unknown ones.
    pub fn mask(&self) -> Option<u32> {
        MASK.iter().find_map(|name| self.inner.token_to_id(name)).or(self.unknown)
    }

    /// How many ids the vocabulary has, special tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The largest id that it can produce, special tokens included.
    pub fn largest_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0).max(self.frame.largest_id())
    }

    /// The ids of a short text such as a question, without special tokens.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, Reject> {
        Ok(self.encode(text)?.get_ids().to_vec())
    }

    /// Tokenizes the bytes `segment` of `text`; offsets count from the start of `text`.
    pub fn tokenize(&self, text: &str, segment: ByteSpan) -> Result<Segment, Reject> {
        if self.words_from == WordsFrom::Split {
            return self.tokenize_words(text, segment);
        }
        let encoding = self.encode(segment.of(text))?;
        let mut found = Segment { tokens: Vec::with_capacity(encoding.len()), ..Segment::default() };
        let pieces = encoding.get_offsets().iter().zip(encoding.get_tokens());
        for (&id, (&(start, end), piece)) in encoding.get_ids().iter().zip(pieces) {
            let bytes = ByteSpan::new(segment.start + start, segment.start + end);
            let bytes = match self.words_from {
                WordsFrom::PreTokens | WordsFrom::Split => bytes,
                WordsFrom::Text(space) => without_white_space(text, bytes, piece == space),
            };
            if Some(id) == self.unknown {
                found.unknown += 1;
                found.words_cut += usize::from(bytes.of(text).chars().count() > self.longest_word);
            }
            let shape = WordShape::default();
            found.tokens.push(Token { id, bytes, starts_word: false, ends_word: false, shape });
        }
        let own = match self.words_from {
            WordsFrom::PreTokens | WordsFrom::Split => {
                let words = encoding.get_word_ids();
                starts(&found.tokens, |index, _| words[index].is_none() || words[index] != words[index - 1])
            }
            WordsFrom::Text(_) => {
                let whole = segment.of(text);
                starts(&found.tokens, |_, [last, next]| next >= last && is_boundary(whole, next - segment.start))
            }
        };
        for word in runs(&found.tokens, &own) {
            let [first, last] = [word.start, word.end - 1].map(|index| found.tokens[index].bytes);
            let shape = WordShape::of(ByteSpan::new(first.start, last.end.max(first.end)).of(text));
            found.tokens[word].iter_mut().for_each(|token| token.shape = shape);
        }
        let words = match self.words {
            Words::Tokenizer => own,
            Words::Whitespace => starts(&found.tokens, |_, [last, next]| has_whitespace(text, last, next)),
        };
        for word in runs(&found.tokens, &words) {
            found.tokens[word.start].starts_word = true;
            found.tokens[word.end - 1].ends_word = true;
        }
        Ok(found)
    }

    /// As [`Self::tokenize`], word by word. A word of which the tokenizer leaves nothing is none.
    fn tokenize_words(&self, text: &str, segment: ByteSpan) -> Result<Segment, Reject> {
        let words: Vec<ByteSpan> = split_words(text, segment).collect();
        let texts: Vec<&str> = words.iter().map(|word| word.of(text)).collect();
        let encoding = self.encode(texts)?;
        let mut found = Segment { tokens: Vec::with_capacity(encoding.len()), ..Segment::default() };
        let of_words = encoding.get_word_ids();
        for (index, (&id, &(start, end))) in encoding.get_ids().iter().zip(encoding.get_offsets()).enumerate() {
            let Some(word) = of_words[index].and_then(|number| words.get(number as usize)) else { continue };
            let place = |at: usize| text.floor_char_boundary(word.end.min(word.start + at));
            let starts_word = index == 0 || of_words[index - 1] != of_words[index];
            let ends_word = of_words.get(index + 1) != Some(&of_words[index]);
            let start = if starts_word { word.start } else { place(start) };
            let bytes = ByteSpan::new(start, if ends_word { word.end } else { place(end) });
            if Some(id) == self.unknown {
                found.unknown += 1;
                found.words_cut += usize::from(word.of(text).chars().count() > self.longest_word);
            }
            found.tokens.push(Token { id, bytes, starts_word, ends_word, shape: WordShape::default() });
        }
        Ok(found)
    }

    fn encode<'text>(&self, text: impl Into<tokenizers::InputSequence<'text>>) -> Result<tokenizers::Encoding, Reject> {
        let text = text.into();
        let encoded = guarded(|| self.inner.encode(text, false));
        encoded.map_err(|cause| Reject::new(RejectReason::Tokenizer, cause.to_string()))
    }
}

/// Parses a `tokenizer.json`; `path` is only for error messages. A file whose rules can multiply a text is an error: without the check, one
/// segment could need any amount of memory.
pub fn parse(json: &[u8], path: &Path) -> Result<tokenizers::Tokenizer> {
    let failed = |source| Error::Tokenizer { path: path.into(), source };
    // The library panics if a part of the file is not JSON, so parse it as JSON first.
    let parsed = serde_json::from_slice::<serde_json::Value>(json).map_err(|source| failed(source.into()))?;
    growth::check(&parsed).map_err(|reason| failed(reason.into()))?;
    guarded(|| tokenizers::Tokenizer::from_bytes(json)).map_err(failed)
}

/// The special tokens around questions and windows.
///
/// # Errors
/// The reason why the tokenizer has none.
pub fn frame_of(tokenizer: &tokenizers::Tokenizer) -> tokenizers::Result<Frame> {
    guarded(|| Frame::of(tokenizer).map_err(Into::into))
}

/// Calls the library and turns a panic into an error. The library panics on some files that are valid JSON but inconsistent (a prefix
/// longer than a word of the model).
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(format!("the tokenizers library panicked: {}", panic_message(&*panic)).into()))
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

impl FromStr for Words {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "tokenizer" => Ok(Self::Tokenizer),
            "whitespace" => Ok(Self::Whitespace),
            other => Err(format!("`{other}` is neither `tokenizer` nor `whitespace`")),
        }
    }
}

/// Whether white space separates two tokens: the first ends at byte `left`, the second starts at byte `right`.
fn has_whitespace(text: &str, left: usize, right: usize) -> bool {
    text.get(left..right).is_some_and(|gap| gap.contains(char::is_whitespace))
}

/// Whether each token begins a word. Tokens of white space begin none; the first other token begins one. Of each token after that, `starts` says
/// it by the token's index, the end of the token before it and its start.
fn starts(tokens: &[Token], starts: impl Fn(usize, [usize; 2]) -> bool) -> Vec<bool> {
    let mut end = None;
    let mut of = |(index, token): (usize, &Token)| {
        let begins = !token.bytes.is_empty() && end.is_none_or(|end| starts(index, [end, token.bytes.start]));
        end = if token.bytes.is_empty() { end } else { Some(token.bytes.end) };
        begins
    };
    tokens.iter().enumerate().map(&mut of).collect()
}

/// The tokens of each word, without white space after it.
fn runs(tokens: &[Token], starts: &[bool]) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for index in (0..tokens.len()).filter(|&index| !tokens[index].bytes.is_empty()) {
        match words.last_mut() {
            Some(word) if !starts[index] => word.end = index + 1,
            _ => words.push(index..index + 1),
        }
    }
    words
}

/// The range of a token without white space at its ends: empty for a token of white space alone. The library gives a space that it has put in
/// front of a text (`is_space`) the range of the first character.
fn without_white_space(text: &str, bytes: ByteSpan, is_space: bool) -> ByteSpan {
    // The post-processor can move a start into a character.
    let bytes = ByteSpan::new(text.floor_char_boundary(bytes.start), text.ceil_char_boundary(bytes.end));
    let inside = bytes.of(text);
    let start = bytes.end - inside.trim_start().len();
    if is_space { ByteSpan::new(start, start) } else { ByteSpan::new(start, start + inside.trim().len()) }
}

/// Whether a tokenizer divides texts into bytes.
fn of_bytes(tokenizer: &tokenizers::Tokenizer) -> bool {
    match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(_)) => true,
        Some(PreTokenizerWrapper::Sequence(parts)) => {
            parts.as_ref().iter().any(|part| matches!(part, PreTokenizerWrapper::ByteLevel(_)))
        }
        _ => false,
    }
}

/// Splits `text` into segments of at most [`SEGMENT_BYTES`]: before white space if there is any, else between characters.
pub fn segments(text: &str) -> impl Iterator<Item = ByteSpan> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        if rest.is_empty() {
            return None;
        }
        let length = if rest.len() <= SEGMENT_BYTES {
            rest.len()
        } else {
            let head = &rest[..rest.floor_char_boundary(SEGMENT_BYTES)];
            let before = head.rfind(char::is_whitespace).map_or(0, |white| head[..white].trim_end().len());
            if before == 0 { head.len() } else { before }
        };
        let segment = ByteSpan::new(start, start + length);
        start += length;
        Some(segment)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A lower-casing BERT tokenizer over single letters, digits and a few words; it needs no file.
    pub(crate) fn tiny(words: Words) -> Tokenizer {
        let mut vocabulary: Vec<String> =
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "new", "york", "bank", "##er"].map(String::from).into();
        for letter in ('a'..='z').chain('0'..='9').chain(".,-'".chars()) {
            vocabulary.push(letter.to_string());
            vocabulary.push(format!("##{letter}"));
        }
        let entries: Vec<String> =
            vocabulary.iter().enumerate().map(|(id, token)| format!("{}:{id}", serde_json_string(token))).collect();
        let json = format!(
            r###"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
                {{"id":3,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}],
            "normalizer":{{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},
            "pre_tokenizer":{{"type":"BertPreTokenizer"}},"post_processor":{{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]}},"decoder":null,
            "model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
            "vocab":{{{}}}}}}}"###,
            entries.join(",")
        );
        Tokenizer::from_bytes(json.as_bytes(), Path::new("tiny"), words).unwrap()
    }

    /// The JSON of [`tiny`], with one part changed.
    fn changed(from: &str, to: &str) -> Result<Tokenizer> {
        let json = tiny(Words::Tokenizer).inner.to_string(false).unwrap();
        assert!(json.contains(from), "{json}");
        Tokenizer::from_bytes(json.replace(from, to).as_bytes(), Path::new("changed"), Words::Tokenizer)
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_not_applied() {
        let truncation = r#""truncation":{"direction":"Right","max_length":3,"strategy":"LongestFirst","stride":0}"#;
        let tokenizer = changed(r#""truncation":null"#, truncation).unwrap();
        assert_eq!(tokenize_all(&tokenizer, "new york bank a b").tokens.len(), 5);
        let padding = r#""padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"}"#;
        let tokenizer = changed(r#""padding":null"#, padding).unwrap();
        assert_eq!(tokenize_all(&tokenizer, "new york").tokens.len(), 2);
    }

    #[test]
    fn a_file_that_multiplies_texts_is_refused() {
        let inner = tiny(Words::Tokenizer).inner.to_string(false).unwrap();
        let start = inner.find(r#""normalizer":"#).unwrap();
        let end = inner.find(r#","pre_tokenizer""#).unwrap();
        let one = format!(r#"{{"type":"Replace","pattern":{{"String":"a"}},"content":"{}"}}"#, "a".repeat(1000));
        let all = vec![one; 4].join(",");
        let error =
            changed(&inner[start..end], &format!(r#""normalizer":{{"type":"Sequence","normalizers":[{all}]}}"#));
        let source = std::error::Error::source(&error.unwrap_err()).map(ToString::to_string);
        let expected = "its normalizer can make a text 1000000000000 times as long, at most 32 is accepted";
        assert_eq!(source.as_deref(), Some(expected));
    }

    fn serde_json_string(text: &str) -> String {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }

    fn tokenize_all(tokenizer: &Tokenizer, text: &str) -> Segment {
        tokenizer.tokenize(text, ByteSpan::new(0, text.len())).unwrap()
    }

    #[test]
    fn words_are_pre_tokens_or_whitespace_runs() {
        let text = "banker's New-York";
        let starts = |words| -> Vec<String> {
            let tokens = tokenize_all(&tiny(words), text).tokens;
            tokens.iter().filter(|token| token.starts_word).map(|token| token.bytes.of(text).to_owned()).collect()
        };
        assert_eq!(starts(Words::Tokenizer), ["bank", "'", "s", "New", "-", "York"]);
        assert_eq!(starts(Words::Whitespace), ["bank", "New"]);
    }

    #[test]
    fn every_wordpiece_has_the_shape_of_its_word() {
        use WordShape::{Digits, Lower, Mixed, Other, Title, Upper};
        for words in [Words::Tokenizer, Words::Whitespace] {
            let shapes = |text: &str| -> Vec<WordShape> {
                tokenize_all(&tiny(words), text).tokens.iter().map(|token| token.shape).collect()
            };
            assert_eq!(
                shapes("Banker's NY-iX 7b"),
                [Title, Title, Other, Lower, Upper, Upper, Other, Mixed, Mixed, Digits, Digits]
            );
        }
    }

    #[test]
    fn a_special_token_in_the_text_is_text() {
        let tokenizer = tiny(Words::Tokenizer);
        let (separator, text) = (3, "a [SEP] b");
        let tokens = tokenize_all(&tokenizer, text).tokens;
        let texts: Vec<&str> = tokens.iter().map(|token| token.bytes.of(text)).collect();
        assert_eq!(texts, ["a", "[", "S", "E", "P", "]", "b"]);
        assert!(tokens.iter().all(|token| token.id != separator));
    }

    #[test]
    fn unknown_tokens_and_overlong_words_are_counted() {
        let long = "x".repeat(101);
        let found = tokenize_all(&tiny(Words::Tokenizer), &format!("a € {long}"));
        assert_eq!((found.unknown, found.words_cut), (2, 1));
    }

    #[test]
    fn offsets_survive_normalization() {
        // Decomposed accents, a zero-width space and full-width letters before the expected word.
        let text = "Cafe\u{301} \u{200b}nai\u{308}ve ＮＥＷ york";
        let tokens = tokenize_all(&tiny(Words::Tokenizer), text).tokens;
        assert_eq!(tokens.last().map(|token| token.bytes.of(text)), Some("york"));
    }

    proptest! {
        #[test]
        fn segments_cover_the_text_and_begin_with_white_space(words in proptest::collection::vec("[a-zé€]{1,4000}", 0..60)) {
            let text = words.join(" ");
            let spans: Vec<ByteSpan> = segments(&text).collect();
            let joined: String = spans.iter().map(|span| span.of(&text)).collect();
            prop_assert_eq!(&joined, &text);
            for span in &spans {
                prop_assert!(span.len() <= SEGMENT_BYTES);
                prop_assert!(span.start == 0 || text[span.start..].starts_with(' '));
            }
        }

        #[test]
        fn offsets_lie_in_order_on_character_boundaries(text in any::<String>()) {
            let mut last = 0;
            for token in tokenize_all(&tiny(Words::Tokenizer), &text).tokens {
                prop_assert!(text.get(token.bytes.start..token.bytes.end).is_some());
                prop_assert!(token.bytes.start >= last);
                last = token.bytes.start;
            }
        }
    }
}
