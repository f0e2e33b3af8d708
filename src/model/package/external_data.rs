//! What an ONNX file refers to and is called with. In: an ONNX file. Out: the names of the files with its weights (ONNX's `external_data`), and of
//! its inputs and outputs. It must not read those files, nor keep the graph.
//!
//! The messages have only the fields that lead to a tensor's location, and names; their numbers are those of `onnx.proto`.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;

use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<Named>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<Named>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializers: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The files that the tensors of a graph refer to, by name. A file that is no graph has none: ONNX Runtime rejects it later.
///
/// # Errors
/// [`Error::Read`] if the file cannot be read.
pub(super) fn external_files(graph: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    if let Some(model) = read(graph)? {
        model.graph.iter().for_each(|graph| of_graph(graph, &mut found));
        model.functions.iter().flat_map(|function| &function.nodes).for_each(|node| of_node(node, &mut found));
    }
    Ok(found)
}

/// The names of a graph's inputs and outputs; `None` of a file that is no graph. Inputs that are weights, as older files list them, are none.
///
/// # Errors
/// [`Error::Read`] if the file cannot be read.
pub(super) fn inputs_and_outputs(graph: &Path) -> Result<Option<[Vec<String>; 2]>> {
    let names = |graph: Graph| {
        let weights: BTreeSet<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        let inputs = graph.inputs.iter().filter(|input| !weights.contains(input.name.as_str()));
        [inputs.map(|input| input.name.clone()).collect(), graph.outputs.into_iter().map(|one| one.name).collect()]
    };
    Ok(read(graph)?.and_then(|model| model.graph).map(names))
}

fn read(path: &Path) -> Result<Option<Model>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source: source.into() })?;
    Ok(Model::decode(bytes.as_slice()).ok())
}

fn of_graph(graph: &Graph, found: &mut BTreeSet<String>) {
    graph.initializers.iter().for_each(|tensor| of_tensor(tensor, found));
    graph.sparse_initializers.iter().for_each(|tensor| of_sparse_tensor(tensor, found));
    graph.nodes.iter().for_each(|node| of_node(node, found));
}

fn of_node(node: &Node, found: &mut BTreeSet<String>) {
    for attribute in &node.attributes {
        attribute.tensor.iter().chain(&attribute.tensors).for_each(|tensor| of_tensor(tensor, found));
        let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors);
        sparse.for_each(|tensor| of_sparse_tensor(tensor, found));
        attribute.graph.iter().chain(&attribute.graphs).for_each(|graph| of_graph(graph, found));
    }
}

fn of_sparse_tensor(tensor: &SparseTensor, found: &mut BTreeSet<String>) {
    tensor.values.iter().chain(&tensor.indices).for_each(|tensor| of_tensor(tensor, found));
}

fn of_tensor(tensor: &Tensor, found: &mut BTreeSet<String>) {
    found.extend(tensor.external_data.iter().filter(|entry| entry.key == "location").map(|entry| entry.value.clone()));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A graph with a tensor in `location`, as an initializer and in the branch of a node.
    pub(crate) fn graph_with_weights_in(location: &str) -> Vec<u8> {
        let entry = Entry { key: "location".into(), value: location.into() };
        let tensor = Tensor { external_data: vec![entry], ..Tensor::default() };
        let branch = Graph { initializers: vec![tensor.clone()], ..Graph::default() };
        let node = Node { attributes: vec![Attribute { graph: Some(branch), ..Attribute::default() }] };
        Model { graph: Some(Graph { nodes: vec![node], ..Graph::default() }), functions: Vec::new() }.encode_to_vec()
    }

    #[test]
    fn locations_are_found_at_any_depth() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), graph_with_weights_in("weights.bin")).unwrap();
        assert_eq!(external_files(file.path()).unwrap().into_iter().collect::<Vec<_>>(), ["weights.bin"]);
        std::fs::write(file.path(), b"no graph").unwrap();
        assert!(external_files(file.path()).unwrap().is_empty());
    }
}
