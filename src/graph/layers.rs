//! The building blocks of the graph, in every form and precision. In: the name of an activation `[rows, width]` and weights.
//! Out: the name of the result. It may not know which block follows which.

use crate::graph::builder::Builder;
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::encoder::config::BertConfig;
use crate::model::precision::{GraphVariant, Precision};
use crate::model::weights::safetensors_file::quantize_rows;
use crate::model::weights::tensors::{Tensor, Weights};

/// The middle of unsigned 8-bit integers: activations are symmetric around it.
const MIDDLE: u8 = 128;
/// Below this an activation row is zero for all that its scale is concerned.
const SMALLEST: f32 = 1e-6;

/// No gelu is below it; the least is -0.169971.
pub(crate) const GELU_LEAST: f32 = -0.17;

/// What a graph is written from and how.
pub(crate) struct Writer<'a> {
    /// The graph so far.
    pub(crate) graph: Builder,
    /// The model.
    pub(crate) weights: &'a Weights,
    /// Its shape.
    pub(crate) config: &'a BertConfig,
    /// Which operators.
    pub(crate) form: GraphVariant,
    /// Which number format.
    pub(crate) precision: Precision,
}

impl Writer<'_> {
    /// The product x Wᵀ of `[rows, inputs]` with one or several matrices `[outputs, inputs]` side by side, without a bias.
    /// `least` is what no value of x is below, where that is known.
    ///
    /// In int8 every row of x gets its own symmetric scale (largest magnitude / 127), every column of Wᵀ has one, and the
    /// integer sums are scaled back: no row depends on another, so no query depends on its batch mates.
    pub(crate) fn product(&mut self, input: &str, names: &[String], least: Option<f32>) -> String {
        let matrix = stacked(self.weights, names, "weight");
        let (outputs, inputs) = (matrix.shape[0], matrix.shape[1]);
        let name = &names[0];
        if self.precision != Precision::Int8 {
            let transposed = transpose(&matrix.values, outputs, inputs);
            let weight = self.graph.weights(&format!("{name}.weight"), &[inputs, outputs], &transposed);
            return self.graph.op("MatMul", &[input, &weight]);
        }
        let quantized = quantize_rows(&matrix);
        let integers = transpose(&quantized.integers, outputs, inputs).into_iter().map(i8::cast_unsigned).collect();
        let graph = &mut self.graph;
        let weight = graph.constant(&format!("{name}.weight"), ElementType::Int8, &[inputs, outputs], integers);
        let column_scales = graph.weights(&format!("{name}.weight.scale"), &[outputs], &quantized.scales);
        let middle = graph.constant("middle", ElementType::Uint8, &[], vec![MIDDLE]);
        let row_scales = self.row_scales(input, least);
        match self.form {
            GraphVariant::Fused => {
                // One block a row: several threads share the rows, where with one scale along an axis one thread has them all.
                let graph = &mut self.graph;
                let middles = repeated_middle(graph, &row_scales);
                let block =
                    vec![AttributeProto::integer("axis", 1), AttributeProto::integer("block_size", inputs as i64)];
                let activation = graph.op_with("QuantizeLinear", &[input, &row_scales, &middles], block);
                let one = graph.number(1.0);
                let factors = [&activation, &weight, &one, &column_scales, &middle].map(String::as_str);
                let scaled = graph.runtime("MatMulIntegerToFloat", &factors, vec![]);
                graph.op("Mul", &[&scaled, &row_scales])
            }
            GraphVariant::Portable => {
                let graph = &mut self.graph;
                let along_axis = graph.integers(&[-1]);
                let flat = graph.op("Reshape", &[&row_scales, &along_axis]);
                let middles = repeated_middle(graph, &flat);
                let first_axis = vec![AttributeProto::integer("axis", 0)];
                let activation = graph.op_with("QuantizeLinear", &[input, &flat, &middles], first_axis);
                let sums = graph.op("MatMulInteger", &[&activation, &weight, &middle]);
                let sums = graph.cast(&sums, ElementType::Float32);
                let scaled = graph.op("Mul", &[&sums, &column_scales]);
                graph.op("Mul", &[&scaled, &row_scales])
            }
        }
    }

    /// What one step of the 8-bit integers is worth in every row of x: `[rows, 1]`.
    fn row_scales(&mut self, input: &str, least: Option<f32>) -> String {
        let largest = self.along_rows("ReduceMax", input);
        let magnitude = if let Some(least) = least {
            let floor = self.graph.number(least.abs().max(SMALLEST));
            self.graph.op("Max", &[&largest, &floor])
        } else {
            let smallest = self.along_rows("ReduceMin", input);
            let negated = self.graph.op("Neg", &[&smallest]);
            let floor = self.graph.number(SMALLEST);
            self.graph.op("Max", &[&largest, &negated, &floor])
        };
        let step = self.graph.number(1.0 / 127.0);
        self.graph.op("Mul", &[&magnitude, &step])
    }

    /// A reduction of every row to one value, `[rows, 1]`. Since operator set 18 the axis is an input.
    fn along_rows(&mut self, operator: &str, input: &str) -> String {
        let keep = AttributeProto::integer("keepdims", 1);
        match self.form {
            GraphVariant::Fused => {
                let axis = self.graph.integers(&[-1]);
                self.graph.op_with(operator, &[input, &axis], vec![keep])
            }
            GraphVariant::Portable => {
                let axes = AttributeProto::integers("axes", &[-1]);
                self.graph.op_with(operator, &[input], vec![axes, keep])
            }
        }
    }

    /// The biases of one or several linear layers side by side.
    pub(crate) fn bias(&mut self, names: &[String]) -> String {
        let bias = stacked(self.weights, names, "bias");
        self.graph.weights(&format!("{}.bias", names[0]), &bias.shape, &bias.values)
    }

    /// Layer normalization over the width.
    pub(crate) fn layer_norm(&mut self, input: &str, name: &str) -> String {
        let (scale, shift) = self.norm_parameters(name);
        let attributes =
            vec![AttributeProto::integer("axis", -1), AttributeProto::float("epsilon", self.config.layer_norm_eps)];
        self.graph.op_with("LayerNormalization", &[input, &scale, &shift], attributes)
    }

    /// Layer normalization of `product + bias + residual`. On the CPU, where int8 runs, ONNX Runtime's fused operator is slower
    /// than its parts.
    pub(crate) fn add_and_norm(&mut self, product: &str, linear: &str, residual: &str, norm: &str) -> String {
        let bias = self.bias(&[linear.to_owned()]);
        if self.form == GraphVariant::Fused && self.precision != Precision::Int8 {
            let (scale, shift) = self.norm_parameters(norm);
            let epsilon = vec![AttributeProto::float("epsilon", self.config.layer_norm_eps)];
            return self.graph.runtime("SkipLayerNormalization", &[product, residual, &scale, &shift, &bias], epsilon);
        }
        let biased = self.graph.op("Add", &[product, &bias]);
        let sum = self.graph.op("Add", &[&biased, residual]);
        self.layer_norm(&sum, norm)
    }

    /// `gelu(product + bias)`, exact: x Φ(x).
    pub(crate) fn bias_gelu(&mut self, product: &str, linear: &str) -> String {
        let bias = self.bias(&[linear.to_owned()]);
        if self.form == GraphVariant::Fused {
            return self.graph.runtime("BiasGelu", &[product, &bias], vec![]);
        }
        let biased = self.graph.op("Add", &[product, &bias]);
        gelu(&mut self.graph, self.form, &biased)
    }

    fn norm_parameters(&mut self, name: &str) -> (String, String) {
        let [scale, shift] = ["weight", "bias"].map(|part| {
            let name = format!("{name}.{part}");
            let tensor = self.weights.tensor(&name);
            self.graph.weights(&name, &tensor.shape, &tensor.values)
        });
        (scale, shift)
    }
}

/// The middle of the integers, as often as `scales` has values.
fn repeated_middle(graph: &mut Builder, scales: &str) -> String {
    let shape = graph.op("Shape", &[scales]);
    let middle = graph.constant("one middle", ElementType::Uint8, &[1], vec![MIDDLE]);
    graph.op("Expand", &[&middle, &shape])
}

/// The exact gelu. Portable, in the order of operations that runtimes recognize and fuse.
pub(crate) fn gelu(graph: &mut Builder, form: GraphVariant, value: &str) -> String {
    if form == GraphVariant::Fused {
        return graph.runtime("Gelu", &[value], vec![]);
    }
    let root = graph.number(std::f32::consts::SQRT_2);
    let (one, half) = (graph.number(1.0), graph.number(0.5));
    let scaled = graph.op("Div", &[value, &root]);
    let error = graph.op("Erf", &[&scaled]);
    let share = graph.op("Add", &[&error, &one]);
    let product = graph.op("Mul", &[value, &share]);
    graph.op("Mul", &[&product, &half])
}

/// Rows of several linear layers one below the other: `[sum of outputs, inputs]`, or their biases one after the other.
pub(crate) fn stacked(weights: &Weights, names: &[String], part: &str) -> Tensor {
    let tensors: Vec<&Tensor> = names.iter().map(|name| weights.tensor(&format!("{name}.{part}"))).collect();
    let mut shape = tensors[0].shape.clone();
    shape[0] = tensors.iter().map(|tensor| tensor.shape[0]).sum();
    Tensor { shape, values: tensors.iter().flat_map(|tensor| &tensor.values).copied().collect() }
}

/// A matrix's transpose; ONNX multiplies from the right, PyTorch stores `[outputs, inputs]`.
pub(crate) fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut transposed = Vec::with_capacity(values.len());
    for column in 0..columns {
        transposed.extend((0..rows).map(|row| values[row * columns + column]));
    }
    transposed
}
