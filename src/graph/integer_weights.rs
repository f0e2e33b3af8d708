//! Weights of integer products. In: a matrix `[outputs, inputs]` of floats. Out: signed 8-bit integers and a scale per output, so that
//! products with unsigned 8-bit activations are exact on every processor. It must not know how a graph multiplies them.
//!
//! x86 processors without VNNI multiply with `vpmaddubsw`: it adds the products of two neighbouring inputs in 16 bits, and saturates
//! (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW). ONNX Runtime starts its pairs at even inputs. With
//! activations up to 255 a pair is exact if its two weights add up to at most 128 in magnitude: 255 · 128 = 32,640 < 2¹⁵. Weights of
//! seven bits have this property too, and half the resolution. A scale that depends on the pairs costs the default model a quarter of
//! it, because pairs of two large weights of the same sign are rare.

use crate::model::weights::safetensors_file::QuantizedRows;
use crate::model::weights::tensors::Tensor;

/// The largest magnitude of a weight,
const LARGEST: f32 = 127.0;
/// and of the sum of the two weights of a pair.
const LARGEST_PAIR: f32 = 128.0;

/// Quantizes every row of a matrix symmetrically, with the smallest scale at which no pair of neighbouring inputs can overflow 16 bits.
pub(crate) fn quantize_for_products(matrix: &Tensor) -> QuantizedRows {
    let mut quantized = QuantizedRows { integers: Vec::with_capacity(matrix.values.len()), scales: Vec::new() };
    for row in matrix.rows() {
        let steps = row.chunks(2).map(|pair| {
            let largest = pair.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
            let sum: f32 = pair.iter().sum();
            (largest / LARGEST).max(sum.abs() / LARGEST_PAIR)
        });
        let scale = steps.fold(0.0, f32::max);
        let scale = if scale > f32::MIN_POSITIVE { scale } else { 1.0 };
        for pair in row.chunks(2) {
            let exact = [pair[0] / scale, pair.get(1).map_or(0.0, |weight| weight / scale)];
            let rounded = round_pair(exact);
            quantized.integers.extend(rounded.iter().take(pair.len()).map(|weight| *weight as i8));
        }
        quantized.scales.push(scale);
    }
    quantized
}

/// Rounds both weights of a pair. If that brings their sum above the limit, the one that was rounded away from zero the most is rounded
/// towards zero instead.
fn round_pair(exact: [f32; 2]) -> [f32; 2] {
    let mut rounded = exact.map(f32::round_ties_even);
    if (rounded[0] + rounded[1]).abs() > LARGEST_PAIR {
        let grown = |index: usize| rounded[index].abs() - exact[index].abs();
        let index = usize::from(grown(1) > grown(0));
        rounded[index] -= rounded[index].signum();
    }
    rounded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs_fit(integers: &[i8], inputs: usize) -> bool {
        let sum = |pair: &[i8]| pair.iter().map(|weight| i32::from(*weight) * 255).sum::<i32>();
        integers.chunks(inputs).flat_map(|row| row.chunks(2)).all(|pair| i16::try_from(sum(pair)).is_ok())
    }

    #[test]
    fn a_row_without_large_pairs_keeps_the_full_resolution() {
        let matrix = Tensor { shape: vec![2, 3], values: vec![1.27, -0.5, 0.1, 0.0, 0.0, 0.0] };
        let quantized = quantize_for_products(&matrix);
        assert_eq!(quantized.integers, [127, -50, 10, 0, 0, 0]);
        assert_eq!(quantized.scales, [0.01, 1.0]);
    }

    #[test]
    fn a_pair_of_large_weights_sets_the_scale_of_its_row() {
        let matrix = Tensor { shape: vec![2, 4], values: vec![1.28, 1.28, 0.02, -1.28, 0.1, 1.27, 1.27, 0.1] };
        let quantized = quantize_for_products(&matrix);
        assert_eq!(quantized.integers[..4], [64, 64, 1, -64]);
        assert_eq!(quantized.scales[..1], [0.02]);
        assert!(pairs_fit(&quantized.integers, 4));
    }

    proptest! {
        #[test]
        fn no_pair_overflows_and_no_weight_is_off_by_more_than_a_step(
            inputs in 1_usize..20,
            seed in proptest::collection::vec(-1.0_f32..1.0, 400),
            magnitude in 1e-30_f32..1e30,
        ) {
            let values: Vec<f32> = seed.iter().take(400 / inputs * inputs).map(|value| value * magnitude).collect();
            let matrix = Tensor { shape: vec![values.len() / inputs, inputs], values };
            let quantized = quantize_for_products(&matrix);
            prop_assert!(pairs_fit(&quantized.integers, inputs));
            for (row, (weights, scale)) in matrix.rows().zip(&quantized.scales).enumerate() {
                for (column, weight) in weights.iter().enumerate() {
                    let integer = quantized.integers[row * inputs + column];
                    prop_assert!((f32::from(integer) - weight / scale).abs() <= 1.001, "{weight} became {integer} x {scale}");
                }
            }
        }
    }
}
