//! Weights in safetensors files. In: bytes of a safetensors file, or checked weights. Out: named float32 tensors, or bytes
//! with the weights in fp32, in fp16, or as 8-bit integers with a scale per row. It must not open files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View, serialize};
use serde::{Deserialize, Serialize};

use crate::model::weights::tensors::{Floats, Tensor, Weights};

/// The storage format of a model's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightForm {
    /// 32-bit floats, 4 bytes per weight.
    Fp32,
    /// IEEE half floats (fp16), 2 bytes per weight.
    Fp16,
    /// Matrices as `name` int8 `[rows, columns]` and `name.scale` `[rows]`: weight = integer × scale of its row. Scales and
    /// vectors (biases, normalizations) are fp16; float32 scales can be read too.
    Int8,
}

impl fmt::Display for WeightForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        })
    }
}

/// A matrix as symmetric 8-bit integers in -127..=127, with a scale per row.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedRows {
    /// The integers in row-major order.
    pub integers: Vec<i8>,
    /// One positive scale per row.
    pub scales: Vec<f32>,
}

/// Quantizes every row of a matrix to 255 steps between minus and plus its largest magnitude. Quantizing the result again does
/// not change it.
pub fn quantize_rows(tensor: &Tensor) -> QuantizedRows {
    quantize_rows_by(tensor, |scale| scale)
}

/// [`quantize_rows`] with scales that fp16 represents exactly. Scales are rounded up, so that no integer exceeds 127.
fn quantize_rows_half(tensor: &Tensor) -> QuantizedRows {
    quantize_rows_by(tensor, |scale| {
        let half = f16::from_f32(scale);
        if half.to_f32() < scale { f16::from_bits(half.to_bits() + 1).to_f32() } else { half.to_f32() }
    })
}

fn quantize_rows_by(tensor: &Tensor, round: impl Fn(f32) -> f32) -> QuantizedRows {
    let mut quantized = QuantizedRows { integers: Vec::with_capacity(tensor.values.len()), scales: Vec::new() };
    for row in tensor.rows() {
        let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > f32::MIN_POSITIVE * 128.0 { round(largest / 127.0) } else { 1.0 };
        quantized.integers.extend(row.iter().map(|value| (value / scale).round_ties_even() as i8));
        quantized.scales.push(scale);
    }
    quantized
}

/// Reads every float tensor of a safetensors file and dequantizes int8 rows. The error describes what is wrong with the file.
pub fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| format!("it is not a valid safetensors file ({error})"))?;
    let mut views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let quantized: Vec<String> =
        views.iter().filter(|(_, view)| view.dtype() == Dtype::I8).map(|(name, _)| name.clone()).collect();
    let mut tensors = BTreeMap::new();
    for name in quantized {
        let scale = views.remove(&format!("{name}.scale")).and_then(|view| floats(&view));
        let (Some(view), Some(scale)) = (views.remove(&name), scale) else {
            return Err(format!("`{name}` is int8 but `{name}.scale` is missing"));
        };
        let [rows, columns] = *view.shape() else {
            return Err(format!("`{name}` is int8 of shape {:?}, expected a matrix", view.shape()));
        };
        if scale.len() != rows {
            return Err(format!("`{name}.scale` has {} values, expected {rows}", scale.len()));
        }
        let row = |(row, scale): (&[u8], &f32)| -> Vec<f32> {
            row.iter().map(|byte| f32::from(byte.cast_signed()) * scale).collect()
        };
        let values = view.data().chunks(columns.max(1)).zip(&scale).flat_map(row).collect();
        tensors.insert(name, Tensor { shape: vec![rows, columns], values });
    }
    for (name, view) in views {
        if let Some(values) = floats(&view) {
            tensors.insert(name, Tensor { shape: view.shape().to_vec(), values });
        }
    }
    Ok(tensors)
}

/// The bytes of a safetensors file with these weights; the same weights give the same bytes.
pub fn write_tensors(weights: &Weights, form: WeightForm) -> Result<Vec<u8>, String> {
    let mut stored = Vec::new();
    for (name, tensor) in weights.iter() {
        let halves =
            |values: &[f32]| half_bytes(values).map_err(|value| format!("`{name}` holds {value}, too large for fp16"));
        let (dtype, bytes) = match form {
            WeightForm::Fp32 => (Dtype::F32, tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            WeightForm::Int8 if tensor.shape.len() == 2 => {
                let quantized = quantize_rows_half(tensor);
                let scales = Stored::new(Dtype::F16, &[quantized.scales.len()], halves(&quantized.scales)?);
                stored.push((format!("{name}.scale"), scales));
                (Dtype::I8, quantized.integers.into_iter().map(i8::cast_unsigned).collect())
            }
            WeightForm::Fp16 | WeightForm::Int8 => (Dtype::F16, halves(&tensor.values)?),
        };
        stored.push((name.to_owned(), Stored::new(dtype, &tensor.shape, bytes)));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(stored, Some(metadata)).map_err(|error| error.to_string())
}

/// The weights after a round trip through a file of this format. The error names a value that the format cannot represent.
pub fn as_stored(weights: &Weights, form: WeightForm) -> Result<Weights, String> {
    let tensors = read_tensors(&write_tensors(weights, form)?)?;
    let (architecture, head) = (weights.encoder.architecture.clone(), weights.head.description.clone());
    Weights::new(architecture, head, tensors).map_err(|misfit| misfit.reason)
}

/// Values as fp16 bytes; the error is the first value that is too large.
fn half_bytes(values: &[f32]) -> Result<Vec<u8>, f32> {
    let too_large = values.iter().find(|value| !f16::from_f32(**value).is_finite());
    too_large.map_or_else(
        || Ok(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()),
        |value| Err(*value),
    )
}

/// A view's values; `None` if they are not floats.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let kind = match view.dtype() {
        Dtype::F32 => Floats::Float32,
        Dtype::F64 => Floats::Float64,
        Dtype::F16 => Floats::Float16,
        Dtype::BF16 => Floats::Bfloat16,
        _ => return None,
    };
    Some(kind.decode(view.data()))
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn new(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { dtype, shape: shape.to_vec(), bytes }
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl std::str::FromStr for WeightForm {
    type Err = crate::model::precision::UnknownName;

    fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
        match word {
            "fp32" => Ok(Self::Fp32),
            "fp16" => Ok(Self::Fp16),
            "int8" => Ok(Self::Int8),
            other => Err(crate::model::precision::UnknownName { word: other.to_owned(), choices: "fp32, fp16, int8" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::weights::tensors::tests::made_up;

    fn weights() -> Weights {
        Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit")
    }

    fn round_trip(weights: &Weights, form: WeightForm) -> Weights {
        as_stored(weights, form).expect("it can be stored")
    }

    #[test]
    fn full_weights_round_trip_exactly() {
        assert_eq!(round_trip(&weights(), WeightForm::Fp32), weights());
    }

    #[test]
    fn reduced_weights_are_close_and_stable() {
        for form in [WeightForm::Fp16, WeightForm::Int8] {
            let once = round_trip(&weights(), form);
            for ((name, before), (_, after)) in weights().iter().zip(once.iter()) {
                for (before, after) in before.values.iter().zip(&after.values) {
                    assert!((before - after).abs() <= 0.2 / 127.0 * 0.52, "{name}: {before} became {after}");
                }
            }
            for ((name, before), (_, after)) in once.iter().zip(round_trip(&once, form).iter()) {
                for (before, after) in before.values.iter().zip(&after.values) {
                    assert!((before - after).abs() <= 1e-7, "{name}: {before} became {after}");
                }
            }
        }
    }

    #[test]
    fn a_row_of_zeros_keeps_a_usable_scale() {
        let quantized = quantize_rows(&Tensor { shape: vec![2, 2], values: vec![0.0, 0.0, 1.27, -0.01] });
        assert_eq!(quantized, QuantizedRows { integers: vec![0, 0, 127, -1], scales: vec![1.0, 0.01] });
    }

    #[test]
    fn stored_scales_are_half_floats_and_no_integer_overflows() {
        let values: Vec<f32> =
            (1..2000_u16).flat_map(|number| [f32::from(number) * 0.000_37, -f32::from(number) * 0.000_1]).collect();
        let quantized = quantize_rows_half(&Tensor { shape: vec![values.len() / 2, 2], values });
        assert!(
            quantized.scales.iter().all(|scale| (f16::from_f32(*scale).to_f32() - *scale).abs() < f32::MIN_POSITIVE)
        );
        assert!(quantized.integers.as_chunks::<2>().0.iter().all(|[largest, other]| *largest == 127 && *other < 0));
        let mut large = made_up(&tiny(), false);
        large.get_mut("start_outputs.bias").expect("there").values[0] = 1e6;
        let large = Weights::check(large, &mut tiny()).expect("they fit");
        let error = as_stored(&large, WeightForm::Int8).expect_err("too large");
        assert_eq!(error, "`start_outputs.bias` holds 1000000, too large for fp16");
    }

    #[test]
    fn int8_without_scales_is_refused_by_name() {
        let stored = vec![("x".to_owned(), Stored::new(Dtype::I8, &[1, 2], vec![1, 2]))];
        let bytes = serialize(stored, None).expect("it serializes");
        assert_eq!(read_tensors(&bytes).expect_err("no scale"), "`x` is int8 but `x.scale` is missing");
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_not_sound() {
        let bytes = write_tensors(&weights(), WeightForm::Int8).expect("it serializes");
        for length in 0..bytes.len() {
            let error = read_tensors(&bytes[..length]).expect_err("cut off");
            assert!(error.starts_with("it is not a valid safetensors file ("), "{length}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_changes_one_tensor(at in 0_usize..8000, byte: u8) {
            let mut bytes = write_tensors(&weights(), WeightForm::Int8).expect("it serializes");
            let sound = read_tensors(&bytes).expect("a sound file");
            let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
            let at = at % bytes.len();
            bytes[at] = byte;
            let shapes = |tensors: &BTreeMap<String, Tensor>| -> Vec<_> {
                tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone(), tensor.values.len())).collect()
            };
            match read_tensors(&bytes) {
                Ok(tensors) if at >= header => {
                    prop_assert_eq!(shapes(&tensors), shapes(&sound));
                    let changed = tensors.iter().filter(|(name, tensor)| sound[*name].values != tensor.values).count();
                    prop_assert!(changed <= 1, "{} tensors are others", changed);
                }
                // A header can be damaged into that of another file.
                Ok(tensors) => {
                    let whole = |tensor: &Tensor| tensor.shape.iter().product::<usize>() == tensor.values.len();
                    prop_assert!(tensors.values().all(whole), "{:?}", shapes(&tensors));
                }
                Err(error) => {
                    prop_assert!(at < header, "{}: {}", at, error);
                    let named = |words: &[&str]| words.iter().any(|words| error.contains(words));
                    let int8 = named(&["` is int8 but `", "` is int8 of shape ", ".scale` has "]);
                    prop_assert!(int8 || error.starts_with("it is not a valid safetensors file ("), "{}: {}", at, error);
                }
            }
        }
    }
}
