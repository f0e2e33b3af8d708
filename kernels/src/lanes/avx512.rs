//! AVX-512 with VNNI: a vector is one register of 512 bits, of which there are 32.
//!
//! Product tile: 12 rows × 32 columns, 24 registers of sums, 2 of weights, 1 of activations. A step of four inputs is 24 `vpdpbusd` (12
//! cycles on two ports) and 14 loads. Attention: 8 keys × 32 queries, 16 registers of sums.

use std::arch::x86_64::*;

use super::{LANES, Lanes, Work};
use crate::compute::attention::{Head, attend};
use crate::compute::product::{Epilogue, Factors, multiply};
use crate::compute::rows::ROUND;

/// Exists only on processors with AVX-512 (F, BW, VL, DQ) and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    pub(crate) fn run(self, work: impl Work) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
        fn run(lanes: Avx512, work: impl Work) {
            work.run(lanes);
        }
        // SAFETY: `detect` found these features.
        unsafe { run(self, work) }
    }
}

/// An expression of intrinsics.
macro_rules! vector {
    ($($body:tt)*) => {
        // SAFETY: the token `Avx512` exists only where these instructions do; pointers are the caller's.
        unsafe { $($body)* }
    };
}

impl Lanes for Avx512 {
    type Float = __m512;
    type Int = __m512i;
    type Weights = __m512i;
    type Quad = __m512i;

    const PANEL: usize = 64;
    const QUERIES: usize = 32;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        vector!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        vector!(_mm512_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        vector!(_mm512_storeu_ps(to, value));
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        vector!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        vector!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        vector!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        vector!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        vector!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        vector!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        vector!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        vector!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn keep_first(self, a: __m512, count: usize) -> __m512 {
        vector!(_mm512_maskz_mov_ps(((1_u32 << count) - 1) as u16, a))
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        vector! {
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        vector! {
            let a = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        }
    }
    #[inline(always)]
    fn scale_by_power(self, a: __m512, magic: __m512) -> __m512 {
        vector! {
            let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(magic));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), power))
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; LANES], magic: __m512) -> __m512 {
        // The index has four bits; the fourth does not matter, because the table holds its entries twice.
        vector!(_mm512_permutexvar_ps(_mm512_castps_si512(magic), _mm512_loadu_ps(table.as_ptr())))
    }
    #[inline(always)]
    fn transpose(self, square: &mut [__m512; LANES]) {
        vector! {
            let mut pairs = *square;
            for row in 0..8 {
                pairs[2 * row] = _mm512_unpacklo_ps(square[2 * row], square[2 * row + 1]);
                pairs[2 * row + 1] = _mm512_unpackhi_ps(square[2 * row], square[2 * row + 1]);
            }
            let mut fours = pairs;
            for row in 0..4 {
                for half in 0..2 {
                    let low = _mm512_castps_pd(pairs[4 * row + half]);
                    let high = _mm512_castps_pd(pairs[4 * row + 2 + half]);
                    fours[4 * row + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                    fours[4 * row + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
                }
            }
            // `fours[4 r + c]` holds columns c, c + 4, c + 8, c + 12 of rows 4 r to 4 r + 3.
            for column in 0..4 {
                let [a, b] = [fours[column], fours[4 + column]];
                let [c, d] = [fours[8 + column], fours[12 + column]];
                let first = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                let second = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                let third = _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d);
                let fourth = _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d);
                square[column] = _mm512_shuffle_f32x4::<0b10_00_10_00>(first, third);
                square[column + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(second, fourth);
                square[column + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(first, third);
                square[column + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(second, fourth);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, a: [__m512; 4], factor: __m512) {
        /// The bits of `b` where those of `a` are set, else those of `c`.
        const CHOOSE: i32 = 0xca;
        vector! {
            let mut integers = [_mm512_castps_si512(a[0]); 4];
            for index in 0..4 {
                integers[index] = _mm512_castps_si512(_mm512_fmadd_ps(a[index], factor, _mm512_set1_ps(ROUND)));
            }
            let [a, b, c, d] = integers;
            let byte = _mm512_set1_epi32(0xff);
            let low = _mm512_ternarylogic_epi32::<CHOOSE>(byte, a, _mm512_slli_epi32::<8>(b));
            let high = _mm512_ternarylogic_epi32::<CHOOSE>(byte, c, _mm512_slli_epi32::<8>(d));
            let word = _mm512_set1_epi32(0xffff);
            let all = _mm512_ternarylogic_epi32::<CHOOSE>(word, low, _mm512_slli_epi32::<16>(high));
            _mm512_storeu_si512(to.cast(), all);
        }
    }
    #[inline(always)]
    unsafe fn load_ints(self, from: *const i32) -> __m512i {
        vector!(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    fn to_floats(self, a: __m512i) -> __m512 {
        vector!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    unsafe fn load_weights(self, from: *const i8) -> __m512i {
        vector!(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_quad(self, from: *const u8) -> __m512i {
        vector!(_mm512_set1_epi32(from.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    fn prefetch(self, from: *const i8) {
        vector!(_mm_prefetch::<_MM_HINT_T1>(from));
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, quad: __m512i, weights: __m512i) -> __m512i {
        vector!(_mm512_dpbusd_epi32(sums, quad, weights))
    }
    #[inline(always)]
    unsafe fn multiply<E: Epilogue>(self, factors: &Factors<'_>, epilogue: &mut E) {
        // SAFETY: passed on to the caller.
        unsafe { multiply::<Self, E, 6, 3, 4>(self, factors, epilogue) }
    }
    #[inline(always)]
    unsafe fn attend(self, head: &Head<'_>) {
        // SAFETY: passed on to the caller.
        unsafe { attend::<Self, 8, 8, 2>(self, head) }
    }
}
