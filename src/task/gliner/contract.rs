//! The contract of a graph. In: what a graph declares, and its outputs. Out: the outputs that are read, or what violates the contract. It must
//! not decide on spans.

use crate::task::mrc;
use crate::task::tensor::{GraphSignature, Misfit, Tensor, Tensors, Values};

/// The outputs that are read.
pub const OUTPUTS: [&str; 1] = ["logits"];

/// The inputs of every graph.
pub const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "words_mask", "text_lengths"];

/// The further inputs of a graph that scores spans.
pub const SPAN_INPUTS: [&str; 2] = ["span_idx", "span_mask"];

/// What to do with a graph that does not fit.
pub const HINT: &str = "export the model with the package gliner: \
    GLiNER.from_pretrained(\"MODEL\").export_to_onnx(\"FOLDER\"); a graph has the inputs input_ids, attention_mask, words_mask and \
    text_lengths, of span mode also span_idx and span_mask, and the output logits";

/// Checks the names of a graph's inputs and outputs; `spans` says whether it is to score spans, if that is known.
///
/// # Errors
/// What differs.
pub fn check_names<'n>(
    inputs: &[impl AsRef<str>],
    mut outputs: impl Iterator<Item = &'n str>,
    spans: Option<bool>,
) -> Result<(), String> {
    let has = |name: &str| inputs.iter().any(|input| input.as_ref() == name);
    let known = |name: &str| INPUTS.contains(&name) || SPAN_INPUTS.contains(&name) && spans != Some(false);
    if let Some(unknown) = inputs.iter().map(AsRef::as_ref).find(|name| !known(name)) {
        return Err(format!("the graph has an unknown input `{unknown}`"));
    }
    let spans = spans.unwrap_or_else(|| SPAN_INPUTS.iter().any(|name| has(name)));
    let wanted = INPUTS.iter().chain(SPAN_INPUTS.iter().filter(|_| spans));
    // The mask of attention can be left out by an optimizer, but not what tells words and spans apart.
    if let Some(missing) = wanted.copied().find(|name| *name != "attention_mask" && !has(name)) {
        return Err(format!("the graph has no input `{missing}`"));
    }
    if outputs.any(|name| name == "logits") { Ok(()) } else { Err("the graph has no output `logits`".to_owned()) }
}

/// Checks a graph's inputs and outputs against the contract.
///
/// # Errors
/// A [`Misfit`] that names the input or output.
pub fn check(graph: &GraphSignature) -> Result<(), Misfit> {
    let misfit = |reason| Misfit { reason, hint: HINT };
    check_names(&graph.inputs, graph.outputs.iter().map(|output| output.name.as_str()), None).map_err(misfit)?;
    match graph.output("logits") {
        Some(output) if output.rank == 4 && !output.is_i64 => Ok(()),
        Some(output) => Err(misfit(format!("logits is {} of {} dimensions, expected 4", output.declared, output.rank))),
        None => Ok(()),
    }
}

/// Checks the outputs of a graph that was given the tensors that `given` finds.
///
/// # Errors
/// Logits that are missing, or not one for each span or word.
pub fn accept<'a>(given: &dyn Fn(&str) -> Option<&'a Tensor>, mut outputs: Tensors) -> Result<Tensors, String> {
    let Some(Tensor { values: Values::I64(lengths), .. }) = given("text_lengths") else {
        return Err("text_lengths are not given".to_owned());
    };
    let (rows, words) = (lengths.len(), lengths.iter().max().map_or(0, |&longest| longest as usize));
    let spans = given("span_mask").map_or(0, |mask| mask.shape.iter().skip(1).product());
    let Some(logits) = outputs.take("logits") else { return Err("there are no logits".to_owned()) };
    let fits = match logits.shape[..] {
        [found, length, width, _] if spans > 0 => found == rows && length * width == spans && length == words,
        [found, length, _, 3] => found == rows && length == words && spans == 0,
        _ => false,
    };
    if !fits {
        let expected = match (spans, words) {
            (0, _) => format!("[{rows}, {words}, types, 3]"),
            _ => format!("[{rows}, {words}, {}, types]", spans / words.max(1)),
        };
        return Err(format!("logits has shape {:?}, expected {expected}", logits.shape));
    }
    let shape = logits.shape.clone();
    let values = mrc::floats(Some(logits), "logits", shape.iter().product())?;
    Ok(Tensors::default().with("logits", &shape, Values::F32(values)))
}
