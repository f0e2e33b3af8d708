//! What is done to whole rows: quantization and layer normalization. In: rows of floats, padded to whole vectors. Out: rows of bytes with
//! their scale, or normalized rows. It must not know where rows come from.

use crate::compute::product::INPUTS;
use crate::lanes::{LANES, Lanes};
use crate::memory::Buffer;
use crate::weights::Norm;

/// The smallest magnitude that sets a row's scale; smaller rows become zero.
const SMALLEST: f32 = 1e-6;

/// Added to a float of magnitude up to 127, it leaves the nearest integer plus 128 in the lowest byte.
pub(crate) const ROUND: f32 = 12_582_912.0 + 128.0;

/// Which value of a row its byte at `place` is. Of 64 values, each vector's bytes lie four apart, so that four vectors become one without
/// shuffles; the weights are packed in the same order.
pub(crate) fn value_at(place: usize) -> usize {
    place / INPUTS * INPUTS + place % 4 * LANES + place % INPUTS / 4
}

/// Quantizes a row of `width` values (a multiple of [`INPUTS`]) symmetrically to bytes around 128. Returns the scale, largest magnitude /
/// 127. It is not a number if no value is one.
///
/// # Safety
///
/// `from` and `to` hold `width` values.
#[inline(always)]
pub(crate) unsafe fn quantize<L: Lanes>(lanes: L, from: *const f32, width: usize, to: *mut u8) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let mut largest = [lanes.splat(SMALLEST); 4];
        let mut column = 0;
        while column < width {
            for index in 0..4 {
                let values = lanes.load(from.add(column + index * LANES));
                largest[index] = lanes.max(largest[index], lanes.abs(values));
            }
            column += INPUTS;
        }
        let largest = lanes.max(lanes.max(largest[0], largest[1]), lanes.max(largest[2], largest[3]));
        let largest = lanes.largest(largest);
        let factor = lanes.splat(127.0 / largest);
        let mut column = 0;
        while column < width {
            let mut vectors = [lanes.load(from.add(column)); 4];
            for index in 1..4 {
                vectors[index] = lanes.load(from.add(column + index * LANES));
            }
            lanes.store_bytes(to.add(column), vectors, factor);
            column += INPUTS;
        }
        largest * (1.0 / 127.0)
    }
}

/// A layer normalization, padded to whole vectors with zeros.
pub(crate) struct PackedNorm {
    scales: Buffer<f32>,
    shifts: Buffer<f32>,
    epsilon: f32,
}

impl PackedNorm {
    pub(crate) fn new(norm: Norm<'_>, width: usize) -> Self {
        let padded = |values: &[f32]| {
            let mut buffer = Buffer::new(width);
            buffer.as_mut_slice()[..values.len()].copy_from_slice(values);
            buffer
        };
        Self { scales: padded(norm.scales), shifts: padded(norm.shifts), epsilon: norm.epsilon }
    }

    /// Normalizes a row of `hidden` values, followed by zeros up to `width`, a multiple of [`LANES`].
    ///
    /// # Safety
    ///
    /// `from` and `to` hold `width` values, and so does this normalization.
    #[inline(always)]
    pub(crate) unsafe fn normalize<L: Lanes>(
        &self,
        lanes: L,
        from: *const f32,
        hidden: usize,
        width: usize,
        to: *mut f32,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut sums = [lanes.splat(0.0); 4];
            let mut column = 0;
            while column < width {
                for index in 0..4 {
                    sums[index] = lanes.add(sums[index], lanes.load(from.add(column + index * LANES)));
                }
                column += INPUTS;
            }
            let sum = lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])));
            let mean = lanes.splat(sum / hidden as f32);
            let mut squares = [lanes.splat(0.0); 4];
            let mut column = 0;
            while column + INPUTS <= hidden {
                for index in 0..4 {
                    let distance = lanes.sub(lanes.load(from.add(column + index * LANES)), mean);
                    squares[index] = lanes.fma(distance, distance, squares[index]);
                }
                column += INPUTS;
            }
            while column < hidden {
                let distance = lanes.sub(lanes.load(from.add(column)), mean);
                let distance = lanes.keep_first(distance, (hidden - column).min(LANES));
                squares[0] = lanes.fma(distance, distance, squares[0]);
                column += LANES;
            }
            let squares = lanes.add(lanes.add(squares[0], squares[1]), lanes.add(squares[2], squares[3]));
            let variance = lanes.sum(squares) / hidden as f32;
            let factor = lanes.splat(1.0 / (variance + self.epsilon).sqrt());
            let mut column = 0;
            while column < width {
                let distance = lanes.sub(lanes.load(from.add(column)), mean);
                let scale = lanes.mul(factor, lanes.load(self.scales.as_ptr().add(column)));
                let shift = lanes.load(self.shifts.as_ptr().add(column));
                lanes.store(to.add(column), lanes.fma(distance, scale, shift));
                column += LANES;
            }
        }
    }
}
