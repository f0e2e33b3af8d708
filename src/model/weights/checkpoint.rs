//! Checkpoints of other programs. In: a folder or file from Hugging Face, PyTorch or Lightning. Out: checked [`Weights`]
//! with their [`ModelConfig`] and the folder of the tokenizer. It must not write files, or execute code in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::weights::tensors::{Misfit, Tensor, Weights};
use crate::model::weights::{pytorch, safetensors_file};
use crate::text::tokens::parse;

/// The file names to search in a folder, in this order; then the only file with one of [`SUFFIXES`].
const NAMES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
const SUFFIXES: [&str; 4] = ["ckpt", "safetensors", "bin", "pt"];

/// A checked checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file the weights came from.
    pub weights_path: PathBuf,
    /// Every tensor, with the descriptions of encoder and head.
    pub weights: Weights,
    /// The configuration, with the match head's width.
    pub config: ModelConfig,
    /// The folder with `tokenizer.json` or `vocab.txt`.
    pub folder: PathBuf,
}

impl Checkpoint {
    /// Reads a checkpoint folder or file. `encoder` is the folder with `config.json` and the tokenizer if they are not beside
    /// the weights (as with a Lightning `.ckpt`).
    pub fn open(path: &Path, encoder: Option<&Path>) -> Result<Self> {
        let weights_path = weights_file(path)?;
        let folder = encoder.unwrap_or(beside(&weights_path)).to_owned();
        let mut config = ModelConfig::read(&folder.join("config.json"))?;
        let tensors = read_tensors(&weights_path)?;
        let weights = Weights::check(tensors, &mut config).map_err(|misfit| refused(&weights_path, misfit))?;
        Ok(Self { weights_path, weights, config, folder })
    }

    /// The content of `tokenizer.json`; if there is none, it is built from `vocab.txt`. The weights have a vector for every id that it
    /// can produce, and it has the special tokens of queries and the padding token.
    pub fn tokenizer_json(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("tokenizer.json");
        let tokenizer = self.tokenizer()?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        let refuse = |reason: String, hint: &str| {
            Err(Error::Checkpoint { path: self.folder.clone(), reason, hint: hint.to_owned() })
        };
        let known = self.weights.encoder.architecture.words.rows;
        if largest as usize >= known {
            let reason = format!("its tokenizer has id {largest}, but its weights have only {known} word vectors");
            return refuse(reason, "tokenizer and weights must belong together");
        }
        for token in ["[CLS]", "[SEP]", "[PAD]"] {
            if tokenizer.token_to_id(token).is_none() {
                return refuse(
                    format!("its tokenizer has no `{token}`"),
                    "copy the tokenizer of a BERT encoder beside config.json",
                );
            }
        }
        if path.exists() {
            return std::fs::read(&path).map_err(|source| Error::Read { path, source: source.into() });
        }
        tokenizer.to_string(false).map(String::into_bytes).map_err(|source| Error::Tokenizer { path, source })
    }

    /// The checkpoint's tokenizer: `tokenizer.json`, or BERT's own tokenizer built from `vocab.txt`.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.folder.join("tokenizer.json");
        let failed = |path: PathBuf| move |source| Error::Tokenizer { path, source };
        if path.exists() {
            let json = std::fs::read(&path).map_err(|source| failed(path.clone())(source.into()))?;
            return parse(&json, &path);
        }
        let vocabulary = self.folder.join("vocab.txt");
        if !vocabulary.exists() {
            return Err(Error::Checkpoint {
                path: self.folder.clone(),
                reason: "there is neither tokenizer.json nor vocab.txt".to_owned(),
                hint: "copy the encoder's tokenizer.json beside config.json".to_owned(),
            });
        }
        let lowercase = lowercase(&self.folder.join("tokenizer_config.json"));
        tokenizer_from_vocabulary(&vocabulary, lowercase).map_err(failed(vocabulary))
    }
}

/// Reads every float tensor of a safetensors, PyTorch or Lightning file under the file's own names; the file can be an encoder
/// without heads. The content determines the format.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source: source.into() })?;
    tensors_of(&bytes).map_err(|reason| Error::Checkpoint {
        path: path.to_owned(),
        reason,
        hint: "safetensors, pytorch_model.bin and Lightning .ckpt files can be read; download a damaged file again"
            .to_owned(),
    })
}

fn tensors_of(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    match bytes {
        [b'P', b'K', ..] | [0x80, _, b'}' | 0x8a, ..] => pytorch::read_tensors(bytes),
        _ => safetensors_file::read_tensors(bytes),
    }
}

/// Reads bytes in every format of a checkpoint and returns how many values they made. Fuzzing uses it to find panics, hangs and more
/// than [`VALUES_PER_BYTE`].
#[doc(hidden)]
pub fn read_anything(bytes: &[u8]) -> usize {
    let floats = |tensors: BTreeMap<String, Tensor>| tensors.values().map(|tensor| tensor.values.len()).sum();
    tensors_of(bytes)
        .map_or(0, floats)
        .max(pytorch::read_tensors(bytes).map_or(0, floats))
        .max(pytorch::read_pickle(bytes).unwrap_or(0))
}

/// The most values that [`read_anything`] can make of a byte. An opcode of a pickle, which can be one byte, makes at most two values, and
/// each takes at most one slot in a container; a byte of a storage or of a safetensors file makes at most one float.
#[doc(hidden)]
pub const VALUES_PER_BYTE: usize = 4;

/// Turns a [`Misfit`] into an error that names the file.
pub(crate) fn refused(path: &Path, misfit: Misfit) -> Error {
    Error::Checkpoint { path: path.to_owned(), reason: misfit.reason, hint: misfit.hint }
}

/// The folder of a file; the working folder for a bare name.
pub(crate) fn beside(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths point to the same existing file or folder.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The weights file of a path: the path itself, or the file in a folder.
pub fn weights_file(path: &Path) -> Result<PathBuf> {
    let unreadable = |source: std::io::Error| Error::Read { path: path.to_owned(), source: source.into() };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(path.to_owned());
    }
    if let Some(found) = NAMES.iter().map(|name| path.join(name)).find(|file| file.exists()) {
        return Ok(found);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix == *known)) {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::Checkpoint {
            path: path.to_owned(),
            reason: "there are no weights in this folder".to_owned(),
            hint: "it needs model.safetensors, pytorch_model.bin or one .ckpt file".to_owned(),
        }),
        [first, ..] => Err(Error::Checkpoint {
            path: path.to_owned(),
            reason: format!("there are {} files with weights", found.len()),
            hint: format!("name one of them, such as `{}`", first.display()),
        }),
    }
}

/// The `do_lower_case` of `tokenizer_config.json`, if present.
fn lowercase(path: &Path) -> Option<bool> {
    let bytes = std::fs::read(path).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    config.get("do_lower_case")?.as_bool()
}

/// BERT's tokenizer from its vocabulary. If `lowercase` is `None`, the tokenizer lower-cases if no token of the vocabulary has a
/// capital letter.
pub fn tokenizer_from_vocabulary(path: &Path, lowercase: Option<bool>) -> tokenizers::Result<Tokenizer> {
    let words = WordPiece::read_bytes(&std::fs::read(path)?)?;
    let special = |token: &str| token.starts_with('[') && token.ends_with(']');
    let mut names: Vec<&String> = words.keys().collect();
    names.sort();
    let capitals = names.iter().any(|token| !special(token) && token.chars().any(char::is_uppercase));
    let lowercase = lowercase.unwrap_or(!capitals);
    let id =
        |token: &str| words.get(token).copied().ok_or_else(|| format!("there is no `{token}` in {}", path.display()));
    let (separator, start) = (("[SEP]".to_owned(), id("[SEP]")?), ("[CLS]".to_owned(), id("[CLS]")?));
    id("[UNK]")?;
    let model = WordPiece::builder().vocab(words).unk_token("[UNK]".to_owned()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, lowercase)))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(separator, start)));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(specials)?;
    Ok(tokenizer)
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a failing test prints where its input is")]
mod tests {
    use super::*;
    use crate::model::config::tests::{tiny, tiny_but};
    use crate::model::weights::pytorch::tests::torch_save;
    use crate::model::weights::safetensors_file::{WeightForm, write_tensors};
    use crate::model::weights::tensors::tests::made_up;

    fn folder_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.json"), serde_json::to_vec(&tiny()).expect("json")).expect("written");
        std::fs::write(folder.path().join(name), bytes).expect("written");
        folder
    }

    #[test]
    fn every_kind_of_file_gives_the_same_weights() {
        let tensors = made_up(&tiny(), false);
        let weights = Weights::check(tensors.clone(), &mut tiny()).expect("they fit");
        let lightning: BTreeMap<_, _> =
            tensors.iter().map(|(name, tensor)| (format!("model.{name}"), tensor.clone())).collect();
        for (name, bytes) in [
            ("model.safetensors", write_tensors(&weights, WeightForm::Fp32).expect("it serializes")),
            ("pytorch_model.bin", torch_save(&tensors, false)),
            ("epoch=3.ckpt", torch_save(&lightning, true)),
        ] {
            let folder = folder_with(name, &bytes);
            let opened = Checkpoint::open(folder.path(), None).expect(name);
            assert_eq!(opened.weights, weights, "{name}");
            let lone = tempfile::tempdir().expect("a folder");
            let file = lone.path().join(name);
            std::fs::write(&file, &bytes).expect("written");
            assert_eq!(Checkpoint::open(&file, Some(folder.path())).expect(name).weights, weights, "{name}");
        }
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_working_folder() {
        for (file, folder) in [("model.safetensors", "."), ("a/b.ckpt", "a"), ("./c.pt", "."), ("/d.bin", "/")] {
            assert_eq!(beside(Path::new(file)), Path::new(folder), "{file}");
        }
    }

    #[test]
    fn a_tokenizer_without_padding_is_refused() {
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        let bytes = write_tensors(&weights, WeightForm::Fp32).expect("it serializes");
        let folder = folder_with("model.safetensors", &bytes);
        let json = br###"{"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}}}"###;
        std::fs::write(folder.path().join("tokenizer.json"), json).expect("written");
        let error = Checkpoint::open(folder.path(), None).expect("it opens").tokenizer_json().expect_err("no padding");
        assert!(error.to_string().ends_with("its tokenizer has no `[PAD]`"), "{error}");
    }

    #[test]
    fn a_folder_needs_exactly_one_weights_file() {
        let folder = folder_with("notes.txt", b"");
        let error = Checkpoint::open(folder.path(), None).expect_err("no weights");
        assert!(error.to_string().ends_with("there are no weights in this folder"), "{error}");
        for name in ["a.ckpt", "b.ckpt"] {
            std::fs::write(folder.path().join(name), b"").expect("written");
        }
        let error = Checkpoint::open(folder.path(), None).expect_err("two files");
        assert!(error.hint().is_some_and(|hint| hint.contains("a.ckpt")));
    }

    #[test]
    fn a_truncated_file_is_an_error_with_a_hint() {
        let bytes = torch_save(&made_up(&tiny(), false), false);
        let folder = folder_with("pytorch_model.bin", &bytes[..bytes.len() / 2]);
        let error = Checkpoint::open(folder.path(), None).expect_err("truncated");
        assert!(error.to_string().contains("cut off"), "{error}");
    }

    /// Small files of every format: the seeds of fuzzing.
    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let tensors = BTreeMap::from([
            ("a".to_owned(), Tensor { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }),
            ("b".to_owned(), Tensor { shape: vec![4], values: vec![-1.0, 0.5, 0.25, 8.0] }),
        ]);
        let mut whole = made_up(&tiny(), false);
        whole.retain(|name, _| !name.contains("layer.1"));
        let whole = Weights::check(whole, &mut tiny_but(|bert| bert.num_hidden_layers = 1)).expect("they fit");
        let pickle =
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bc__builtin__\ndict\n)R]q\x01(K\x02h\x01eu."
                .to_vec();
        vec![
            ("lightning.ckpt", torch_save(&tensors, true)),
            ("pickle", pickle),
            ("pytorch.bin", torch_save(&tensors, false)),
            ("whole-int8.safetensors", write_tensors(&whole, WeightForm::Int8).expect("it serializes")),
        ]
    }

    #[test]
    fn the_seeds_match_those_in_the_repository() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/checkpoint");
        for (name, bytes) in seeds() {
            let path = folder.join(name);
            if std::env::var_os("QUARRY_WRITE_SEEDS").is_some() {
                std::fs::write(&path, &bytes).expect("written");
            }
            assert!(std::fs::read(&path).expect(name) == bytes, "{name}: set QUARRY_WRITE_SEEDS=1 to write it again");
        }
    }

    /// How many damaged files are tried. Fuzzing tries more.
    const CASES: usize = 4000;

    #[test]
    fn damaged_checkpoints_make_no_more_values_than_their_bytes_warrant() {
        let mut state = 2026_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let seeds = seeds();
        let mut read = 0;
        for case in 0..CASES {
            let (name, mut bytes) = seeds[case % seeds.len()].clone();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len().max(1);
                match random() % 6 {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, random() as u8),
                    2 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = [0, 0xff, 0x7f][random() % 3]),
                    3 => drop(bytes.drain(at..(at + random() % 40).min(bytes.len()))),
                    4 => bytes.extend_from_within(at..),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random() as u8),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let result = std::panic::catch_unwind(|| read_anything(&bytes));
            let sound = result.as_ref().is_ok_and(|values| *values <= VALUES_PER_BYTE * bytes.len());
            if !sound {
                let path = std::env::temp_dir().join(format!("damaged-{name}"));
                std::fs::write(&path, &bytes).expect("written");
                eprintln!("case {case}, from {name}: the bytes are in {}", path.display());
            }
            let values = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(sound, "case {case}, from {name}: {values} values of {} bytes", bytes.len());
            read += usize::from(values > 0);
        }
        assert!(read > CASES / 20 && read < CASES, "{read} of {CASES} were read");
    }

    #[test]
    fn a_vocabulary_becomes_a_tokenizer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nwor\n##ld\n").expect("written");
        let tokenizer = tokenizer_from_vocabulary(&path, None).expect("a tokenizer");
        let encoding = tokenizer.encode("Hello WORLD!", true).expect("an encoding");
        assert_eq!(encoding.get_ids(), [2, 5, 6, 7, 1, 3]);
        std::fs::write(&path, "[PAD]\n[UNK]\nhello\n").expect("written");
        assert!(tokenizer_from_vocabulary(&path, None).expect_err("no separator").to_string().contains("`[SEP]`"));
    }
}
