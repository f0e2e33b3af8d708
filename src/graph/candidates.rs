//! The candidates. In: which tokens pass as starts and as ends. Out: the pairs start ≤ end. It must not know the logits, or where questions
//! meet windows.

use crate::graph::layers::Writer;

impl Writer<'_> {
    /// The number of columns of a matrix, an int64 scalar; `shape` is the name of its shape.
    pub(crate) fn columns(&mut self, shape: &str) -> String {
        let graph = &mut self.graph;
        let (last, scalar) = (graph.integers(&[1]), graph.integers(&[]));
        let columns = graph.op("Gather", &[shape, &last]);
        graph.op("Reshape", &[&columns, &scalar])
    }

    /// The pairs of a start and an end that is not before it, in the order of (lane, start, end): int64 `[3, k]`. `starts` and `ends` are
    /// bool `[lanes, tokens]`, and a lane is whatever has starts and ends of its own. There is one boolean per pair of tokens of a lane.
    pub(crate) fn pairs(&mut self, starts: &str, ends: &str, length: &str) -> String {
        let graph = &mut self.graph;
        let (zero, one) = (graph.integer(0), graph.integer(1));
        let (first, second, third) = (graph.integers(&[0]), graph.integers(&[1]), graph.integers(&[2]));
        let places = graph.op("Range", &[&zero, length, &one]);
        let (from, to) = (graph.op("Unsqueeze", &[&places, &second]), graph.op("Unsqueeze", &[&places, &first]));
        let later = graph.op("Greater", &[&from, &to]);
        let forward = graph.op("Not", &[&later]);
        let (from, to) = (graph.op("Unsqueeze", &[starts, &third]), graph.op("Unsqueeze", &[ends, &second]));
        let to = graph.op("And", &[&to, &forward]);
        let pairs = graph.op("And", &[&from, &to]);
        graph.op("NonZero", &[&pairs])
    }
}
