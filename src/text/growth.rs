//! How much longer a tokenizer makes a text. In: the JSON of a `tokenizer.json`. Out: an error if its own rules can multiply a text. It must
//! not run them: a rule inside another can make a gigabyte of one letter.
//!
//! Rules of Unicode (normal forms, lower case, accents) have limits of their own: at most eighteen code points for one. What a file can set
//! freely is what `Replace` and `Prepend` write, what a `Precompiled` map writes, and how often a template repeats the text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The largest accepted factor. `Replace` of a space by `▁` is 3, and a few regular expressions in sequence stay below.
const LARGEST: usize = 32;
/// The longest text in bytes that may be put in front of every text.
const PREPENDED: usize = 1024;
/// The longest text in bytes that a map of characters writes for one, with room to spare: 33 in those of Unicode.
const MAPPED: usize = 128;

/// Checks the rules of a `tokenizer.json`; the error is the reason.
pub(crate) fn check(tokenizer: &Value) -> Result<(), String> {
    let (normalizer, processor) = (&tokenizer["normalizer"], &tokenizer["post_processor"]);
    for (part, factor) in [("normalizer", of_normalizer(normalizer)?), ("post_processor", of_processor(processor))] {
        if factor > LARGEST {
            return Err(format!("its {part} can make a text {factor} times as long, at most {LARGEST} is accepted"));
        }
    }
    Ok(())
}

/// The factor by which a normalizer can lengthen a text.
fn of_normalizer(normalizer: &Value) -> Result<usize, String> {
    let text = |key: &str| normalizer[key].as_str().unwrap_or_default();
    match normalizer["type"].as_str().unwrap_or_default() {
        "Sequence" => product(&normalizer["normalizers"], of_normalizer),
        "Replace" => {
            let content = text("content").len();
            // A regular expression can match between letters, where nothing is taken away.
            Ok(match normalizer["pattern"]["String"].as_str().filter(|pattern| !pattern.is_empty()) {
                Some(pattern) => content.div_ceil(pattern.len()).max(1),
                None => content.saturating_add(1),
            })
        }
        "Prepend" if text("prepend").len() > PREPENDED => {
            Err(format!("its normalizer puts {} bytes in front of every text", text("prepend").len()))
        }
        "Precompiled" => {
            let longest = longest_mapped(text("precompiled_charsmap")).unwrap_or_default();
            if longest > MAPPED {
                return Err(format!("its normalizer writes {longest} bytes for one character"));
            }
            Ok(1)
        }
        _ => Ok(1),
    }
}

/// The longest string of SentencePiece's map of characters, in bytes. Format: the size of a trie in four bytes, the trie, then strings that
/// end with zero. `None` if the map is invalid, which the library reports.
fn longest_mapped(map: &str) -> Option<usize> {
    let bytes = STANDARD.decode(map).ok()?;
    let size = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    bytes.get(size.checked_add(4)?..)?.split(|byte| *byte == 0).map(<[u8]>::len).max()
}

/// How often a post-processor repeats a text.
fn of_processor(processor: &Value) -> usize {
    match processor["type"].as_str().unwrap_or_default() {
        "Sequence" => product(&processor["processors"], |one| Ok::<_, String>(of_processor(one))).unwrap_or(usize::MAX),
        "TemplateProcessing" => {
            let pieces = processor["single"].as_array().map(Vec::as_slice).unwrap_or_default();
            pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count().max(1)
        }
        _ => 1,
    }
}

fn product<E>(parts: &Value, factor: impl Fn(&Value) -> Result<usize, E>) -> Result<usize, E> {
    let parts = parts.as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().try_fold(1_usize, |product, part| Ok(product.saturating_mul(factor(part)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(normalizer: &Value) -> String {
        check(&json!({"normalizer": normalizer})).err().unwrap_or_default()
    }

    fn replace(pattern: &Value, content: &str) -> Value {
        json!({"type": "Replace", "pattern": pattern, "content": content})
    }

    #[test]
    fn rules_that_multiply_a_text_are_refused() {
        let thousand = replace(&json!({"String": "a"}), &"a".repeat(1000));
        let expected = "its normalizer can make a text 1000 times as long, at most 32 is accepted";
        assert_eq!(refusal(&thousand), expected);
        let nested = json!({"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [thousand.clone()]}, thousand]});
        assert!(refusal(&nested).contains("1000000 times"));
        let doubling = replace(&json!({"Regex": "(?=.)"}), "a");
        assert_eq!(refusal(&json!({"type": "Sequence", "normalizers": vec![doubling.clone(); 5]})), "");
        assert!(refusal(&json!({"type": "Sequence", "normalizers": vec![doubling.clone(); 6]})).contains("64 times"));
        assert!(refusal(&json!({"type": "Sequence", "normalizers": vec![doubling; 99]})).contains("times as long"));
        assert!(refusal(&replace(&json!({"String": ""}), &"a".repeat(64))).contains("65 times"));
        assert!(refusal(&json!({"type": "Prepend", "prepend": "a".repeat(1025)})).contains("1025 bytes in front"));
    }

    #[test]
    fn maps_and_templates_are_bounded_too() {
        let map = |longest: usize| {
            let bytes = [&4_u32.to_le_bytes()[..], b"trie", b"ab\0", "x".repeat(longest).as_bytes(), b"\0"].concat();
            refusal(&json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)}))
        };
        assert_eq!((map(33).as_str(), map(129).as_str()), ("", "its normalizer writes 129 bytes for one character"));
        let piece = json!({"Sequence": {"id": "A", "type_id": 0}});
        let template = |count: usize| {
            check(&json!({"post_processor": {"type": "Sequence", "processors": [
                {"type": "TemplateProcessing", "single": vec![piece.clone(); count]}, {"type": "TemplateProcessing", "single": vec![piece.clone(); 10]}]}}))
        };
        assert_eq!(template(1), Ok(()));
        assert!(template(100).unwrap_err().starts_with("its post_processor can make a text 1000 times"));
    }

    #[test]
    fn normalizers_in_use_are_accepted() {
        let space = replace(&json!({"String": " "}), "▁");
        let runs = replace(&json!({"Regex": " {2,}"}), " ");
        let quotes = replace(&json!({"String": "``"}), "\"");
        for normalizer in [
            Value::Null,
            json!({"type": "BertNormalizer", "lowercase": true}),
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}),
            json!({"type": "Sequence", "normalizers": [quotes, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, runs]}),
        ] {
            assert_eq!(refusal(&normalizer), "", "{normalizer}");
        }
    }
}
