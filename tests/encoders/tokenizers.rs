//! Tokenizers of the three kinds that encoders have, small enough to be written here, and what holds of each: offsets on any Unicode, words,
//! the special tokens around a question and a text.

use std::path::Path;

use proptest::prelude::*;
use quarry::task::batch::Batch;
use quarry::task::entity_schema::{EntitySchema, EntityType, Nesting};
use quarry::task::input::{ModelInput, Questions};
use quarry::text::document::Document;
use quarry::text::span::ByteSpan;
use quarry::text::tokens::{SEGMENT_BYTES, Token, Tokenizer, Words, segments};
use quarry::text::window::{WindowRule, Windows};
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

const QUESTION: &str = "Who is it?";

fn added(names: [&str; 5]) -> Value {
    let one = |(id, name): (usize, &&str)| json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    names.iter().enumerate().map(one).collect()
}

/// A template of one or two separators between question and text, whose tokens have the types of `types`.
fn template(names: [&str; 5], separators: usize, types: [u32; 2]) -> Value {
    let token = |name: &str, kind: u32| json!({"SpecialToken": {"id": name, "type_id": kind}});
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let single = json!([token(names[0], 0), text("A", 0), token(names[2], 0)]);
    let mut pair = vec![token(names[0], 0), text("A", types[0])];
    pair.extend((0..separators).map(|_| token(names[2], types[0])));
    pair.extend([text("B", types[1]), token(names[2], types[1])]);
    let special = |id: usize| json!({"id": names[id], "ids": [id], "tokens": [names[id]]});
    json!({"type": "TemplateProcessing", "single": single, "pair": pair,
        "special_tokens": {names[0]: special(0), names[2]: special(2)}})
}

const ROBERTA: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
const MODERN: [&str; 5] = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"];

/// Byte-level BPE as of RoBERTa, or as of ModernBERT, whose post-processor leaves spaces in the offsets.
pub(crate) fn byte_level(modern: bool) -> String {
    byte_level_with(modern, false)
}

fn byte_level_with(modern: bool, add_prefix_space: bool) -> String {
    let names = if modern { MODERN } else { ROBERTA };
    let mut letters: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    letters.sort();
    let merges = [["Ġ", "L"], ["i", "n"], ["ĠL", "o"], ["o", "n"], ["Ġ", "in"], ["Ã", "¼"], [".", "."]];
    let joined = merges.iter().map(|pair| pair.concat());
    let words = names.iter().map(ToString::to_string).chain(letters).chain(joined);
    let vocabulary: serde_json::Map<String, Value> = words.enumerate().map(|(id, word)| (word, id.into())).collect();
    let processor = if modern {
        template(names, 1, [0, 0])
    } else {
        json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": add_prefix_space})
    };
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added(names), "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true},
        "post_processor": processor, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges}})
    .to_string()
}

/// Unigram as of XLM-RoBERTa, ALBERT and DeBERTa, with SentencePiece's way to write spaces.
pub(crate) fn unigram() -> String {
    let special = ROBERTA.map(|name| json!([name, 0.0]));
    let letters = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(".,()'?!-éü⁄".chars()).map(String::from);
    let pieces = ["▁", "▁L", "▁Lon", "don", "in", "▁in", "ri", "▁W"].map(str::to_owned).into_iter().chain(letters);
    let pieces = pieces.map(|piece| json!([piece, -2.0 - 1.0 / piece.len() as f64]));
    let vocabulary: Vec<Value> = special.into_iter().chain(pieces).collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added(ROBERTA),
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": "\\s"}, "content": " "}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": template(ROBERTA, 2, [0, 0]), "decoder": null,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": false}})
    .to_string()
}

/// `WordPiece` as of BERT, over letters.
pub(crate) fn wordpiece() -> String {
    let letters = || ('a'..='z').chain('0'..='9').chain(".,()'?!-".chars());
    let words = letters().map(String::from).chain(letters().map(|letter| format!("##{letter}")));
    let words = MODERN.iter().map(ToString::to_string).chain(words);
    let vocabulary: serde_json::Map<String, Value> = words.enumerate().map(|(id, word)| (word, id.into())).collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added(MODERN),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": template(MODERN, 1, [0, 1]), "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary}})
    .to_string()
}

/// All of them with names for messages.
fn all() -> [(&'static str, String); 5] {
    [
        ("byte-level", byte_level(false)),
        ("byte-level with a template", byte_level(true)),
        ("byte-level with a space in front", byte_level_with(false, true)),
        ("unigram", unigram()),
        ("wordpiece", wordpiece()),
    ]
}

fn tokenizer(json: &str, words: Words) -> Tokenizer {
    Tokenizer::from_bytes(json.as_bytes(), Path::new("made up"), words).unwrap()
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<Token> {
    segments(text).flat_map(|segment| tokenizer.tokenize(text, segment).unwrap().tokens).collect()
}

/// The words of a text, from the first token of each to its last.
fn words<'text>(json: &str, rule: Words, text: &'text str) -> Vec<&'text str> {
    let (mut found, mut start) = (Vec::new(), None);
    for token in tokens(&tokenizer(json, rule), text) {
        if token.starts_word {
            assert!(start.is_none(), "a word begins inside a word of {text:?}");
            start = Some(token.bytes.start);
        }
        if token.ends_word {
            found.push(ByteSpan::new(start.take().unwrap(), token.bytes.end).of(text));
        }
    }
    assert!(start.is_none(), "the last word of {text:?} does not end");
    found
}

#[test]
fn words_do_not_depend_on_the_vocabulary() {
    let text = " Ada's  (Zürich) 🎉 \n\tin London... A380, cafe\u{301} Ωmega";
    for (name, json) in all() {
        let found = words(&json, Words::Tokenizer, text);
        let expected = [
            "Ada",
            "'",
            "s",
            "(",
            "Zürich",
            ")",
            "🎉",
            "in",
            "London",
            ".",
            ".",
            ".",
            "A380",
            ",",
            "cafe\u{301}",
            "Ωmega",
        ];
        // Byte-level vocabularies can join punctuation: two dots are one token here.
        let joined = found.iter().map(|word| if *word == ".." { ". ." } else { word }).collect::<Vec<_>>().join(" ");
        // Normalizers drop the accent at the end of a word from its range; mentions are extended to it later.
        let plain = |text: &str| text.replace('\u{301}', "");
        assert_eq!(plain(&joined), plain(&expected.join(" ")), "{name}");
        let between_spaces = words(&json, Words::Whitespace, text).join(" ");
        assert_eq!(plain(&between_spaces), plain(&text.split_whitespace().collect::<Vec<_>>().join(" ")), "{name}");
    }
}

#[test]
fn parts_of_a_character_make_one_word_between_them() {
    let json = byte_level(false);
    let found = tokens(&tokenizer(&json, Words::Tokenizer), "a 🎉b");
    let places: Vec<_> =
        found.iter().map(|token| (token.bytes.start, token.bytes.end, token.starts_word, token.ends_word)).collect();
    let expected = [
        (0, 1, true, true),
        (2, 2, false, false),
        (2, 6, true, false),
        (2, 6, false, false),
        (2, 6, false, false),
        (2, 6, false, true),
        (6, 7, true, true),
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_space_in_front_of_the_text_is_not_part_of_it() {
    for (name, json) in all().into_iter().skip(2).take(2) {
        let found = tokens(&tokenizer(&json, Words::Tokenizer), "xy z");
        assert!(found[0].bytes.is_empty() && !found[0].starts_word && !found[0].ends_word, "{name}: {found:?}");
        let starts: Vec<usize> =
            found.iter().filter(|token| token.starts_word).map(|token| token.bytes.start).collect();
        assert_eq!(starts, [0, 3], "{name}");
    }
}

/// The batch's row of a question and a text, or of the text alone, is what the library makes of them.
#[test]
fn rows_are_those_of_the_post_processor() {
    let text = "Anna Berg left London.";
    for (name, json) in all() {
        let library = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
        let tokenizer = tokenizer(&json, Words::Tokenizer);
        let types = vec![EntityType::new("A", QUESTION)];
        let questions = Questions::new(&EntitySchema { nested: Nesting::Flat, types }, &tokenizer).unwrap();
        let rule = WindowRule { tokens: 100, overlap: 0, words: None };
        let window = Windows::new(&tokenizer, rule, Document { text }).next().unwrap().unwrap();
        let asked = questions.one(0, 0, &window);
        let alone = ModelInput::alone(0, &window, questions.frame());
        let pair = library.encode((QUESTION, text), true).unwrap();
        let single = library.encode(text, true).unwrap();
        for (input, expected) in [(asked, pair), (alone, single)] {
            let first = input.context_start();
            assert_eq!(input.len(), expected.len(), "{name}");
            let row = Batch { inputs: vec![input] }.tensors();
            let integers = |values: &[u32]| values.iter().map(|&value| i64::from(value)).collect::<Vec<_>>();
            assert_eq!(row.input_ids, integers(expected.get_ids()), "{name}");
            assert_eq!(row.token_type_ids, integers(expected.get_type_ids()), "{name}");
            assert_eq!(row.input_ids[first], i64::from(window.tokens[0].id), "{name}");
        }
        assert_eq!(questions.longest_query(7), library.encode((QUESTION, ""), true).unwrap().len() + 7, "{name}");
    }
}

#[test]
fn question_and_text_of_roberta_are_two_separators_apart() {
    let tokenizer = tokenizer(&byte_level(false), Words::Tokenizer);
    let types = vec![EntityType::new("A", "a")];
    let questions = Questions::new(&EntitySchema { nested: Nesting::Flat, types }, &tokenizer).unwrap();
    let window = Windows::new(&tokenizer, WindowRule { tokens: 9, overlap: 0, words: None }, Document { text: "b" });
    let input = questions.one(0, 0, &window.last().unwrap().unwrap());
    let row = Batch { inputs: vec![input] }.tensors();
    let (a, b) = (tokenizer.ids("a").unwrap()[0], tokenizer.ids("b").unwrap()[0]);
    assert_eq!(row.input_ids, [0, a.into(), 2, 2, b.into(), 2]);
    assert_eq!(row.token_type_ids, [0; 6]);
}

#[test]
fn segments_do_not_change_tokens() {
    let text = "Anna Berg left\n\n London  in 1892, with Zürich's mail. ".repeat(SEGMENT_BYTES / 20);
    for (name, json) in all() {
        let library = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
        let found: Vec<u32> = tokens(&tokenizer(&json, Words::Tokenizer), &text).iter().map(|token| token.id).collect();
        assert!(segments(&text).count() > 1);
        assert!(found == library.encode(text.as_str(), false).unwrap().get_ids(), "{name}");
    }
}

/// Any characters, mixed with words, punctuation and white space.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        "[a-zA-ZéüΩ½]{1,9}",
        "[.?!,;'\"-]{1,3}",
        "[ \t\r\n\u{a0}\u{2028}\u{200b}▁Ġ]{1,3}",
        "[🎉👩\u{200d}e\u{301}]{1,3}"
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn offsets_hold_on_any_unicode(text in any_text()) {
        for (name, json) in all() {
            let tokenizer = tokenizer(&json, Words::Tokenizer);
            let (mut last, mut inside) = (ByteSpan::new(0, 0), false);
            let mut covered = String::new();
            for token in tokens(&tokenizer, &text) {
                let bytes = token.bytes;
                prop_assert!(text.is_char_boundary(bytes.start) && text.is_char_boundary(bytes.end), "{name}");
                prop_assert!(bytes.start >= last.start && bytes.end >= last.end.min(bytes.start), "{name}: {last:?} {bytes:?}");
                if name != "wordpiece" {
                    prop_assert_eq!(bytes.of(&text).trim(), bytes.of(&text));
                }
                // Words do not overlap, and every token with a text is in one.
                if token.starts_word {
                    prop_assert!(!inside && (name == "wordpiece" || bytes.start >= last.end), "{name}");
                    inside = true;
                }
                prop_assert!(bytes.is_empty() || inside, "{name}");
                prop_assert!(!token.ends_word || inside, "{name}");
                inside &= !token.ends_word;
                covered.push_str(&text[last.end.max(bytes.start).min(bytes.end)..bytes.end]);
                last = ByteSpan::new(bytes.start, bytes.end.max(last.end));
            }
            prop_assert!(!inside, "{name}");
            if name.starts_with("byte-level") {
                let visible: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
                let covered: String = covered.chars().filter(|letter| !letter.is_whitespace()).collect();
                prop_assert_eq!(covered, visible, "{}", name);
            }
        }
    }
}
