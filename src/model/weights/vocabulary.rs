//! `vocab.txt` → BERT's tokenizer. In: the vocabulary, and beside it `tokenizer_config.json` and `added_tokens.json`, if they are there.
//! Out: a tokenizer of the `tokenizers` library that gives the ids that the weights were trained with. It must not pass over a setting
//! that changes ids.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};
use crate::text::tokens::parse;

/// Files of tokenizers that are not in the form of the `tokenizers` library.
const SLOW: [&str; 7] =
    ["spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "bpe.codes", "vocab.txt"];

/// How a vocabulary is used: the keys of `tokenizer_config.json` that change ids, and the tokens of `added_tokens.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenizerConfig {
    /// Whether texts are lower-cased; by default if no token of the vocabulary has a capital letter.
    pub do_lower_case: Option<bool>,
    /// Whether accents are removed; by default if texts are lower-cased.
    pub strip_accents: Option<bool>,
    /// Whether every CJK character is a word of its own; by default yes.
    pub tokenize_chinese_chars: Option<bool>,
    /// Whether punctuation is split from words; `false` cannot be had.
    do_basic_tokenize: Option<bool>,
    /// Tokens besides the vocabulary, by id.
    added_tokens_decoder: BTreeMap<u32, Added>,
}

/// A token besides the vocabulary.
#[allow(clippy::struct_excessive_bools, reason = "the keys of the file")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl TokenizerConfig {
    /// Reads `tokenizer_config.json` and `added_tokens.json` of a folder; what is not there has its default.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if one of them is not JSON of the expected form, or asks for what this program cannot do.
    pub fn beside(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer_config.json");
        let mut config: Self = read(&path)?.unwrap_or_default();
        if config.do_basic_tokenize == Some(false) {
            return Err(refused(&path, "`do_basic_tokenize` is false, which is not supported".into()));
        }
        let path = folder.join("added_tokens.json");
        let added: BTreeMap<String, u32> = read(&path)?.unwrap_or_default();
        for (content, id) in added {
            let plain = Added {
                content: content.clone(),
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: None,
                special: false,
            };
            let known = config.added_tokens_decoder.entry(id).or_insert(plain);
            if known.content != content {
                let other = &known.content;
                return Err(refused(&path, format!("`{content}` and `{other}` have one id, {id}")));
            }
        }
        Ok(config)
    }
}

/// A JSON file; `None` if it is not there.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| refused(path, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source: source.into() }),
    }
}

fn refused(path: &Path, reason: String) -> Error {
    let hint = "copy the encoder's tokenizer.json into the folder, which is read instead".to_owned();
    Error::Checkpoint { path: path.to_owned(), reason, hint }
}

/// The tokenizer of a checkpoint's folder: `tokenizer.json`, or, of an encoder with BERT's wordpieces, that tokenizer built from `vocab.txt`.
///
/// # Errors
/// Those of [`require_tokenizer`], [`Error::Tokenizer`] if the tokenizer is invalid.
pub fn tokenizer_of(folder: &Path, wordpieces: bool) -> Result<Tokenizer> {
    require_tokenizer(folder, wordpieces)?;
    let path = folder.join("tokenizer.json");
    let failed = |path: PathBuf| move |source| Error::Tokenizer { path, source };
    if path.exists() {
        let json = std::fs::read(&path).map_err(|source| failed(path.clone())(source.into()))?;
        return parse(&json, &path);
    }
    let config = TokenizerConfig::beside(folder)?;
    let vocabulary = folder.join("vocab.txt");
    tokenizer_from_vocabulary(&vocabulary, &config).map_err(failed(vocabulary))
}

/// Checks that a folder has the tokenizer of an encoder; `wordpieces`: a `vocab.txt` is enough.
///
/// # Errors
/// [`Error::Checkpoint`] if there is none, or only a form that cannot be read, with the way to the right one.
pub fn require_tokenizer(folder: &Path, wordpieces: bool) -> Result<()> {
    let has = |name: &str| folder.join(name).exists();
    if has("tokenizer.json") || wordpieces && has("vocab.txt") {
        return Ok(());
    }
    let refuse =
        |reason: String, hint: &str| Err(Error::Checkpoint { path: folder.to_owned(), reason, hint: hint.to_owned() });
    let slow: Vec<String> = SLOW.iter().filter(|name| has(name)).map(|name| format!("`{name}`")).collect();
    if !slow.is_empty() {
        let reason = format!("there is no tokenizer.json, only its slow form: {}", slow.join(", "));
        let hint = "write the fast form with Python's transformers: \
                    AutoTokenizer.from_pretrained(\"FOLDER\").save_pretrained(\"FOLDER\")";
        return refuse(reason, hint);
    }
    let missing = if wordpieces { "neither tokenizer.json nor vocab.txt" } else { "no tokenizer.json" };
    refuse(format!("there is {missing}"), "copy the encoder's tokenizer.json beside config.json")
}

/// BERT's tokenizer from its vocabulary.
pub fn tokenizer_from_vocabulary(path: &Path, config: &TokenizerConfig) -> tokenizers::Result<Tokenizer> {
    let words = WordPiece::read_bytes(&std::fs::read(path)?)?;
    let special = |token: &str| token.starts_with('[') && token.ends_with(']');
    let mut names: Vec<&String> = words.keys().collect();
    names.sort();
    let capitals = names.iter().any(|token| !special(token) && token.chars().any(char::is_uppercase));
    let lowercase = config.do_lower_case.unwrap_or(!capitals);
    let id =
        |token: &str| words.get(token).copied().ok_or_else(|| format!("there is no `{token}` in {}", path.display()));
    let (separator, start) = (("[SEP]".to_owned(), id("[SEP]")?), ("[CLS]".to_owned(), id("[CLS]")?));
    id("[UNK]")?;
    let model = WordPiece::builder().vocab(words).unk_token("[UNK]".to_owned()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    let chinese = config.tokenize_chinese_chars.unwrap_or(true);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, chinese, config.strip_accents, lowercase)))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(separator, start)));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(specials)?;
    // The library numbers new tokens itself, so they are added in the order of their ids.
    for (&id, added) in &config.added_tokens_decoder {
        let token = AddedToken::from(added.content.as_str(), added.special)
            .single_word(added.single_word)
            .lstrip(added.lstrip)
            .rstrip(added.rstrip)
            .normalized(added.normalized.unwrap_or(!added.special));
        if added.special {
            tokenizer.add_special_tokens([token])?;
        } else {
            tokenizer.add_tokens([token])?;
        }
        let found = tokenizer.token_to_id(&added.content);
        if found != Some(id) {
            let (content, found) = (&added.content, found.unwrap_or_default());
            return Err(format!("the added token `{content}` has the id {id}, but it would get {found}").into());
        }
    }
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nwor\n##ld\ncafe\ncafé\n<\n>\nx\n中\n中中\n";

    /// The tokens of a text with these files beside the vocabulary.
    fn tokens(files: &[(&str, &str)], text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files.iter().chain([&("vocab.txt", WORDS)]) {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let config = TokenizerConfig::beside(folder.path()).expect("settings");
        let tokenizer = tokenizer_from_vocabulary(&folder.path().join("vocab.txt"), &config).expect("a tokenizer");
        tokenizer.encode(text, false).expect("an encoding").get_tokens().to_vec()
    }

    fn with(config: &str, text: &str) -> Vec<String> {
        tokens(&[("tokenizer_config.json", config)], text)
    }

    #[test]
    fn a_vocabulary_becomes_a_tokenizer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, WORDS).expect("written");
        let default = TokenizerConfig::default();
        let tokenizer = tokenizer_from_vocabulary(&path, &default).expect("a tokenizer");
        let encoding = tokenizer.encode("Hello WORLD!", true).expect("an encoding");
        assert_eq!(encoding.get_ids(), [2, 5, 6, 7, 1, 3]);
        std::fs::write(&path, "[PAD]\n[UNK]\nhello\n").expect("written");
        assert!(tokenizer_from_vocabulary(&path, &default).expect_err("no separator").to_string().contains("`[SEP]`"));
    }

    #[test]
    fn the_settings_beside_a_vocabulary_are_honoured() {
        assert_eq!(with("{}", "Café 中中"), ["cafe", "中", "中"]);
        assert_eq!(with(r#"{"strip_accents": false}"#, "Café"), ["café"]);
        assert_eq!(with(r#"{"tokenize_chinese_chars": false}"#, "中中"), ["中中"]);
        assert_eq!(with(r#"{"do_lower_case": false}"#, "Hello hello"), ["[UNK]", "hello"]);
        assert_eq!(with(r#"{"do_lower_case": false, "strip_accents": true}"#, "café"), ["cafe"]);
    }

    #[test]
    fn added_tokens_have_their_ids() {
        assert_eq!(
            tokens(&[("added_tokens.json", r#"{"<x>": 15, "</x>": 16}"#)], "<x>hello</X>"),
            ["<x>", "hello", "</x>"]
        );
        assert_eq!(tokens(&[], "<x>"), ["<", "x", ">"]);
        let decoder = r#"{"added_tokens_decoder": {"15": {"content": "<x>", "normalized": false}, "0": {"content": "[PAD]", "special": true}}}"#;
        assert_eq!(with(decoder, "<x><X>"), ["<x>", "<", "x", ">"]);
    }

    #[test]
    fn settings_that_cannot_be_honoured_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        let refusal = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            let error = TokenizerConfig::beside(folder.path()).expect_err("refused").to_string();
            std::fs::remove_file(path).expect("removed");
            error
        };
        let words = refusal("tokenizer_config.json", r#"{"do_basic_tokenize": false}"#);
        assert!(
            words.ends_with("tokenizer_config.json`: `do_basic_tokenize` is false, which is not supported"),
            "{words}"
        );
        assert!(refusal("tokenizer_config.json", r#"{"do_lower_case": "no"}"#).contains("invalid type: string"));
        assert!(refusal("added_tokens.json", "[]").contains("added_tokens.json`: invalid type"));
        let twice = refusal("added_tokens.json", r#"{"<x>": 15, "<y>": 15}"#);
        assert!(twice.ends_with("`<y>` and `<x>` have one id, 15"), "{twice}");
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, WORDS).expect("written");
        std::fs::write(folder.path().join("added_tokens.json"), r#"{"<x>": 40}"#).expect("written");
        let config = TokenizerConfig::beside(folder.path()).expect("settings");
        let error = tokenizer_from_vocabulary(&path, &config).expect_err("a gap").to_string();
        assert_eq!(error, "the added token `<x>` has the id 40, but it would get 15");
    }
}
