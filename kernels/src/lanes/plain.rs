//! Plain Rust: the reference for every other path, and the path of every other processor.

use super::{LANES, Lanes};
use crate::compute::attention::{Head, attend};
use crate::compute::product::{Epilogue, Factors, multiply};
use crate::compute::rows::ROUND;

/// Needs no instructions beyond those of the compiler's target.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Plain {
    fn each(a: [f32; LANES], b: [f32; LANES], operation: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        std::array::from_fn(|lane| operation(a[lane], b[lane]))
    }

    fn fold(mut a: [f32; LANES], operation: impl Fn(f32, f32) -> f32) -> f32 {
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                a[lane] = operation(a[lane], a[lane + half]);
            }
        }
        a[0]
    }
}

impl Lanes for Plain {
    type Float = [f32; LANES];
    type Int = [i32; LANES];
    type Weights = [i8; 4 * LANES];
    type Quad = [u8; 4];

    const PANEL: usize = 16;
    const QUERIES: usize = 16;

    fn splat(self, value: f32) -> Self::Float {
        [value; LANES]
    }
    unsafe fn load(self, from: *const f32) -> Self::Float {
        // SAFETY: the caller has sixteen floats there.
        unsafe { from.cast::<Self::Float>().read_unaligned() }
    }
    unsafe fn store(self, to: *mut f32, value: Self::Float) {
        // SAFETY: the caller has room for sixteen floats there.
        unsafe { to.cast::<Self::Float>().write_unaligned(value) }
    }
    fn add(self, a: Self::Float, b: Self::Float) -> Self::Float {
        Self::each(a, b, |a, b| a + b)
    }
    fn sub(self, a: Self::Float, b: Self::Float) -> Self::Float {
        Self::each(a, b, |a, b| a - b)
    }
    fn mul(self, a: Self::Float, b: Self::Float) -> Self::Float {
        Self::each(a, b, |a, b| a * b)
    }
    fn div(self, a: Self::Float, b: Self::Float) -> Self::Float {
        Self::each(a, b, |a, b| a / b)
    }
    fn fma(self, a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    fn min(self, a: Self::Float, b: Self::Float) -> Self::Float {
        Self::each(a, b, |a, b| if a < b { a } else { b })
    }
    fn max(self, a: Self::Float, b: Self::Float) -> Self::Float {
        Self::each(a, b, |a, b| if a > b { a } else { b })
    }
    fn abs(self, a: Self::Float) -> Self::Float {
        a.map(f32::abs)
    }
    fn keep_first(self, a: Self::Float, count: usize) -> Self::Float {
        std::array::from_fn(|lane| if lane < count { a[lane] } else { 0.0 })
    }
    fn sum(self, a: Self::Float) -> f32 {
        Self::fold(a, |a, b| a + b)
    }
    fn largest(self, a: Self::Float) -> f32 {
        Self::fold(a, |a, b| if a > b { a } else { b })
    }
    fn scale_by_power(self, a: Self::Float, magic: Self::Float) -> Self::Float {
        Self::each(a, magic, |a, magic| f32::from_bits(a.to_bits().wrapping_add(magic.to_bits() << 23)))
    }
    fn lookup(self, table: &[f32; LANES], magic: Self::Float) -> Self::Float {
        magic.map(|magic| table[(magic.to_bits() & 7) as usize])
    }
    fn transpose(self, square: &mut [Self::Float; LANES]) {
        for row in 0..LANES {
            for column in 0..row {
                (square[row][column], square[column][row]) = (square[column][row], square[row][column]);
            }
        }
    }
    unsafe fn store_bytes(self, to: *mut u8, a: [Self::Float; 4], factor: Self::Float) {
        let integers = a.map(|a| self.fma(a, factor, [ROUND; LANES]));
        let bytes: [[u8; 4]; LANES] = std::array::from_fn(|lane| integers.map(|vector| vector[lane].to_bits() as u8));
        // SAFETY: the caller has room for 64 bytes there.
        unsafe { to.cast::<[[u8; 4]; LANES]>().write_unaligned(bytes) }
    }
    unsafe fn load_ints(self, from: *const i32) -> Self::Int {
        // SAFETY: the caller has sixteen integers there.
        unsafe { from.cast::<Self::Int>().read_unaligned() }
    }
    fn to_floats(self, a: Self::Int) -> Self::Float {
        a.map(|a| a as f32)
    }
    unsafe fn load_weights(self, from: *const i8) -> Self::Weights {
        // SAFETY: the caller has 64 weights there.
        unsafe { from.cast::<Self::Weights>().read_unaligned() }
    }
    unsafe fn load_quad(self, from: *const u8) -> Self::Quad {
        // SAFETY: the caller has four activations there.
        unsafe { from.cast::<Self::Quad>().read_unaligned() }
    }
    fn prefetch(self, _: *const i8) {}
    fn dot(self, mut sums: Self::Int, quad: Self::Quad, weights: Self::Weights) -> Self::Int {
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (activation, weight) in quad.iter().zip(weights) {
                *sum += i32::from(*activation) * i32::from(*weight);
            }
        }
        sums
    }
    unsafe fn multiply<E: Epilogue>(self, factors: &Factors<'_>, epilogue: &mut E) {
        // SAFETY: passed on to the caller.
        unsafe { multiply::<Self, E, 4, 2, 1>(self, factors, epilogue) }
    }
    unsafe fn attend(self, head: &Head<'_>) {
        // SAFETY: passed on to the caller.
        unsafe { attend::<Self, 4, 4, 1>(self, head) }
    }
}
