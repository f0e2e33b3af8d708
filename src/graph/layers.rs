//! The layers of the graph, in every variant and precision. In: the name of an activation `[rows, width]` and weights.
//! Out: the name of the result. It must not know the order of the layers.

use crate::graph::builder::Builder;
use crate::graph::integer_weights::quantize_for_products;
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::{Linear, Norm};
use crate::model::encoder::architecture::{Activation, Architecture};
use crate::model::precision::{GraphVariant, Precision};
use crate::model::weights::tensors::{Tensor, Tensors, Weights};

/// The zero point of quantized activations: they are unsigned 8-bit integers, symmetric around it.
const ZERO_POINT: u8 = 128;
/// The smallest magnitude that sets the scale of an activation row; smaller rows are treated as zero.
const SMALLEST: f32 = 1e-6;

/// The state of writing a graph: its builder, its model and its format.
pub(crate) struct Writer<'a> {
    /// The graph so far.
    pub(crate) graph: Builder,
    /// The model's weights, with the descriptions of its encoder and head.
    pub(crate) weights: &'a Weights,
    /// The operators to use.
    pub(crate) variant: GraphVariant,
    /// The number format.
    pub(crate) precision: Precision,
    /// Whether the layers of the encoder are one operator.
    pub(crate) one_operator: bool,
}

impl<'a> Writer<'a> {
    /// The encoder's description.
    pub(crate) fn architecture(&self) -> &'a Architecture {
        &self.weights.encoder.architecture
    }

    /// A tensor with its axes in another order.
    pub(crate) fn permuted(&mut self, value: &str, permutation: &[i64]) -> String {
        self.graph.op_with("Transpose", &[value], vec![AttributeProto::integers("perm", permutation)])
    }

    /// The product x Wᵀ of `[rows, inputs]` with the matrices `[outputs, inputs]` of one or several layers of the encoder side by side,
    /// without a bias. `minimum` is a lower bound of x, if one is known.
    ///
    /// In int8, every row of x gets its own symmetric scale (largest magnitude / 127), every column of Wᵀ has one, and the
    /// integer sums, exact on every processor, are scaled back. No row depends on another, so no input depends on the others of its batch.
    pub(crate) fn product(&mut self, input: &str, layers: &[&Linear], minimum: Option<f32>) -> String {
        let matrix = stacked(&self.weights.encoder.tensors, layers, Linear::weight);
        let (outputs, inputs) = (matrix.shape[0], matrix.shape[1]);
        let name = layers[0].weight();
        if self.precision != Precision::Int8 {
            let transposed = transpose(&matrix.values, outputs, inputs);
            let weight = self.graph.weights(&name, &[inputs, outputs], &transposed);
            return self.graph.op("MatMul", &[input, &weight]);
        }
        let quantized = quantize_for_products(&matrix);
        let integers = transpose(&quantized.integers, outputs, inputs).into_iter().map(i8::cast_unsigned).collect();
        let graph = &mut self.graph;
        let weight = graph.constant(&name, ElementType::Int8, &[inputs, outputs], integers);
        let column_scales = graph.weights(&format!("{name}.scale"), &[outputs], &quantized.scales);
        let zero_point = graph.constant("middle", ElementType::Uint8, &[], vec![ZERO_POINT]);
        let row_scales = self.row_scales(input, minimum);
        match self.variant {
            GraphVariant::Fused | GraphVariant::Kernels => {
                // One block per row, so that ONNX Runtime quantizes rows on several threads. Per-axis quantization would use one thread.
                let graph = &mut self.graph;
                let zero_points = repeated_zero_point(graph, &row_scales);
                let block =
                    vec![AttributeProto::integer("axis", 1), AttributeProto::integer("block_size", inputs as i64)];
                let activation = graph.op_with("QuantizeLinear", &[input, &row_scales, &zero_points], block);
                let one = graph.number(1.0);
                let factors = [&activation, &weight, &one, &column_scales, &zero_point].map(String::as_str);
                let scaled = graph.runtime("MatMulIntegerToFloat", &factors, vec![]);
                graph.op("Mul", &[&scaled, &row_scales])
            }
            GraphVariant::Portable => {
                let graph = &mut self.graph;
                let along_axis = graph.integers(&[-1]);
                let flat = graph.op("Reshape", &[&row_scales, &along_axis]);
                let zero_points = repeated_zero_point(graph, &flat);
                let first_axis = vec![AttributeProto::integer("axis", 0)];
                let activation = graph.op_with("QuantizeLinear", &[input, &flat, &zero_points], first_axis);
                let sums = graph.op("MatMulInteger", &[&activation, &weight, &zero_point]);
                let sums = graph.cast(&sums, ElementType::Float32);
                let scaled = graph.op("Mul", &[&sums, &column_scales]);
                graph.op("Mul", &[&scaled, &row_scales])
            }
        }
    }

    /// The quantization scale of every row of x: `[rows, 1]`.
    fn row_scales(&mut self, input: &str, minimum: Option<f32>) -> String {
        let largest = self.along_rows("ReduceMax", input);
        let magnitude = if let Some(minimum) = minimum {
            let floor = self.graph.number(minimum.abs().max(SMALLEST));
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

    /// Reduces every row to one value, `[rows, 1]`. Since operator set 18 the axis is an input.
    fn along_rows(&mut self, operator: &str, input: &str) -> String {
        let keep = AttributeProto::integer("keepdims", 1);
        match self.variant {
            GraphVariant::Fused | GraphVariant::Kernels => {
                let axis = self.graph.integers(&[-1]);
                self.graph.op_with(operator, &[input, &axis], vec![keep])
            }
            GraphVariant::Portable => {
                let axes = AttributeProto::integers("axes", &[-1]);
                self.graph.op_with(operator, &[input], vec![axes, keep])
            }
        }
    }

    /// A product with the biases of its layers, which have all or none.
    pub(crate) fn biased(&mut self, product: &str, layers: &[&Linear]) -> String {
        if !layers[0].has_bias {
            return product.to_owned();
        }
        let bias = self.bias(layers);
        self.graph.op("Add", &[product, &bias])
    }

    /// The biases of one or several layers of the encoder side by side.
    pub(crate) fn bias(&mut self, layers: &[&Linear]) -> String {
        let bias = stacked(&self.weights.encoder.tensors, layers, Linear::bias);
        self.graph.weights(&layers[0].bias(), &bias.shape, &bias.values)
    }

    /// Layer normalization over the width.
    pub(crate) fn layer_norm(&mut self, input: &str, norm: &Norm) -> String {
        let parameters = self.norm_parameters(norm);
        let inputs: Vec<&str> = [input].into_iter().chain(parameters.iter().map(String::as_str)).collect();
        let attributes = vec![AttributeProto::integer("axis", -1), AttributeProto::float("epsilon", norm.epsilon)];
        self.graph.op_with("LayerNormalization", &inputs, attributes)
    }

    /// `product + bias + residual`, with the bias of `layer`.
    pub(crate) fn add(&mut self, product: &str, layer: &Linear, residual: &str) -> String {
        let biased = self.biased(product, &[layer]);
        self.graph.op("Add", &[&biased, residual])
    }

    /// Layer normalization of `product + bias + residual`. On the CPU, where int8 runs, ONNX Runtime's fused operator is slower
    /// than separate operators.
    pub(crate) fn add_and_norm(&mut self, product: &str, layer: &Linear, residual: &str, norm: &Norm) -> String {
        let complete = layer.has_bias && norm.has_bias;
        if self.variant == GraphVariant::Fused && self.precision != Precision::Int8 && complete {
            let bias = self.bias(&[layer]);
            let [scale, shift] = [norm.weight(), norm.bias()].map(|name| self.tensor(&name));
            let epsilon = vec![AttributeProto::float("epsilon", norm.epsilon)];
            return self.graph.runtime("SkipLayerNormalization", &[product, residual, &scale, &shift, &bias], epsilon);
        }
        let sum = self.add(product, layer, residual);
        self.layer_norm(&sum, norm)
    }

    /// `activation(product + bias)`, with the bias of `layer`, if it has one.
    pub(crate) fn bias_activation(&mut self, product: &str, layer: &Linear, activation: Activation) -> String {
        if self.variant == GraphVariant::Fused && layer.has_bias && activation == Activation::Gelu {
            let bias = self.bias(&[layer]);
            return self.graph.runtime("BiasGelu", &[product, &bias], vec![]);
        }
        let biased = self.biased(product, &[layer]);
        match activation {
            Activation::Gelu => gelu(&mut self.graph, self.variant, &biased),
            Activation::GeluTanh => gelu_tanh(&mut self.graph, self.variant, &biased),
            Activation::Relu => self.graph.op("Relu", &[&biased]),
        }
    }

    /// A tensor of the encoder as a constant of the same name.
    pub(crate) fn tensor(&mut self, name: &str) -> String {
        let tensor = self.weights.encoder.tensors.get(name);
        self.graph.weights(name, &tensor.shape, &tensor.values)
    }

    /// Scale and, if there is one, shift.
    fn norm_parameters(&mut self, norm: &Norm) -> Vec<String> {
        let names = [norm.weight()].into_iter().chain(norm.has_bias.then(|| norm.bias()));
        names.map(|name| self.tensor(&name)).collect()
    }
}

/// The zero point, repeated for each value of `scales`.
fn repeated_zero_point(graph: &mut Builder, scales: &str) -> String {
    let shape = graph.op("Shape", &[scales]);
    let zero_point = graph.constant("one middle", ElementType::Uint8, &[1], vec![ZERO_POINT]);
    graph.op("Expand", &[&zero_point, &shape])
}

/// The exact gelu. The portable variant uses the order of operations that runtimes recognize and fuse.
pub(crate) fn gelu(graph: &mut Builder, variant: GraphVariant, value: &str) -> String {
    if variant == GraphVariant::Fused {
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

/// The approximation of gelu by the hyperbolic tangent: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
fn gelu_tanh(graph: &mut Builder, variant: GraphVariant, value: &str) -> String {
    if variant == GraphVariant::Fused {
        return graph.runtime("FastGelu", &[value], vec![]);
    }
    let (cubic, root) = (graph.number(0.044_715), graph.number((2.0 / std::f32::consts::PI).sqrt()));
    let (one, half) = (graph.number(1.0), graph.number(0.5));
    let square = graph.op("Mul", &[value, value]);
    let square = graph.op("Mul", &[&square, &cubic]);
    let factor = graph.op("Add", &[&square, &one]);
    let inner = graph.op("Mul", &[value, &factor]);
    let inner = graph.op("Mul", &[&inner, &root]);
    let share = graph.op("Tanh", &[&inner]);
    let share = graph.op("Add", &[&share, &one]);
    let product = graph.op("Mul", &[value, &share]);
    graph.op("Mul", &[&product, &half])
}

/// The weights of several linear layers, stacked by rows: `[sum of outputs, inputs]`; or their biases, concatenated.
pub(crate) fn stacked(tensors: &Tensors, layers: &[&Linear], part: impl Fn(&Linear) -> String) -> Tensor {
    let tensors: Vec<&Tensor> = layers.iter().map(|layer| tensors.get(&part(layer))).collect();
    let mut shape = tensors[0].shape.clone();
    shape[0] = tensors.iter().map(|tensor| tensor.shape[0]).sum();
    Tensor { shape, values: tensors.iter().flat_map(|tensor| &tensor.values).copied().collect() }
}

/// Transposes a matrix: PyTorch stores `[outputs, inputs]`, and ONNX multiplies from the right.
pub(crate) fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut transposed = Vec::with_capacity(values.len());
    for column in 0..columns {
        transposed.extend((0..rows).map(|row| values[row * columns + column]));
    }
    transposed
}
