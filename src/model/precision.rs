//! Precisions, variants and parts of a model's ONNX graphs. In: names in a job file (`fp16`, `fused`). Out: closed enums that
//! print as the same names. It must not know how graphs are written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::task::kind::Kind;

/// The number format a graph computes in. Its inputs and outputs are the same in every precision (`int64`, `bool`, `float32`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats everywhere: the reference for all other precisions.
    Fp32,
    /// bfloat16 weights and activations; only with a provider that supports it.
    Bf16,
    /// IEEE half floats (fp16) for weights and activations: for CUDA.
    Fp16,
    /// 8-bit integer matrix products with a scale per output column and per token: for the CPU.
    Int8,
}

impl Precision {
    /// Every precision, the most exact first.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Bf16, Self::Fp16, Self::Int8];

    /// Its name in a job file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

/// The set of operators that a graph uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphVariant {
    /// Operators of the ONNX standard only (opset 17): any provider, any runtime.
    Portable,
    /// With ONNX Runtime's own operators (domain `com.microsoft`) where they are faster.
    Fused,
    /// As `Fused`, but an int8 encoder of BERT's form is one operator of `kernels/`, which only this program has.
    Kernels,
}

impl GraphVariant {
    /// The variants for any program with ONNX Runtime.
    pub const ALL: [Self; 2] = [Self::Portable, Self::Fused];

    /// Its name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Fused => "fused",
            Self::Kernels => "kernels",
        }
    }
}

/// One graph of a model. A model of late interaction has two graphs; any other has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GraphPart {
    /// Everything, of a model with one graph.
    Whole(Precision),
    /// Questions → their vectors, of late interaction. It runs once per job, so it is always fp32.
    Questions,
    /// Windows and the vectors of questions → logits, of late interaction.
    Windows(Precision),
}

impl GraphPart {
    /// The graph that answers windows, of a model of this kind.
    pub const fn answering(kind: Kind, precision: Precision) -> Self {
        match kind {
            Kind::Late => Self::Windows(precision),
            _ => Self::Whole(precision),
        }
    }

    /// All graphs of a model of this kind.
    pub fn of(kind: Kind, precision: Precision) -> impl Iterator<Item = Self> {
        let questions = (kind == Kind::Late).then_some(Self::Questions);
        questions.into_iter().chain([Self::answering(kind, precision)])
    }

    /// The number format that it computes in.
    pub const fn precision(self) -> Precision {
        match self {
            Self::Whole(precision) | Self::Windows(precision) => precision,
            Self::Questions => Precision::Fp32,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl fmt::Display for GraphVariant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// An unknown name of a precision or variant, with the valid names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {choices}")]
pub struct UnknownName {
    pub(crate) word: String,
    pub(crate) choices: &'static str,
}

impl FromStr for Precision {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == word);
        found.ok_or_else(|| UnknownName { word: word.to_owned(), choices: "fp32, bf16, fp16, int8" })
    }
}

impl FromStr for GraphVariant {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|variant| variant.name() == word);
        found.ok_or_else(|| UnknownName { word: word.to_owned(), choices: "portable, fused" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for variant in GraphVariant::ALL {
            assert_eq!(variant.to_string().parse(), Ok(variant));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "fp8".parse::<Precision>().expect_err("no such precision");
        assert_eq!(error.to_string(), "`fp8` is not one of fp32, bf16, fp16, int8");
    }
}
