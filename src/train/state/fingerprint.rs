//! The identity of a training. In: recipe, questions, data, encoder, devices. Out: a [`Fingerprint`], and a description of how two of
//! them differ. It must not read files.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Device;

use crate::error::{Error, Result};
use crate::machine::hash::hexadecimal;
use crate::task::entity_schema::EntitySchema;
use crate::train::data::batch_sampler;
use crate::train::data::featurize::Data;
use crate::train::file::TrainFile;
use crate::train::network::pretrained::Pretrained;
use crate::train::recipe::{OnProblem, RecipeSection};

/// Everything that determines a training's weights. Paths, the test split and the handling of a loss that is not a number are not part of
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// SHA-256 of recipe, questions, data and encoder, in hexadecimal.
    pub sha256: String,
    /// Threads on the CPU, since sums depend on their number; `None` on GPUs.
    pub threads: Option<i32>,
    /// The program's version.
    pub version: String,
}

impl Fingerprint {
    /// The fingerprint of a training on `devices`. The number of threads must be set before.
    pub fn new(
        file: &TrainFile,
        schema: &EntitySchema,
        (train, dev): (&Data, &Data),
        pretrained: &Pretrained,
        devices: &[Device],
    ) -> Result<Self> {
        let recipe = RecipeSection { not_a_number: OnProblem::Stop, threads: None, ..file.recipe.clone() };
        let failed =
            |source: serde_json::Error| Error::Engine { doing: "read the settings".into(), source: source.into() };
        let mut hasher = Sha256::new();
        hasher
            .update(serde_json::to_vec(&(recipe, schema, &pretrained.config, batch_sampler::VERSION)).map_err(failed)?);
        hasher.update(train.split.hash());
        hasher.update(dev.split.hash());
        hasher.update(&pretrained.tokenizer);
        for (name, tensor) in pretrained.weights.iter() {
            hasher.update(name);
            let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(bytes);
        }
        Ok(Self {
            sha256: hexadecimal(&hasher.finalize()),
            threads: devices.contains(&Device::Cpu).then(tch::get_num_threads),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    /// How the saved training differs from this one, and a hint; `None` if they are the same.
    pub fn differs(&self, saved: &Self) -> Option<(String, String)> {
        let start_over = "name another folder, or start over with --restart";
        if self.version != saved.version {
            return Some((
                format!("of version {}, but this is version {}", saved.version, self.version),
                start_over.into(),
            ));
        }
        if self.sha256 != saved.sha256 {
            return Some(("with other settings, data or encoder".into(), start_over.into()));
        }
        match (saved.threads, self.threads) {
            (saved, own) if saved == own => None,
            (Some(saved), Some(own)) => {
                let reason = format!("with threads = {saved}, now {own}, and sums depend on the number of threads");
                Some((reason, format!("set threads = {saved}, {start_over}")))
            }
            (Some(_), None) => Some(("on the CPU, now on a GPU".into(), format!("set device = \"cpu\", {start_over}"))),
            (None, _) => Some(("on a GPU, now on the CPU".into(), start_over.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_described() {
        let of = |sha256: &str, threads, version: &str| Fingerprint {
            sha256: sha256.into(),
            threads,
            version: version.into(),
        };
        let saved = of("a", Some(2), "0.1.0");
        assert_eq!(saved.differs(&saved), None);
        for (other, reason, hint) in [
            (of("a", Some(2), "0.2.0"), "of version 0.1.0, but this is version 0.2.0", "name another folder"),
            (of("b", Some(1), "0.1.0"), "with other settings, data or encoder", "name another folder"),
            (of("a", Some(8), "0.1.0"), "with threads = 2, now 8", "set threads = 2, name another folder"),
            (of("a", None, "0.1.0"), "on the CPU, now on a GPU", "set device = \"cpu\""),
        ] {
            let (found_reason, found_hint) = other.differs(&saved).unwrap();
            assert!(found_reason.starts_with(reason) && found_hint.starts_with(hint), "{found_reason}; {found_hint}");
        }
        assert!(saved.differs(&of("a", None, "0.1.0")).unwrap().0.starts_with("on a GPU"));
    }
}
