//! AVX2 with FMA: a vector is two registers of 256 bits, of which there are 16.
//!
//! Product tile with `vpdpbusd`: 6 rows × 16 columns, 12 registers of sums, 2 of weights, 1 of activations; 12 instructions (6 cycles on two
//! ports) for a step of four inputs. Without it: 4 rows × 16 columns, 24 or 32 instructions. Attention: 6 keys × 16 queries.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2_bytes::{Dot, Pairs, Vnni, Wide};
use super::{LANES, Lanes, Work};
use crate::compute::attention::{Head, attend};
use crate::compute::product::{Epilogue, Factors, multiply};
use crate::compute::rows::ROUND;

/// Exists only on processors with AVX2 and FMA, `Avx2<Vnni>` on those with AVX-VNNI too.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<D>(PhantomData<D>);

impl<D: Dot> Avx2<D> {
    fn detected() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(PhantomData))
    }
}

impl Avx2<Vnni> {
    pub(crate) fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avxvnni") { Self::detected() } else { None }
    }

    pub(crate) fn run(self, work: impl Work) {
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn run(lanes: Avx2<Vnni>, work: impl Work) {
            work.run(lanes);
        }
        // SAFETY: `detect` found these features.
        unsafe { run(self, work) }
    }
}

macro_rules! without_vnni {
    ($dot:ty) => {
        impl Avx2<$dot> {
            pub(crate) fn detect() -> Option<Self> {
                Self::detected()
            }

            pub(crate) fn run(self, work: impl Work) {
                #[target_feature(enable = "avx2,fma")]
                fn run(lanes: Avx2<$dot>, work: impl Work) {
                    work.run(lanes);
                }
                // SAFETY: `detect` found these features.
                unsafe { run(self, work) }
            }
        }
    };
}
without_vnni!(Pairs);
without_vnni!(Wide);

/// An expression of intrinsics.
macro_rules! vector {
    ($($body:tt)*) => {
        // SAFETY: the token `Avx2` exists only where these instructions do; pointers are the caller's.
        unsafe { $($body)* }
    };
}

/// Sixteen floats.
type Pair = [__m256; 2];

/// Transposes the square of eight values that starts at row `from.0`, half `from.1`.
#[inline(always)]
unsafe fn transpose_eight(square: &[Pair; LANES], row: usize, half: usize) -> [__m256; 8] {
    vector! {
        let mut pairs = [square[row][half]; 8];
        for index in 0..4 {
            let [a, b] = [square[row + 2 * index][half], square[row + 2 * index + 1][half]];
            pairs[2 * index] = _mm256_unpacklo_ps(a, b);
            pairs[2 * index + 1] = _mm256_unpackhi_ps(a, b);
        }
        let mut fours = pairs;
        for index in 0..2 {
            for side in 0..2 {
                let low = _mm256_castps_pd(pairs[4 * index + side]);
                let high = _mm256_castps_pd(pairs[4 * index + 2 + side]);
                fours[4 * index + 2 * side] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
                fours[4 * index + 2 * side + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
            }
        }
        let mut columns = fours;
        for column in 0..4 {
            columns[column] = _mm256_permute2f128_ps::<0x20>(fours[column], fours[column + 4]);
            columns[column + 4] = _mm256_permute2f128_ps::<0x31>(fours[column], fours[column + 4]);
        }
        columns
    }
}

impl<D: Dot> Lanes for Avx2<D> {
    type Float = Pair;
    type Int = [__m256i; 2];
    type Weights = [__m256i; 2];
    type Quad = __m256i;

    const PANEL: usize = 16;
    const QUERIES: usize = 16;

    #[inline(always)]
    fn splat(self, value: f32) -> Pair {
        vector!([_mm256_set1_ps(value); 2])
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Pair {
        vector!([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))])
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Pair) {
        vector! {
            _mm256_storeu_ps(to, value[0]);
            _mm256_storeu_ps(to.add(8), value[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        vector!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        vector!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        vector!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        vector!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        vector!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        vector!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        vector!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        vector! {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    fn keep_first(self, a: Pair, count: usize) -> Pair {
        /// Sixteen ones, then sixteen zeros: a window of sixteen that starts at 16 - count is the mask.
        static MASKS: [i32; 2 * LANES] = {
            let mut masks = [0; 2 * LANES];
            let mut lane = 0;
            while lane < LANES {
                masks[lane] = -1;
                lane += 1;
            }
            masks
        };
        let window = &MASKS[LANES - count.min(LANES)..];
        // SAFETY: as above; at least sixteen masks follow.
        unsafe {
            let mask = self.load(window.as_ptr().cast());
            [_mm256_and_ps(a[0], mask[0]), _mm256_and_ps(a[1], mask[1])]
        }
    }
    #[inline(always)]
    fn sum(self, a: Pair) -> f32 {
        vector! {
            let a = _mm256_add_ps(a[0], a[1]);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        }
    }
    #[inline(always)]
    fn largest(self, a: Pair) -> f32 {
        vector! {
            let a = _mm256_max_ps(a[0], a[1]);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        }
    }
    #[inline(always)]
    fn scale_by_power(self, mut a: Pair, magic: Pair) -> Pair {
        for half in 0..2 {
            a[half] = vector! {
                let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(magic[half]));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[half]), power))
            };
        }
        a
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; LANES], magic: Pair) -> Pair {
        // The instruction reads the low three bits of an index.
        vector! {
            let table = _mm256_loadu_ps(table.as_ptr());
            [
                _mm256_permutevar8x32_ps(table, _mm256_castps_si256(magic[0])),
                _mm256_permutevar8x32_ps(table, _mm256_castps_si256(magic[1])),
            ]
        }
    }
    #[inline(always)]
    fn transpose(self, square: &mut [Pair; LANES]) {
        vector! {
            let [top_left, top_right] = [transpose_eight(square, 0, 0), transpose_eight(square, 0, 1)];
            let [low_left, low_right] = [transpose_eight(square, 8, 0), transpose_eight(square, 8, 1)];
            for column in 0..8 {
                square[column] = [top_left[column], low_left[column]];
                square[column + 8] = [top_right[column], low_right[column]];
            }
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, a: [Pair; 4], factor: Pair) {
        for half in 0..2 {
            vector! {
                let round = _mm256_set1_ps(ROUND);
                let mut integers = [_mm256_castps_si256(round); 4];
                for index in 0..4 {
                    integers[index] = _mm256_castps_si256(_mm256_fmadd_ps(a[index][half], factor[half], round));
                }
                let [a, b, c, d] = integers;
                let byte = _mm256_set1_epi32(0xff);
                let low = _mm256_or_si256(_mm256_and_si256(a, byte), _mm256_slli_epi32::<8>(_mm256_and_si256(b, byte)));
                let third = _mm256_slli_epi32::<16>(_mm256_and_si256(c, byte));
                let high = _mm256_or_si256(third, _mm256_slli_epi32::<24>(d));
                _mm256_storeu_si256(to.add(32 * half).cast(), _mm256_or_si256(low, high));
            }
        }
    }
    #[inline(always)]
    unsafe fn load_ints(self, from: *const i32) -> [__m256i; 2] {
        vector!([_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())])
    }
    #[inline(always)]
    fn to_floats(self, a: [__m256i; 2]) -> Pair {
        vector!([_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])])
    }
    #[inline(always)]
    unsafe fn load_weights(self, from: *const i8) -> [__m256i; 2] {
        vector!([_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())])
    }
    #[inline(always)]
    unsafe fn load_quad(self, from: *const u8) -> __m256i {
        vector!(_mm256_set1_epi32(from.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    fn prefetch(self, from: *const i8) {
        vector!(_mm_prefetch::<_MM_HINT_T1>(from));
    }
    #[inline(always)]
    fn dot(self, sums: [__m256i; 2], quad: __m256i, weights: [__m256i; 2]) -> [__m256i; 2] {
        vector!([D::dot(sums[0], quad, weights[0]), D::dot(sums[1], quad, weights[1])])
    }
    #[inline(always)]
    unsafe fn multiply<E: Epilogue>(self, factors: &Factors<'_>, epilogue: &mut E) {
        // SAFETY: passed on to the caller.
        unsafe {
            if D::SIX_ROWS {
                multiply::<Self, E, 6, 3, 1>(self, factors, epilogue);
            } else {
                multiply::<Self, E, 4, 2, 1>(self, factors, epilogue);
            }
        }
    }
    #[inline(always)]
    unsafe fn attend(self, head: &Head<'_>) {
        // SAFETY: passed on to the caller.
        unsafe { attend::<Self, 6, 4, 1>(self, head) }
    }
}
