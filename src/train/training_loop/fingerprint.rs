//! What a saved state belongs to. In: recipe, questions, data, encoder, devices. Out: a [`Fingerprint`], and in words how two of them
//! differ. It may not read files.

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

/// What a training was begun with, as far as it decides its weights: not where things lie, the test split, or what is done about a loss
/// that is not a number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// SHA-256 of recipe, questions, data and encoder, in hexadecimal.
    pub sha256: String,
    /// Threads on the CPU, for sums differ with their number; none on cards.
    pub threads: Option<i32>,
    /// The program's version.
    pub version: String,
}

impl Fingerprint {
    /// That of a training on `devices`, once the number of threads is set.
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

    /// What the training that was saved has that this one has not, and the way out; none where they are the same.
    pub fn differs(&self, saved: &Self) -> Option<(String, String)> {
        let anew = "name another folder, or begin anew with --restart";
        if self.version != saved.version {
            return Some((format!("of version {}, and this is {}", saved.version, self.version), anew.into()));
        }
        if self.sha256 != saved.sha256 {
            return Some(("with other settings, data or encoder".into(), anew.into()));
        }
        match (saved.threads, self.threads) {
            (saved, own) if saved == own => None,
            (Some(saved), Some(own)) => {
                let reason = format!("with threads = {saved}, now {own}, and sums differ with their number");
                Some((reason, format!("say threads = {saved}, {anew}")))
            }
            (Some(_), None) => Some(("on the CPU, now on a card".into(), format!("say device = \"cpu\", {anew}"))),
            (None, _) => Some(("on a card, now on the CPU".into(), anew.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let of = |sha256: &str, threads, version: &str| Fingerprint {
            sha256: sha256.into(),
            threads,
            version: version.into(),
        };
        let saved = of("a", Some(2), "0.1.0");
        assert_eq!(saved.differs(&saved), None);
        for (other, reason, hint) in [
            (of("a", Some(2), "0.2.0"), "of version 0.1.0, and this is 0.2.0", "name another folder"),
            (of("b", Some(1), "0.1.0"), "with other settings, data or encoder", "name another folder"),
            (of("a", Some(8), "0.1.0"), "with threads = 2, now 8", "say threads = 2, name another folder"),
            (of("a", None, "0.1.0"), "on the CPU, now on a card", "say device = \"cpu\""),
        ] {
            let (said, way) = other.differs(&saved).unwrap();
            assert!(said.starts_with(reason) && way.starts_with(hint), "{said}; {way}");
        }
        assert!(saved.differs(&of("a", None, "0.1.0")).unwrap().0.starts_with("on a card"));
    }
}
