//! The part of the ONNX format that our graphs use. In: nothing. Out: protobuf messages with the field numbers of
//! `onnx.proto` (ONNX IR version 8). It must not know models.

/// A complete file: one graph and its operator sets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelProto {
    /// Version of the format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// The program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Version of the writer.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
}

/// A version of a domain's operators; the standard's own domain is empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSetIdProto {
    /// The domain.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// Nodes in topological order, with constants, inputs and outputs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphProto {
    /// The operations.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name of the graph.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Inputs.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// One operation. An empty input name stands for an omitted optional input.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeProto {
    /// Names of the values it reads.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values it produces.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name of the node.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Name of the operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// The operator's domain.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named constant of a node; `kind` (field `type` of the format) selects the field that holds its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeProto {
    /// Name of the attribute.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A float.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// A graph, such as a loop's body.
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    /// Integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// 1 float, 2 integer, 4 tensor, 5 graph, 7 integers.
    #[prost(int32, optional, tag = "20")]
    pub kind: Option<i32>,
}

impl AttributeProto {
    /// A float attribute.
    pub fn float(name: &str, value: f32) -> Self {
        Self { name: name.to_owned(), f: Some(value), kind: Some(1), ..Self::default() }
    }

    /// An integer attribute.
    pub fn integer(name: &str, value: i64) -> Self {
        Self { name: name.to_owned(), i: Some(value), kind: Some(2), ..Self::default() }
    }

    /// A tensor attribute.
    pub fn tensor(name: &str, value: TensorProto) -> Self {
        Self { name: name.to_owned(), t: Some(value), kind: Some(4), ..Self::default() }
    }

    /// A graph attribute.
    pub fn graph(name: &str, value: GraphProto) -> Self {
        Self { name: name.to_owned(), g: Some(Box::new(value)), kind: Some(5), ..Self::default() }
    }

    /// An attribute of several integers.
    pub fn integers(name: &str, values: &[i64]) -> Self {
        Self { name: name.to_owned(), ints: values.to_vec(), kind: Some(7), ..Self::default() }
    }
}

/// A constant: little-endian values in row-major order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    /// Sizes, outermost first.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// An [`ElementType`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Name of the value.
    #[prost(string, tag = "8")]
    pub name: String,
    /// The values' bytes.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
}

/// A graph's input or output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfoProto {
    /// Name of the value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub value_type: Option<TypeProto>,
}

/// The type of a value; only tensors here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    /// The tensor type.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorTypeProto {
    /// An [`ElementType`].
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// The shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    /// Sizes, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// A fixed or a named size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DimensionProto {
    /// One of the two.
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub value: Option<Dimension>,
}

/// A size: a number, or a name that stands for the same number everywhere.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Dimension {
    /// A fixed size.
    #[prost(int64, tag = "1")]
    Fixed(i64),
    /// A size known when the graph runs.
    #[prost(string, tag = "2")]
    Named(String),
}

/// Element types, by their number in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// `FLOAT`
    Float32 = 1,
    /// `UINT8`
    Uint8 = 2,
    /// `INT8`
    Int8 = 3,
    /// `INT32`
    Int32 = 6,
    /// `INT64`
    Int64 = 7,
    /// `BOOL`
    Bool = 9,
    /// `FLOAT16`
    Float16 = 10,
    /// `BFLOAT16`
    Bfloat16 = 16,
}

impl ElementType {
    /// The number in the format.
    pub fn number(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_node_is_encoded_as_the_format_requires() {
        let node = NodeProto {
            input: vec!["a".into(), String::new()],
            output: vec!["b".into()],
            op_type: "Cast".into(),
            attribute: vec![AttributeProto::integer("to", 0)],
            ..NodeProto::default()
        };
        let expected = b"\x0a\x01a\x0a\x00\x12\x01b\x22\x04Cast\x2a\x09\x0a\x02to\x18\x00\xa0\x01\x02";
        assert_eq!(node.encode_to_vec(), expected);
    }

    #[test]
    fn the_trial_graph_of_providers_is_valid_onnx() {
        let one_float = |name: &str| {
            let dim = vec![DimensionProto { value: Some(Dimension::Fixed(1)) }];
            let shape = Some(TensorShapeProto { dim });
            let tensor_type = Some(TensorTypeProto { elem_type: Some(ElementType::Float32.number()), shape });
            ValueInfoProto { name: name.into(), value_type: Some(TypeProto { tensor_type }) }
        };
        let sum = NodeProto {
            input: vec!["x".into(), "x".into()],
            output: vec!["y".into()],
            op_type: "Add".into(),
            ..NodeProto::default()
        };
        let graph = GraphProto {
            node: vec![sum],
            name: "g".into(),
            input: vec![one_float("x")],
            output: vec![one_float("y")],
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(17) }],
            ..ModelProto::default()
        };
        assert_eq!(model.encode_to_vec(), crate::model::runtime::device::TRIAL);
    }
}
