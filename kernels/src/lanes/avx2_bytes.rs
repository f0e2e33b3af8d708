//! Three ways to multiply bytes with registers of 256 bits, all exact:
//!
//! - [`Vnni`]: `vpdpbusd` of AVX-VNNI, one instruction for 32 products.
//! - [`Pairs`]: `vpmaddubsw`, `vpmaddwd`, `vpaddd`: three. `vpmaddubsw` saturates unless no pair of weights adds up to more than 128 in
//!   magnitude; the weights say whether that is so.
//! - [`Wide`]: even and odd bytes as 16-bit integers, two `vpmaddwd` and two `vpaddd`: four.

use std::arch::x86_64::*;

/// A way to multiply bytes.
pub(crate) trait Dot: Copy {
    /// Whether it is `vpdpbusd`, which leaves registers for six rows instead of four.
    const SIX_ROWS: bool;
    unsafe fn dot(sums: __m256i, quad: __m256i, weights: __m256i) -> __m256i;
}

/// `vpdpbusd`.
#[derive(Clone, Copy)]
pub(crate) struct Vnni;

impl Dot for Vnni {
    const SIX_ROWS: bool = true;
    #[inline(always)]
    unsafe fn dot(sums: __m256i, quad: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's token stands for AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, quad, weights) }
    }
}

/// `vpmaddubsw`, for weights whose pairs fit.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

impl Dot for Pairs {
    const SIX_ROWS: bool = false;
    #[inline(always)]
    unsafe fn dot(sums: __m256i, quad: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's token stands for AVX2.
        unsafe {
            let pairs = _mm256_maddubs_epi16(quad, weights);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

/// `vpmaddwd`, for any weights.
#[derive(Clone, Copy)]
pub(crate) struct Wide;

impl Dot for Wide {
    const SIX_ROWS: bool = false;
    #[inline(always)]
    unsafe fn dot(sums: __m256i, quad: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's token stands for AVX2.
        unsafe {
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights));
            let odd = _mm256_srai_epi16::<8>(weights);
            let even = _mm256_madd_epi16(_mm256_and_si256(quad, _mm256_set1_epi16(255)), even);
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(quad), odd);
            _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
        }
    }
}
