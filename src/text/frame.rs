//! The special tokens of a model's inputs. In: a tokenizer of the `tokenizers` library. Out: a [`Frame`]: what its post-processor puts
//! around a text, and around and between a question and a text. It must not know a special token by its name, except that of padding.

use tokenizers::{Encoding, Token, Tokenizer};

/// The names of padding tokens.
const PADDING: [&str; 2] = ["[PAD]", "<pad>"];

/// Ids that stand for a question and a text while the post-processor is asked; no vocabulary is that large.
const QUESTION: u32 = u32::MAX - 1;
const TEXT: u32 = u32::MAX - 2;

/// The special tokens around the parts of an input. BERT: `[CLS] question [SEP] text [SEP]`, and `[CLS] text [SEP]` for a text alone.
/// RoBERTa: `<s> question </s></s> text </s>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Before and after a text that is alone.
    alone: [Part; 2],
    /// The token type of a text that is alone.
    alone_type: u8,
    /// Before the question, between question and text, after the text.
    pair: [Part; 3],
    /// The token types of the question and of the text after it.
    pair_types: [u8; 2],
    /// The token beyond the end of an input.
    pub pad: u32,
}

/// Special tokens side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Their ids,
    pub ids: Vec<u32>,
    /// and the token type of each.
    pub types: Vec<u8>,
}

/// An input's parts in the order of its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Framed<'frame> {
    /// Before the question, or before a text that is alone.
    pub before: &'frame Part,
    /// Between question and text; `None` for a text that is alone.
    pub between: Option<&'frame Part>,
    /// After the text.
    pub after: &'frame Part,
    /// The token type of the question.
    pub question_type: u8,
    /// The token type of the text.
    pub text_type: u8,
}

impl Frame {
    /// The frame of a tokenizer.
    ///
    /// # Errors
    /// The reason, if its post-processor does not separate a question from a text, or the vocabulary has no padding token.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let processed = |first: u32, second: Option<u32>| {
            let one = |id: u32, kind: u32| Encoding::from_tokens(vec![Token::new(id, "a".to_owned(), (0, 1))], kind);
            let processed = tokenizer.post_process(one(first, 0), second.map(|id| one(id, 1)), true);
            processed.map_err(|error| format!("its post_processor fails: {error}"))
        };
        let alone = processed(TEXT, None)?;
        let ([before, after], [alone_type]) =
            divided(&alone, [TEXT]).ok_or("its post_processor repeats or drops a text")?;
        let pair = processed(QUESTION, Some(TEXT))?;
        let (parts, pair_types) = divided(&pair, [QUESTION, TEXT])
            .ok_or("its post_processor does not keep a question and a text in this order")?;
        let [first, between, last] = parts;
        if between.ids.is_empty() {
            return Err("its post_processor puts no special token between a question and a text".to_owned());
        }
        let pad = PADDING.iter().find_map(|name| tokenizer.token_to_id(name));
        let pad = pad.ok_or_else(|| format!("its vocabulary has no padding token (`{}`)", PADDING.join("` or `")))?;
        Ok(Self { alone: [before, after], alone_type, pair: [first, between, last], pair_types, pad })
    }

    /// The frame in which a question and a text are one text, with nothing between them.
    #[must_use]
    pub fn joined(&self) -> Self {
        let [before, after] = self.alone.clone();
        Self { pair: [before, Part::default(), after], pair_types: [self.alone_type; 2], ..self.clone() }
    }

    /// The largest id of a special token.
    pub fn largest_id(&self) -> u32 {
        let parts = self.alone.iter().chain(&self.pair);
        parts.flat_map(|part| &part.ids).copied().max().unwrap_or(0).max(self.pad)
    }

    /// The parts of an input with a question, or of a text alone.
    pub const fn framed(&self, has_question: bool) -> Framed<'_> {
        if has_question {
            let [before, between, after] = &self.pair;
            let [question_type, text_type] = self.pair_types;
            Framed { before, between: Some(between), after, question_type, text_type }
        } else {
            let [before, after] = &self.alone;
            Framed { before, between: None, after, question_type: 0, text_type: self.alone_type }
        }
    }

    /// The number of special tokens around a question and a text.
    pub const fn pair_tokens(&self) -> usize {
        let [before, between, after] = &self.pair;
        before.ids.len() + between.ids.len() + after.ids.len()
    }

    /// The number of special tokens around a text alone.
    pub const fn alone_tokens(&self) -> usize {
        let [before, after] = &self.alone;
        before.ids.len() + after.ids.len()
    }
}

/// What stands around the tokens `wanted`, which must occur once each in this order, and the token types of these.
fn divided<const N: usize, const PARTS: usize>(
    encoding: &Encoding,
    wanted: [u32; N],
) -> Option<([Part; PARTS], [u8; N])> {
    let mut parts: [Part; PARTS] = std::array::from_fn(|_| Part::default());
    let (mut types, mut found) = ([0; N], 0);
    for (&id, &kind) in encoding.get_ids().iter().zip(encoding.get_type_ids()) {
        let kind = u8::try_from(kind).ok()?;
        if wanted.contains(&id) {
            if wanted.get(found) != Some(&id) {
                return None;
            }
            types[found] = kind;
            found += 1;
        } else {
            let part = parts.get_mut(found)?;
            part.ids.push(id);
            part.types.push(kind);
        }
    }
    (found == N).then_some((parts, types))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tokenizer(processor: &Value) -> Tokenizer {
        let words = json!({"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3});
        let model = json!({"type": "WordLevel", "vocab": words, "unk_token": "a"});
        let json = json!({"version": "1.0", "added_tokens": [], "model": model, "post_processor": processor});
        Tokenizer::from_bytes(json.to_string()).unwrap()
    }

    fn part(ids: &[u32], types: &[u8]) -> Part {
        Part { ids: ids.to_vec(), types: types.to_vec() }
    }

    #[test]
    fn bert_tells_question_and_text_apart_by_their_types() {
        let frame = Frame::of(&tokenizer(&json!({"type": "BertProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]})));
        let frame = frame.unwrap();
        assert_eq!(frame.pair, [part(&[0], &[0]), part(&[2], &[0]), part(&[2], &[1])]);
        assert_eq!((frame.pair_types, frame.alone_type, frame.pad), ([0, 1], 0, 1));
        assert_eq!(frame.alone, [part(&[0], &[0]), part(&[2], &[0])]);
        assert_eq!((frame.pair_tokens(), frame.alone_tokens()), (3, 2));
    }

    #[test]
    fn roberta_tells_them_apart_by_two_separators() {
        let roberta = json!({"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2], "trim_offsets": true, "add_prefix_space": false});
        let special = json!({"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}});
        let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let template = json!({"type": "TemplateProcessing", "single": [token("<s>"), text("A"), token("</s>")],
            "pair": [token("<s>"), text("A"), token("</s>"), token("</s>"), text("B"), token("</s>")], "special_tokens": special});
        for processor in [roberta, template] {
            let frame = Frame::of(&tokenizer(&processor)).unwrap();
            assert_eq!(frame.pair, [part(&[0], &[0]), part(&[2, 2], &[0, 0]), part(&[2], &[0])]);
            assert_eq!((frame.pair_types, frame.pair_tokens(), frame.alone_tokens()), ([0, 0], 4, 2));
        }
    }

    #[test]
    fn a_post_processor_that_does_not_separate_is_refused() {
        let error = |processor: Value| Frame::of(&tokenizer(&processor)).unwrap_err();
        let nothing = "its post_processor puts no special token between a question and a text";
        assert_eq!(error(Value::Null), nothing);
        assert_eq!(
            error(json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})),
            nothing
        );
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let swapped = json!({"type": "TemplateProcessing", "single": [text("A")], "pair": [text("B"), text("A")], "special_tokens": {}});
        assert_eq!(error(swapped), "its post_processor does not keep a question and a text in this order");
        let twice = json!({"type": "TemplateProcessing", "single": [text("A"), text("A")], "pair": [text("A"), text("B")], "special_tokens": {}});
        assert_eq!(error(twice), "its post_processor repeats or drops a text");
    }
}
