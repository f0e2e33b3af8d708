//! The integer products of int8 graphs are exact on the processor that runs this test, whatever it is: also with activations that drive
//! every sum to its extreme, where 16-bit intermediate sums would saturate.

use std::collections::BTreeMap;

use ort::value::TensorRef;
use prost::Message;
use quarry::graph;
use quarry::graph::onnx::{
    Dimension, DimensionProto, ElementType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use quarry::model::head::Head;
use quarry::model::package::directory::ModelDirectory;
use quarry::model::precision::{GraphPart, GraphVariant, Precision};
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::weights::tensors::{Tensor, Weights};
use quarry::task::kind::Kind;

use crate::second_architecture;
use crate::support::{Random, project};

/// The zero point of the activations in an int8 graph.
const ZERO_POINT: u8 = 128;

/// A weight of a product: int8 `[inputs, outputs]`.
struct Matrix {
    inputs: usize,
    outputs: usize,
    weights: Vec<i8>,
}

/// The weights of all integer products of a model's int8 graph.
fn matrices(weights: &Weights, variant: GraphVariant) -> Vec<Matrix> {
    let kind = match weights.head.description {
        Head::Early(_) => Kind::Mrc,
        Head::Late(_) => Kind::Late,
        Head::Tagger(_) => Kind::Tagger,
        Head::Qa(_) => Kind::Qa,
    };
    let bytes = graph::write_part(weights, GraphPart::answering(kind, Precision::Int8), variant).unwrap();
    let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
    let constants: BTreeMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let products = graph.node.iter().filter(|node| node.op_type.starts_with("MatMulInteger"));
    let matrix = |node: &NodeProto| {
        let tensor = constants[node.input[1].as_str()];
        assert_eq!(tensor.data_type, Some(ElementType::Int8.number()));
        let [inputs, outputs] = *tensor.dims.as_slice() else { panic!("{} is no matrix", tensor.name) };
        let weights = tensor.raw_data.as_ref().unwrap().iter().map(|byte| byte.cast_signed()).collect();
        Matrix { inputs: inputs as usize, outputs: outputs as usize, weights }
    };
    products.map(matrix).collect()
}

impl Matrix {
    fn weight(&self, input: usize, output: usize) -> i8 {
        self.weights[input * self.outputs + output]
    }

    /// Rows of activations: for some outputs the largest and the smallest sum that is possible, and random extremes.
    fn extreme_activations(&self, random: &mut Random) -> Vec<u8> {
        let extreme = |high: bool| if high { u8::MAX } else { 0 };
        let mut rows = Vec::new();
        for output in (0..self.outputs).step_by(self.outputs.div_ceil(3)) {
            rows.extend((0..self.inputs).map(|input| extreme(self.weight(input, output) > 0)));
            rows.extend((0..self.inputs).map(|input| extreme(self.weight(input, output) < 0)));
        }
        rows.extend((0..self.inputs).map(|_| extreme(random.unit() < 0.5)));
        rows.extend((0..self.inputs).map(|_| u8::MAX));
        rows
    }

    /// The sums in exact arithmetic: `[rows, outputs]`.
    fn exact_sums(&self, activations: &[u8]) -> Vec<i32> {
        let mut sums = Vec::new();
        for row in activations.chunks(self.inputs) {
            let mut row_sums = vec![0; self.outputs];
            for (activation, weights) in row.iter().zip(self.weights.chunks(self.outputs)) {
                let factor = i32::from(*activation) - i32::from(ZERO_POINT);
                for (sum, weight) in row_sums.iter_mut().zip(weights) {
                    *sum += factor * i32::from(*weight);
                }
            }
            sums.extend(row_sums);
        }
        sums
    }

    /// The sums that ONNX Runtime computes on this processor, with the operator of the portable graph.
    fn computed_sums(&self, library: &Library, activations: &[u8]) -> Vec<i32> {
        let value = |name: &str, element: ElementType| {
            let size = |name: &str| DimensionProto { value: Some(Dimension::Named(name.to_owned())) };
            let shape = TensorShapeProto { dim: vec![size("rows"), size("columns")] };
            let tensor_type = TensorTypeProto { elem_type: Some(element.number()), shape: Some(shape) };
            ValueInfoProto { name: name.to_owned(), value_type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
        };
        let constant = |name: &str, element: ElementType, dims: Vec<i64>, bytes: Vec<u8>| TensorProto {
            name: name.to_owned(),
            data_type: Some(element.number()),
            dims,
            raw_data: Some(bytes),
        };
        let bytes = self.weights.iter().map(|weight| weight.cast_unsigned()).collect();
        let graph = GraphProto {
            name: "product".to_owned(),
            node: vec![NodeProto {
                input: ["activations", "weights", "zero_point"].map(str::to_owned).to_vec(),
                output: vec!["sums".to_owned()],
                op_type: "MatMulInteger".to_owned(),
                ..NodeProto::default()
            }],
            initializer: vec![
                constant("weights", ElementType::Int8, vec![self.inputs as i64, self.outputs as i64], bytes),
                constant("zero_point", ElementType::Uint8, vec![], vec![ZERO_POINT]),
            ],
            input: vec![value("activations", ElementType::Uint8)],
            output: vec![value("sums", ElementType::Int32)],
        };
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(17) }],
            graph: Some(graph),
            ..ModelProto::default()
        };
        let builder = ort::session::Session::builder(library.environment()).unwrap();
        let mut session = builder.with_intra_threads(1).unwrap().commit_from_memory(&model.encode_to_vec()).unwrap();
        let shape = [activations.len() / self.inputs, self.inputs];
        let input = TensorRef::from_array_view((shape, activations)).unwrap();
        let outputs = session.run(ort::inputs!["activations" => input]).unwrap();
        outputs["sums"].try_extract_tensor::<i32>().unwrap().1.to_vec()
    }
}

/// Compares every product of a model's int8 graphs with exact arithmetic.
fn check(weights: &Weights) {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let mut random = Random(3);
    for variant in GraphVariant::ALL {
        let matrices = matrices(weights, variant);
        assert!(!matrices.is_empty());
        for (number, matrix) in matrices.iter().enumerate() {
            let activations = matrix.extreme_activations(&mut random);
            let (exact, computed) = (matrix.exact_sums(&activations), matrix.computed_sums(&library, &activations));
            let wrong = exact.iter().zip(&computed).filter(|(exact, computed)| exact != computed).count();
            assert_eq!(wrong, 0, "product {number} of the {variant} graph: {wrong} of {} sums", exact.len());
        }
    }
}

#[test]
fn the_products_of_the_default_model_are_exact() {
    check(&ModelDirectory::open(&project().join("models/default")).unwrap().weights().unwrap());
}

#[test]
fn products_of_the_largest_weights_are_exact() {
    let mut random = Random(5);
    let made_up = second_architecture::weights();
    let extreme = made_up.iter().map(|(name, tensor)| {
        let values = tensor.values.iter().map(|_| if random.unit() < 0.8 { 1.0 } else { -1.0 }).collect();
        (name.to_owned(), Tensor { shape: tensor.shape.clone(), values })
    });
    let tensors = extreme.collect();
    check(&Weights::new(made_up.encoder.architecture.clone(), made_up.head.description.clone(), tensors).unwrap());
}
