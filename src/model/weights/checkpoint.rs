//! Checkpoints of other programs. In: a folder or file from Hugging Face, PyTorch or Lightning. Out: checked [`Weights`]
//! with their [`ModelConfig`] and the folder of the tokenizer. It must not write files, or execute code in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::weights::pytorch;
use crate::model::weights::tensors::{Misfit, Tensor, Weights, canonical_names};
use crate::model::weights::vocabulary::tokenizer_of;
use crate::model::weights::weights_file::{beside, read_tensors, tensors_of, weights_file};
use crate::text::tokens::frame_of;

/// The number of tensors that a message names.
const NAMED: usize = 3;

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
        let weights = read_weights(&weights_path, &mut config)?;
        Ok(Self { weights_path, weights, config, folder })
    }

    /// The content of `tokenizer.json`; if there is none, it is built from `vocab.txt`. The weights have a vector for every id that it
    /// can produce, and it separates a question from a text.
    pub fn tokenizer_json(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("tokenizer.json");
        let tokenizer = self.tokenizer()?;
        let refuse = |reason: String, hint: &str| {
            Err(Error::Checkpoint { path: self.folder.clone(), reason, hint: hint.to_owned() })
        };
        let frame = match frame_of(&tokenizer) {
            Ok(frame) => frame,
            Err(reason) => {
                let reason = format!("its tokenizer cannot be used: {reason}");
                return refuse(reason, "copy the encoder's own tokenizer.json beside config.json");
            }
        };
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0).max(frame.largest_id());
        let known = self.weights.encoder.architecture.words.rows;
        if largest as usize >= known {
            let reason = format!("its tokenizer has id {largest}, but its weights have only {known} word vectors");
            return refuse(reason, "tokenizer and weights must belong together");
        }
        if path.exists() {
            return std::fs::read(&path).map_err(|source| Error::Read { path, source: source.into() });
        }
        tokenizer.to_string(false).map(String::into_bytes).map_err(|source| Error::Tokenizer { path, source })
    }

    /// The checkpoint's tokenizer: `tokenizer.json`, or, of an encoder with BERT's tokenizer, that tokenizer built from `vocab.txt`.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        tokenizer_of(&self.folder, self.config.encoder.has_wordpieces())
    }
}

/// Reads the weights of the model that `config` describes. Sets the widths of the head in `config` if they were missing. A head of another kind
/// is an error that names it; the heads that the encoder was pretrained with are left out.
pub(crate) fn read_weights(path: &Path, config: &mut ModelConfig) -> Result<Weights> {
    let NamedTensors { tensors, pretraining } = NamedTensors::read(path, config)?;
    if let Some((reason, hint)) = config.head.misfit(|name| tensors.get(name).map(|tensor| tensor.shape.as_slice())) {
        return Err(refused(path, Misfit { reason, hint }));
    }
    let prefix = config.encoder.architecture().checkpoint.prefix;
    let others = tensors.keys().filter(|name| !name.starts_with(prefix) && !config.head.owns(name));
    let others: Vec<&String> = pretraining.iter().chain(others).collect();
    if !others.is_empty() && !tensors.keys().any(|name| config.head.owns(name)) {
        let class = config.encoder.class();
        return Err(Error::Checkpoint {
            path: path.to_owned(),
            reason: format!("it has no heads that find mentions, only others: {}", list(&others)),
            hint: format!(
                "its encoder can be fine-tuned: name it as `path` of `[encoder]` in a file of `quarry train`; if it is a token classifier or answers questions, `architectures` in config.json must say so: [\"{class}ForTokenClassification\"] or [\"{class}ForQuestionAnswering\"]"
            ),
        });
    }
    if !pretraining.is_empty() {
        let (path, heads) = (path.display(), list(&pretraining.iter().collect::<Vec<_>>()));
        tracing::info!("`{path}`: the heads of pretraining are left out: {heads}");
    }
    Weights::check(tensors, config).map_err(|misfit| refused(path, misfit))
}

/// The tensors of a checkpoint under the names of the descriptions.
#[derive(Debug)]
pub(crate) struct NamedTensors {
    /// The tensors of the encoder and of heads.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// The names of tensors of the heads that the encoder was pretrained with, which are left out.
    pub(crate) pretraining: Vec<String>,
}

impl NamedTensors {
    /// Reads a weights file, or shards by their index. A head that `config` describes is not one of pretraining.
    pub(crate) fn read(path: &Path, config: &ModelConfig) -> Result<Self> {
        let names = config.encoder.architecture().checkpoint;
        let mut tensors = canonical_names(read_tensors(path)?, &names).map_err(|misfit| refused(path, misfit))?;
        let pretraining =
            |name: &str| names.pretraining_heads.iter().any(|head| name.starts_with(head)) && !config.head.owns(name);
        let pretraining = tensors.extract_if(.., |name, _| pretraining(name)).map(|(name, _)| name).collect();
        Ok(Self { tensors, pretraining })
    }
}

/// The first of some names, for a message.
fn list(names: &[&String]) -> String {
    let (first, rest) = names.split_at(names.len().min(NAMED));
    let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
    format!("{}{}", first.join(", "), if rest.is_empty() { "" } else { ", …" })
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

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a failing test prints where its input is")]
mod tests {
    use super::*;
    use crate::machine::captured_events::captured;
    use crate::model::config::tests::{tiny, tiny_but};
    use crate::model::head::Head;
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

    /// The tensors under names that a wrapper of training gives them.
    fn renamed(rename: impl Fn(&str) -> String) -> Vec<u8> {
        let tensors = made_up(&tiny(), false);
        torch_save(&tensors.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect(), false)
    }

    #[test]
    fn wrappers_of_training_give_the_same_weights() {
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        for prefix in [
            "_orig_mod.",
            "module.",
            "_forward_module.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "model._orig_mod.model.",
        ] {
            let folder = folder_with("pytorch_model.bin", &renamed(|name| format!("{prefix}{name}")));
            assert_eq!(Checkpoint::open(folder.path(), None).expect(prefix).weights, weights, "{prefix}");
        }
        let inside = renamed(|name| {
            let name = name.replace("layer.0.", "layer.0._fsdp_wrapped_module.");
            format!("_fsdp_wrapped_module.{}", name.replace("layer.1.", "layer.1._checkpoint_wrapped_module."))
        });
        let folder = folder_with("pytorch_model.bin", &inside);
        assert_eq!(Checkpoint::open(folder.path(), None).expect("wrapped").weights, weights);
    }

    /// Splits a model into two shards and writes them, and the index, as safetensors.
    fn sharded() -> (tempfile::TempDir, Weights) {
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        let folder = folder_with("notes.txt", b"");
        let (mut parts, mut map) = ([BTreeMap::new(), BTreeMap::new()], BTreeMap::new());
        for (number, (name, tensor)) in weights.iter().enumerate() {
            parts[number % 2].insert(name.to_owned(), tensor.clone());
            map.insert(name.to_owned(), format!("pytorch_model-0000{}-of-00002.bin", number % 2 + 1));
        }
        for (number, part) in parts.iter().enumerate() {
            let file = folder.path().join(format!("pytorch_model-0000{}-of-00002.bin", number + 1));
            std::fs::write(file, torch_save(part, false)).expect("written");
        }
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
        std::fs::write(folder.path().join("pytorch_model.bin.index.json"), index).expect("written");
        (folder, weights)
    }

    #[test]
    fn shards_are_read_by_their_index() {
        let (folder, weights) = sharded();
        assert_eq!(Checkpoint::open(folder.path(), None).expect("it opens").weights, weights);
        let shard = folder.path().join("pytorch_model-00002-of-00002.bin");
        let error = Checkpoint::open(&shard, None).expect_err("one of two");
        assert!(error.to_string().ends_with("it is one of several shards"), "{error}");
        let bytes = std::fs::read(&shard).expect("read");
        std::fs::write(&shard, &bytes[..bytes.len() / 2]).expect("written");
        let error = Checkpoint::open(folder.path(), None).expect_err("cut off").to_string();
        assert!(
            error.contains("pytorch_model-00002-of-00002.bin`: it is not a PyTorch file, or it is cut off"),
            "{error}"
        );
        std::fs::remove_file(&shard).expect("removed");
        let error = Checkpoint::open(folder.path(), None).expect_err("missing").to_string();
        assert!(error.contains("pytorch_model-00002-of-00002.bin"), "{error}");
        std::fs::remove_file(folder.path().join("pytorch_model.bin.index.json")).expect("removed");
        let error = Checkpoint::open(folder.path(), None).expect_err("no index").to_string();
        assert!(error.ends_with("there are 1 shards of weights, but no index that lists them"), "{error}");
    }

    #[test]
    fn heads_of_pretraining_are_named() {
        let mut tensors = made_up(&tiny(), false);
        let own = Weights::check(tensors.clone(), &mut tiny()).expect("they fit");
        tensors.insert("cls.predictions.bias".into(), Tensor { shape: vec![1], values: vec![0.0] });
        let folder = folder_with("pytorch_model.bin", &torch_save(&tensors, false));
        let (opened, notes) = captured(|| Checkpoint::open(folder.path(), None));
        assert_eq!(opened.expect("it opens").weights, own);
        assert!(notes[0].ends_with("the heads of pretraining are left out: `cls.predictions.bias`"), "{notes:?}");
        // The matrix of words is tied to that of the head.
        let mut tied = tensors.clone();
        tied.insert("cls.predictions.decoder.weight".into(), tied["bert.embeddings.word_embeddings.weight"].clone());
        let folder = folder_with("pytorch_model.bin", &torch_save(&tied, false));
        assert_eq!(Checkpoint::open(folder.path(), None).expect("it opens").weights, own);
        tensors.retain(|name, _| !Head::owns(name));
        tensors.insert("qa_outputs.bias".into(), Tensor { shape: vec![1], values: vec![0.0] });
        let folder = folder_with("pytorch_model.bin", &torch_save(&tensors, false));
        let error = Checkpoint::open(folder.path(), None).expect_err("no heads");
        let expected = "it has no heads that find mentions, only others: `cls.predictions.bias`, `qa_outputs.bias`";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.starts_with("its encoder can be fine-tuned")), "{error}");
    }

    #[test]
    fn a_tokenizer_without_special_tokens_is_refused() {
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        let bytes = write_tensors(&weights, WeightForm::Fp32).expect("it serializes");
        let folder = folder_with("model.safetensors", &bytes);
        let json = br###"{"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}}}"###;
        std::fs::write(folder.path().join("tokenizer.json"), json).expect("written");
        let error = Checkpoint::open(folder.path(), None).expect("it opens").tokenizer_json().expect_err("no padding");
        let nothing =
            "its tokenizer cannot be used: its post_processor puts no special token between a question and a text";
        assert!(error.to_string().ends_with(nothing), "{error}");
    }

    #[test]
    fn a_tokenizer_without_a_fast_form_is_refused_with_the_way_to_it() {
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        let folder = tempfile::tempdir().expect("a folder");
        let config = br#"{"model_type": "roberta", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 26}"#;
        let config = ModelConfig::parse(Path::new("config.json"), config).expect("valid");
        let path = folder.path().to_owned();
        let checkpoint = Checkpoint { weights_path: path.join("model.safetensors"), weights, config, folder: path };
        let error = checkpoint.tokenizer().expect_err("no tokenizer");
        assert!(error.to_string().ends_with("there is no tokenizer.json"), "{error}");
        // The vocabulary of another tokenizer than BERT's.
        for name in ["vocab.txt", "sentencepiece.bpe.model"] {
            std::fs::write(folder.path().join(name), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n").expect("written");
        }
        let error = checkpoint.tokenizer().expect_err("slow");
        let expected = "there is no tokenizer.json, only its slow form: `sentencepiece.bpe.model`, `vocab.txt`";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("save_pretrained")), "{error}");
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
}
