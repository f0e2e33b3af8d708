//! Sixteen values at a time. In: a processor's instructions. Out: [`Lanes`], the operations of which every kernel is written once, and
//! [`Path`], which chooses the instructions at run time. It must not know what is computed.
//!
//! A vector is sixteen values on every path: one register of AVX-512, two of AVX2, an array in plain Rust. Sums over a vector fold its
//! halves, and products with sums are fused everywhere, so every path gives the same bits.
//!
//! Kernels are generic functions that are inlined into one function per path, which is compiled for the path's instructions. So they
//! contain no closures: a closure would be a function of its own, compiled without these instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_bytes;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod path;
mod plain;

pub(crate) use path::Kernels;
pub use path::Path;
#[cfg(test)]
pub(crate) use path::every_kernels;

use crate::compute::attention::Head;
use crate::compute::product::{Epilogue, Factors};

/// Values of a vector.
pub(crate) const LANES: usize = 16;

/// The operations on vectors of sixteen values. An implementation is a token that exists only on a processor that has its instructions.
pub(crate) trait Lanes: Copy {
    /// Sixteen floats.
    type Float: Copy;
    /// Sixteen 32-bit integers.
    type Int: Copy;
    /// Four weights, signed bytes, for each of sixteen columns.
    type Weights: Copy;
    /// Four activations, unsigned bytes, the same for all columns.
    type Quad: Copy;

    /// Columns of weights that a product reads at a time.
    const PANEL: usize;
    /// Queries that attention reads at a time.
    const QUERIES: usize;

    fn splat(self, value: f32) -> Self::Float;
    unsafe fn load(self, from: *const f32) -> Self::Float;
    unsafe fn store(self, to: *mut f32, value: Self::Float);
    fn add(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn sub(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn mul(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn div(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// a if a < b, else b; so b if one of them is not a number.
    fn min(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// a if a > b, else b; so b if one of them is not a number.
    fn max(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn abs(self, a: Self::Float) -> Self::Float;
    /// The first `count` values; the others become 0.
    fn keep_first(self, a: Self::Float, count: usize) -> Self::Float;
    fn sum(self, a: Self::Float) -> f32;
    fn largest(self, a: Self::Float) -> f32;
    /// a · 2ⁿ, n the integer in the low bits of `magic`.
    fn scale_by_power(self, a: Self::Float, magic: Self::Float) -> Self::Float;
    /// For each value, the entry of `table` that the low three bits of `magic` name. The table holds its eight entries twice.
    fn lookup(self, table: &[f32; LANES], magic: Self::Float) -> Self::Float;
    fn transpose(self, square: &mut [Self::Float; LANES]);
    /// Stores round(a · factor) + 128 of four vectors as 64 bytes, in the order of [`crate::compute::rows::value_at`].
    unsafe fn store_bytes(self, to: *mut u8, a: [Self::Float; 4], factor: Self::Float);

    unsafe fn load_ints(self, from: *const i32) -> Self::Int;
    fn to_floats(self, a: Self::Int) -> Self::Float;
    unsafe fn load_weights(self, from: *const i8) -> Self::Weights;
    unsafe fn load_quad(self, from: *const u8) -> Self::Quad;
    /// Asks for what lies at `from`, which need not be memory of ours, in the second cache.
    fn prefetch(self, from: *const i8);
    /// `sums` and, in every column, the four products of a quad with its weights; exact.
    fn dot(self, sums: Self::Int, quad: Self::Quad, weights: Self::Weights) -> Self::Int;

    /// [`crate::compute::product::multiply`] with the tile of this path.
    unsafe fn multiply<E: Epilogue>(self, factors: &Factors<'_>, epilogue: &mut E);
    /// [`crate::compute::attention::attend`] with the tiles of this path.
    unsafe fn attend(self, head: &Head<'_>);
}

/// Something to compute with the lanes of some path.
pub(crate) trait Work {
    fn run<L: Lanes>(self, lanes: L);
}
