//! The candidates. In: which tokens pass as starts and as ends. Out: the pairs start ≤ end. It must not know the logits, or where questions
//! meet windows.

use crate::graph::builder::Builder;
use crate::graph::layers::Writer;
use crate::graph::onnx::{AttributeProto, ElementType};

impl Writer<'_> {
    /// The number of columns of a matrix, an int64 scalar; `shape` is the name of its shape.
    pub(crate) fn columns(&mut self, shape: &str) -> String {
        let graph = &mut self.graph;
        let (last, scalar) = (graph.integers(&[1]), graph.integers(&[]));
        let columns = graph.op("Gather", &[shape, &last]);
        graph.op("Reshape", &[&columns, &scalar])
    }

    /// The pairs of a start and an end that is not before it: lane, start and end of each, int64 `[k]`, in this order. `starts` and `ends` are
    /// bool `[lanes, tokens]`, and a lane is whatever has starts and ends of its own. Starts are few: there is a boolean per start and token.
    pub(crate) fn pairs(&mut self, starts: &str, ends: &str, length: &str) -> [String; 3] {
        let graph = &mut self.graph;
        let (zero, one) = (graph.integer(0), graph.integer(1));
        let (first, second) = (graph.integers(&[0]), graph.integers(&[1]));
        let part = |graph: &mut Builder, found: &str, part: &str| {
            graph.op_with("Gather", &[found, part], vec![AttributeProto::integer("axis", 0)])
        };
        let found = graph.op("NonZero", &[starts]);
        let [lane, start] = [&zero, &one].map(|row| part(graph, &found, row));
        let places = graph.op("Range", &[&zero, length, &one]);
        let (from, to) = (graph.op("Unsqueeze", &[&start, &second]), graph.op("Unsqueeze", &[&places, &first]));
        let later = graph.op("Greater", &[&from, &to]);
        let forward = graph.op("Not", &[&later]);
        let ends = graph.op("Gather", &[ends, &lane]);
        let pairs = graph.op("And", &[&ends, &forward]);
        let found = graph.op("NonZero", &[&pairs]);
        let [which, end] = [&zero, &one].map(|row| part(graph, &found, row));
        let [lane, start] = [&lane, &start].map(|of_start| graph.op("Gather", &[of_start, &which]));
        [lane, start, end]
    }

    /// Writes the output that says where each candidate is: int64 `[k, parts]` of parts `[k]`.
    pub(crate) fn span_index(&mut self, parts: &[&str]) {
        let graph = &mut self.graph;
        let second = graph.integers(&[1]);
        let columns: Vec<String> = parts.iter().map(|part| graph.op("Unsqueeze", &[part, &second])).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let index = graph.op_with("Concat", &columns, vec![AttributeProto::integer("axis", 1)]);
        graph.output(&index, "span_index", ElementType::Int64, &["candidates", &parts.len().to_string()]);
    }
}
