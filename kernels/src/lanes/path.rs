//! The choice of instructions. In: the processor's features. Out: a [`Path`], and its [`Kernels`] for given weights.

use super::{Lanes, Work, plain::Plain};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::Avx2,
    avx2_bytes::{Pairs, Vnni, Wide},
    avx512::Avx512,
};
use crate::error::Error;

/// The instructions that kernels use. All paths compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// AVX2, FMA and AVX-VNNI.
    AvxVnni,
    /// AVX2 and FMA.
    Avx2,
    /// Plain Rust.
    Plain,
}

impl Path {
    /// Every path, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::Plain];

    /// The fastest path of this processor.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|path| path.is_available()).unwrap_or(Self::Plain)
    }

    /// Whether this processor has its instructions.
    pub fn is_available(self) -> bool {
        self.kernels(true).is_ok()
    }

    /// Its name in figures and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::Plain => "plain",
        }
    }

    /// Its kernels. `pairs_fit`: no two neighbouring weights of a row add up to more than 128 in magnitude.
    pub(crate) fn kernels(self, pairs_fit: bool) -> Result<Kernels, Error> {
        let kernels = match (self, pairs_fit) {
            (Self::Plain, _) => Some(Kernels::Plain),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni, _) => Avx512::detect().map(Kernels::Avx512),
            #[cfg(target_arch = "x86_64")]
            (Self::AvxVnni, _) => Avx2::<Vnni>::detect().map(Kernels::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2, true) => Avx2::<Pairs>::detect().map(Kernels::Avx2Pairs),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2, false) => Avx2::<Wide>::detect().map(Kernels::Avx2Wide),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        };
        kernels.ok_or(Error::Path { path: self.name() })
    }
}

/// A token of instructions that the processor has.
#[derive(Clone, Copy)]
pub(crate) enum Kernels {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Avx2<Vnni>),
    #[cfg(target_arch = "x86_64")]
    Avx2Pairs(Avx2<Pairs>),
    #[cfg(target_arch = "x86_64")]
    Avx2Wide(Avx2<Wide>),
}

impl Kernels {
    /// Runs work, compiled for these instructions.
    pub(crate) fn run(self, work: impl Work) {
        match self {
            Self::Plain => work.run(Plain),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(lanes) => lanes.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(lanes) => lanes.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Pairs(lanes) => lanes.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Wide(lanes) => lanes.run(work),
        }
    }

    /// Columns of weights in a panel.
    pub(crate) fn panel(self) -> usize {
        match self {
            Self::Plain => Plain::PANEL,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::PANEL,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => Avx2::<Vnni>::PANEL,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Pairs(_) | Self::Avx2Wide(_) => Avx2::<Pairs>::PANEL,
        }
    }
}

/// Every kind of kernels that this processor has, for tests.
#[cfg(test)]
pub(crate) fn every_kernels(pairs_fit: bool) -> Vec<(String, Kernels)> {
    let kinds = [true, false].into_iter().filter(|fit| pairs_fit || !fit);
    let all =
        kinds.flat_map(|fit| Path::ALL.map(|path| (format!("{}, pairs fit: {fit}", path.name()), path.kernels(fit))));
    all.filter_map(|(name, kernels)| Some((name, kernels.ok()?))).collect()
}
