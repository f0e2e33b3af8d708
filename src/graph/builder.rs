//! Builds an ONNX graph node by node. In: operators with the names of their inputs, and constants. Out: the names of the
//! results, then the finished graph. It must not know what the graph computes.

use std::collections::BTreeSet;

use half::{bf16, f16};

use crate::graph::onnx::{
    AttributeProto, Dimension, DimensionProto, ElementType, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Domain of ONNX Runtime's own operators.
pub(crate) const RUNTIME_DOMAIN: &str = "com.microsoft";

/// A graph under construction.
#[derive(Debug)]
pub(crate) struct Builder {
    graph: GraphProto,
    /// What the names of its own values begin with: empty for the graph of a model.
    prefix: String,
    constants: BTreeSet<String>,
    element: ElementType,
}

impl Builder {
    /// An empty graph that computes in `element`.
    pub(crate) fn new(name: &str, element: ElementType) -> Self {
        Self::with_prefix(name, String::new(), element)
    }

    /// An empty subgraph; its values get its name as a prefix.
    pub(crate) fn subgraph(name: &str, element: ElementType) -> Self {
        Self::with_prefix(name, format!("{name}/"), element)
    }

    fn with_prefix(name: &str, prefix: String, element: ElementType) -> Self {
        let graph = GraphProto { name: name.to_owned(), ..GraphProto::default() };
        Self { graph, prefix, constants: BTreeSet::new(), element }
    }

    /// The element type of activations.
    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    /// Declares an input.
    pub(crate) fn input(&mut self, name: &str, element: ElementType, shape: &[&str]) {
        self.graph.input.push(value_info(name, element, shape));
    }

    /// Makes a value an output of the graph, named `name`.
    pub(crate) fn output(&mut self, value: &str, name: &str, element: ElementType, shape: &[&str]) {
        self.push("", "Identity", &[value], vec![], vec![name.to_owned()]);
        self.graph.output.push(value_info(name, element, shape));
    }

    /// Adds a standard operator with one result.
    pub(crate) fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.op_with(operator, inputs, vec![])
    }

    /// Adds a standard operator with attributes and one result.
    pub(crate) fn op_with(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let result = self.result(operator);
        self.push("", operator, inputs, attributes, vec![result.clone()]);
        result
    }

    /// Splits a value along an axis into parts of `size`.
    pub(crate) fn split<const N: usize>(&mut self, value: &str, axis: i64, size: usize) -> [String; N] {
        let sizes = self.integers(&[size as i64; N]);
        let results = std::array::from_fn(|index| format!("{}_{index}", self.result("Split")));
        self.push("", "Split", &[value, &sizes], vec![AttributeProto::integer("axis", axis)], results.to_vec());
        results
    }

    /// Adds an operator of ONNX Runtime with one result.
    pub(crate) fn runtime(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.of_domain(RUNTIME_DOMAIN, operator, inputs, attributes)
    }

    /// Adds an operator of a domain with one result.
    pub(crate) fn of_domain(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let result = self.result(operator);
        self.push(domain, operator, inputs, attributes, vec![result.clone()]);
        result
    }

    /// Casts a value to another element type.
    pub(crate) fn cast(&mut self, value: &str, to: ElementType) -> String {
        self.op_with("Cast", &[value], vec![AttributeProto::integer("to", to.number().into())])
    }

    /// A constant in the graph's element type.
    pub(crate) fn weights(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = match self.element {
            ElementType::Float16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            ElementType::Bfloat16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        self.constant(name, self.element, shape, bytes)
    }

    /// A scalar in the graph's element type.
    pub(crate) fn number(&mut self, value: f32) -> String {
        self.weights(&format!("number {value}"), &[], &[value])
    }

    /// An int64 scalar.
    pub(crate) fn integer(&mut self, value: i64) -> String {
        self.constant(&format!("integer {value}"), ElementType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// An int64 vector.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&format!("integers {values:?}"), ElementType::Int64, &[values.len()], bytes)
    }

    /// A constant of any type; a second call with the same name returns the first constant.
    pub(crate) fn constant(&mut self, name: &str, element: ElementType, shape: &[usize], bytes: Vec<u8>) -> String {
        let name = format!("{}{name}", self.prefix);
        if self.constants.insert(name.clone()) {
            let tensor = TensorProto { name: name.clone(), ..tensor(element, shape, bytes) };
            self.graph.initializer.push(tensor);
        }
        name
    }

    /// The finished graph.
    pub(crate) fn finish(self) -> GraphProto {
        self.graph
    }

    fn result(&self, operator: &str) -> String {
        format!("{}{operator}_{}", self.prefix, self.graph.node.len())
    }

    fn push(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        output: Vec<String>,
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            name: output.first().cloned().unwrap_or_default(),
            output,
            op_type: operator.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
    }
}

/// A tensor without a name.
pub(crate) fn tensor(element: ElementType, shape: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|size| *size as i64).collect(),
        data_type: Some(element.number()),
        name: String::new(),
        raw_data: Some(bytes),
    }
}

/// The declaration of a value; sizes that are not numbers become named dimensions.
fn value_info(name: &str, element: ElementType, shape: &[&str]) -> ValueInfoProto {
    let size = |size: &&str| DimensionProto {
        value: Some(size.parse().map_or_else(|_| Dimension::Named((*size).to_owned()), Dimension::Fixed)),
    };
    let tensor_type = TensorTypeProto {
        elem_type: Some(element.number()),
        shape: Some(TensorShapeProto { dim: shape.iter().map(size).collect() }),
    };
    ValueInfoProto { name: name.to_owned(), value_type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
