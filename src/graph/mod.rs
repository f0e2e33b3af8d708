//! The ONNX writer. In: checked weights with their descriptions, a part of the model, a graph variant and a precision. Out: the bytes of an
//! ONNX file that computes this part, or its path in the cache. It must not load ONNX Runtime or read documents.
//!
//! The contract of the graph of early interaction is in [`mrc`](crate::task::mrc), that of the two graphs of late interaction in
//! [`late`](crate::task::late), those of the others in [`tagger`](crate::task::tagger) and [`qa`](crate::task::qa).
//!
//! The heads of early interaction compute the formulas of Li et al. 2020, section 3.3, as the reference's code does. Inputs must have at least
//! one row and one token.

pub(crate) mod builder;
pub mod cache;
mod candidates;
mod encoder;
mod heads;
mod integer_weights;
mod late_heads;
mod layers;
mod match_head;
pub mod onnx;
mod token_heads;

use prost::Message;
use quarry_kernels::operator;

pub(crate) use crate::graph::encoder::one_operator::fits as fits_kernels;

use crate::error::{Error, Result};
use crate::graph::builder::{Builder, RUNTIME_DOMAIN};
use crate::graph::layers::Writer;
use crate::graph::onnx::{ElementType, ModelProto, OperatorSetIdProto};
use crate::model::encoder::architecture::Architecture;
use crate::model::head::{Head, LateHead, MrcHead, QaHead, TaggerHead};
use crate::model::precision::{GraphPart, GraphVariant, Precision};
use crate::model::weights::tensors::Weights;

/// The version of this writer: it changes whenever the same model would give other bytes. It is part of the cache key.
pub const WRITER_VERSION: u32 = 7;

/// The ONNX operator set and the matching version of the format. Set 17 is from 2022: every current runtime supports it, and it
/// has layer normalization. The fused int8 graph, which only ONNX Runtime on the CPU runs, needs the block quantization of 21.
const fn versions(variant: GraphVariant, precision: Precision) -> (i64, i64) {
    match (variant, precision) {
        (GraphVariant::Fused, Precision::Int8) => (21, 10),
        _ => (17, 8),
    }
}

/// Writes the whole graph of a model that has one graph: [`write_part`] of [`GraphPart::Whole`].
pub fn write(weights: &Weights, variant: GraphVariant, precision: Precision) -> Result<Vec<u8>> {
    write_part(weights, GraphPart::Whole(precision), variant)
}

/// Writes a graph of a model. The same model gives the same bytes. Fails if the model has no such part, if the variant does not support
/// the precision (bf16 is portable only), or if the file would exceed protobuf's limit of 2 GiB.
pub fn write_part(weights: &Weights, part: GraphPart, variant: GraphVariant) -> Result<Vec<u8>> {
    let precision = part.precision();
    let element = match precision {
        Precision::Fp32 | Precision::Int8 => ElementType::Float32,
        Precision::Fp16 => ElementType::Float16,
        Precision::Bf16 if variant == GraphVariant::Portable => ElementType::Bfloat16,
        Precision::Bf16 => {
            return Err(refuse("precision", "bf16 has no fused variant", "use the portable variant, or fp16"));
        }
    };
    let graph = Builder::new("mrc", element);
    let one_operator =
        variant == GraphVariant::Kernels && precision == Precision::Int8 && fits_kernels(&weights.encoder.architecture);
    // What is not the operator is as in the fused variant.
    let variant = if variant == GraphVariant::Kernels { GraphVariant::Fused } else { variant };
    let mut writer = Writer { graph, weights, variant, precision, one_operator };
    match (&weights.head.description, part) {
        (Head::Early(head), GraphPart::Whole(_)) => writer.whole(head),
        (Head::Tagger(head), GraphPart::Whole(_)) => writer.tagger(head),
        (Head::Qa(head), GraphPart::Whole(_)) => writer.qa(head),
        (Head::Late(head), GraphPart::Questions) => writer.questions(head),
        (Head::Late(head), GraphPart::Windows(_)) => writer.windows(head),
        (Head::Early(_), _) => {
            return Err(refuse("interaction", "a model of early interaction is one graph", "write the whole graph"));
        }
        (Head::Tagger(_) | Head::Qa(_), _) => {
            return Err(refuse("kind", "a model of this kind is one graph", "write the whole graph"));
        }
        (Head::Late(_), _) => {
            let reason = "a model of late interaction is two graphs, for questions and for windows";
            return Err(refuse("interaction", reason, "write these two graphs"));
        }
    }
    let (operator_set, format) = versions(variant, precision);
    let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: Some(operator_set) }];
    if variant == GraphVariant::Fused {
        opset_import.push(OperatorSetIdProto { domain: RUNTIME_DOMAIN.to_owned(), version: Some(1) });
    }
    if one_operator {
        opset_import.push(OperatorSetIdProto { domain: operator::DOMAIN.to_owned(), version: Some(1) });
    }
    let model = ModelProto {
        ir_version: Some(format),
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: WRITER_VERSION.to_string(),
        graph: Some(writer.graph.finish()),
        opset_import,
    };
    let length = model.encoded_len();
    if i32::try_from(length).is_err() {
        let reason = format!("the graph has {length} bytes, more than ONNX allows");
        return Err(refuse("precision", &reason, "use fp16 or int8"));
    }
    Ok(model.encode_to_vec())
}

impl Writer<'_> {
    /// The graph of a model of early interaction.
    fn whole(&mut self, head: &MrcHead) {
        self.token_inputs("batch");
        self.mask_inputs();
        let shape = self.graph.op("Shape", &["input_ids"]);
        let tokens = self.encoder(&shape);
        self.heads(head, &tokens, &shape);
    }

    /// The graph of a tagger.
    fn tagger(&mut self, head: &TaggerHead) {
        self.token_inputs("batch");
        let shape = self.graph.op("Shape", &["input_ids"]);
        let tokens = self.encoder(&shape);
        self.tag_logits(head, &tokens, &shape);
    }

    /// The graph of question answering.
    fn qa(&mut self, head: &QaHead) {
        self.token_inputs("batch");
        let shape = self.graph.op("Shape", &["input_ids"]);
        let tokens = self.encoder(&shape);
        self.answer_logits(head, &tokens, &shape);
    }

    /// Declares the encoder's inputs, `[rows, tokens]` each.
    fn token_inputs(&mut self, rows: &str) {
        let Architecture { token_types, word_shapes, .. } = self.architecture();
        let types = token_types.as_ref().filter(|types| types.rows > 1).map(|_| "token_type_ids");
        let shapes = word_shapes.as_ref().map(|_| "shape_ids");
        for name in ["input_ids", "attention_mask"].into_iter().chain(types).chain(shapes) {
            self.graph.input(name, ElementType::Int64, &[rows, "tokens"]);
        }
    }

    /// Declares the inputs that decide which tokens can be a start or an end.
    fn mask_inputs(&mut self) {
        for name in ["start_mask", "end_mask"] {
            self.graph.input(name, ElementType::Bool, &["batch", "tokens"]);
        }
        self.graph.input("boundary_logit", ElementType::Float32, &[]);
    }

    /// The graph that encodes questions, of a model of late interaction. Its rows do not depend on each other.
    fn questions(&mut self, head: &LateHead) {
        self.token_inputs("questions");
        let shape = self.graph.op("Shape", &["input_ids"]);
        let tokens = self.encoder(&shape);
        self.question_vectors(head, &tokens, &shape);
    }

    /// The graph that answers all questions on windows, of a model of late interaction.
    fn windows(&mut self, head: &LateHead) {
        self.token_inputs("batch");
        self.mask_inputs();
        self.question_inputs(head);
        let shape = self.graph.op("Shape", &["input_ids"]);
        let tokens = self.encoder(&shape);
        self.late_heads(head, &tokens, &shape);
    }
}

fn refuse(key: &str, reason: &str, hint: &str) -> Error {
    Error::Setting { origin: "model".to_owned(), key: key.to_owned(), reason: reason.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::graph::onnx::{GraphProto, NodeProto};
    use crate::machine::hash::hexadecimal;
    use crate::model::config::ModelConfig;
    use crate::model::config::tests::{tiny, tiny_but, tiny_late};
    use crate::model::weights::tensors::tests::made_up;

    const KINDS: [(GraphVariant, Precision); 7] = [
        (GraphVariant::Portable, Precision::Fp32),
        (GraphVariant::Portable, Precision::Bf16),
        (GraphVariant::Portable, Precision::Fp16),
        (GraphVariant::Portable, Precision::Int8),
        (GraphVariant::Fused, Precision::Fp32),
        (GraphVariant::Fused, Precision::Fp16),
        (GraphVariant::Fused, Precision::Int8),
    ];

    fn weights(one_layer: bool) -> Weights {
        Weights::check(made_up(&tiny(), one_layer), &mut tiny()).expect("they fit")
    }

    fn late_weights() -> Weights {
        Weights::check(made_up(&tiny_late(), false), &mut tiny_late()).expect("they fit")
    }

    /// Every graph that can be written of a part of a model with late interaction.
    fn late_parts() -> Vec<(GraphPart, GraphVariant)> {
        let questions = GraphVariant::ALL.map(|variant| (GraphPart::Questions, variant));
        let windows = KINDS.map(|(variant, precision)| (GraphPart::Windows(precision), variant));
        questions.into_iter().chain(windows).collect()
    }

    fn model(part: GraphPart, variant: GraphVariant) -> ModelProto {
        let weights = if matches!(part, GraphPart::Whole(_)) { weights(false) } else { late_weights() };
        let bytes = write_part(&weights, part, variant).expect("a graph");
        ModelProto::decode(bytes.as_slice()).expect("it is protobuf")
    }

    /// Every graph that can be written.
    fn models() -> Vec<(GraphPart, GraphVariant, ModelProto)> {
        let whole = KINDS.map(|(variant, precision)| (GraphPart::Whole(precision), variant));
        let parts = whole.into_iter().chain(late_parts());
        parts.map(|(part, variant)| (part, variant, model(part, variant))).collect()
    }

    /// Names, element types and ranks.
    fn declared(values: &[onnx::ValueInfoProto]) -> Vec<String> {
        let describe = |value: &onnx::ValueInfoProto| {
            let tensor = value.value_type.as_ref().and_then(|kind| kind.tensor_type.as_ref()).expect("a tensor");
            let rank = tensor.shape.as_ref().expect("a shape").dim.len();
            format!("{} {} {rank}", value.name, tensor.elem_type.expect("an element type"))
        };
        values.iter().map(describe).collect()
    }

    fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
        node.attribute.iter().filter_map(|attribute| attribute.g.as_deref())
    }

    /// Every value is defined once and before it is used; subgraphs can use the values of the enclosing graph.
    fn check_order(graph: &GraphProto, outer: &BTreeSet<String>) {
        let mut known = outer.clone();
        let inputs = graph.input.iter().map(|input| input.name.clone());
        for name in inputs.chain(graph.initializer.iter().map(|tensor| tensor.name.clone())) {
            assert!(known.insert(name.clone()), "`{name}` is defined twice");
        }
        for node in &graph.node {
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                assert!(known.contains(input), "`{}` uses `{input}` before it is defined", node.name);
            }
            bodies(node).for_each(|body| check_order(body, &known));
            for output in &node.output {
                assert!(known.insert(output.clone()), "`{output}` is defined twice");
            }
        }
        assert!(graph.output.iter().all(|output| known.contains(&output.name)));
    }

    #[test]
    fn values_are_defined_before_they_are_used() {
        for (_, _, model) in models() {
            check_order(&model.graph.expect("a graph"), &BTreeSet::new());
        }
    }

    #[test]
    fn every_kind_keeps_the_contract() {
        let tokens = ["input_ids 7 2", "attention_mask 7 2", "token_type_ids 7 2"];
        let masks = ["start_mask 9 2", "end_mask 9 2", "boundary_logit 1 0"];
        let vectors = ["question_starts 1 2", "question_ends 1 2", "question_matches 1 2"];
        for (part, variant, model) in models() {
            let graph = model.graph.expect("a graph");
            let (inputs, outputs) = match part {
                GraphPart::Whole(_) => (
                    [&tokens[..], &masks].concat(),
                    vec!["start_logits 1 2", "end_logits 1 2", "span_index 7 2", "span_logits 1 1"],
                ),
                GraphPart::Questions => (tokens.to_vec(), vectors.to_vec()),
                GraphPart::Windows(_) => (
                    [&tokens[..], &masks, &vectors].concat(),
                    vec!["start_logits 1 3", "end_logits 1 3", "span_index 7 2", "span_logits 1 1"],
                ),
            };
            assert_eq!(declared(&graph.input), inputs, "{part:?} {variant}");
            assert_eq!(declared(&graph.output), outputs, "{part:?} {variant}");
        }
    }

    #[test]
    fn portable_graphs_use_only_standard_operators() {
        for (part, variant, model) in models() {
            let graph = model.graph.expect("a graph");
            let inner = graph.node.iter().flat_map(bodies).flat_map(|body| &body.node);
            let domains: BTreeSet<_> = graph.node.iter().chain(inner).map(|node| node.domain.as_str()).collect();
            let imported: BTreeSet<_> = model.opset_import.iter().map(|set| set.domain.as_str()).collect();
            assert_eq!(domains, imported, "{part:?} {variant}");
            assert_eq!(domains.contains(RUNTIME_DOMAIN), variant == GraphVariant::Fused);
        }
    }

    #[test]
    fn constants_have_as_many_bytes_as_their_shape_requires() {
        for (_, _, model) in models() {
            let graph = model.graph.expect("a graph");
            for tensor in &graph.initializer {
                let size = match tensor.data_type {
                    Some(2 | 3 | 9) => 1,
                    Some(10 | 16) => 2,
                    Some(7) => 8,
                    _ => 4,
                };
                let count: i64 = tensor.dims.iter().product();
                assert_eq!(tensor.raw_data.as_ref().map(Vec::len), Some(count as usize * size), "{}", tensor.name);
            }
        }
    }

    #[test]
    fn attention_gets_the_mask_that_its_cuda_kernel_reads() {
        let made_by = |config: &ModelConfig, precision: Precision| {
            let mut config = config.clone();
            let weights = Weights::check(made_up(&config, false), &mut config).expect("they fit");
            let bytes = write(&weights, GraphVariant::Fused, precision).expect("a graph");
            let graph = ModelProto::decode(bytes.as_slice()).expect("protobuf").graph.expect("a graph");
            let maker = |value: &str| {
                graph.node.iter().find(|node| node.output.iter().any(|output| output == value)).expect("a node").clone()
            };
            let attention = graph.node.iter().find(|node| node.op_type == "Attention").expect("attention");
            let cast = maker(&attention.input[3]);
            assert_eq!(cast.op_type, "Cast");
            maker(&cast.input[0]).op_type
        };
        // Heads of size 4, and of size 8, which the memory-efficient kernel supports.
        let (narrow, wide) = (tiny(), tiny_but(|bert| bert.hidden_size = 16));
        assert_eq!(made_by(&wide, Precision::Fp16), "Concat");
        for (config, precision) in [(&narrow, Precision::Fp16), (&narrow, Precision::Fp32), (&wide, Precision::Fp32)] {
            let size = config.encoder.architecture().head_size();
            assert_eq!(made_by(config, precision), "ReduceSum", "{precision}, heads of {size}");
        }
    }

    #[test]
    fn only_the_graph_for_openvino_uses_cumsum() {
        for (part, variant, model) in models() {
            let summed = model.graph.expect("a graph").node.iter().any(|node| node.op_type == "CumSum");
            let ranks = part != GraphPart::Questions && part.precision() == Precision::Fp32;
            assert_eq!(summed, ranks && variant == GraphVariant::Portable, "{part:?} {variant}");
        }
    }

    /// The cache keeps graphs by the version of the writer.
    #[test]
    fn the_bytes_of_a_graph_change_only_with_the_version_of_the_writer() {
        let mut hasher = Sha256::new();
        for weights in [weights(false), weights(true)] {
            for (variant, precision) in KINDS {
                hasher.update(write(&weights, variant, precision).expect("a graph"));
            }
        }
        let hash = hexadecimal(&hasher.finalize());
        assert_eq!(
            (WRITER_VERSION, hash.as_str()),
            (7, "9fb6b00b724199d0a9501e09fa58c3bff88a2d4a6b8ddafee469b27a2af8351e")
        );
    }

    #[test]
    fn the_bytes_of_late_graphs_change_only_with_the_version_of_the_writer() {
        let (mut hasher, weights) = (Sha256::new(), late_weights());
        for (part, variant) in late_parts() {
            hasher.update(write_part(&weights, part, variant).expect("a graph"));
        }
        let hash = hexadecimal(&hasher.finalize());
        assert_eq!(
            (WRITER_VERSION, hash.as_str()),
            (7, "89716d383f1a48ae36b9b8842cbe7ff32801fd77f15f400153f3c15994658538")
        );
    }

    #[test]
    fn a_part_that_a_model_does_not_have_is_refused() {
        let refusal = |weights: &Weights, part| {
            write_part(weights, part, GraphVariant::Fused).expect_err("no such part").to_string()
        };
        for part in [GraphPart::Questions, GraphPart::Windows(Precision::Fp32)] {
            let error = refusal(&weights(false), part);
            assert_eq!(error, "model: `interaction`: a model of early interaction is one graph");
        }
        assert!(refusal(&late_weights(), GraphPart::Whole(Precision::Fp32)).contains("is two graphs"));
    }

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        let bytes = || write(&weights(false), GraphVariant::Fused, Precision::Int8).expect("a graph");
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn the_single_layer_match_head_has_no_hidden_layer() {
        let bytes = write(&weights(true), GraphVariant::Fused, Precision::Fp32).expect("a graph");
        let graph = ModelProto::decode(bytes.as_slice()).expect("protobuf").graph.expect("a graph");
        check_order(&graph, &BTreeSet::new());
        let start = graph.initializer.iter().find(|tensor| tensor.name == "match.start").expect("there");
        assert_eq!(start.dims, [8, 1]);
        let body = graph.node.iter().flat_map(bodies).next().expect("a loop");
        assert!(body.node.iter().all(|node| node.op_type != "Gelu" && node.op_type != "MatMul"));
    }

    #[test]
    fn bf16_is_portable_only() {
        let error = write(&weights(false), GraphVariant::Fused, Precision::Bf16).expect_err("no such variant");
        assert_eq!(error.to_string(), "model: `precision`: bf16 has no fused variant");
    }
}
