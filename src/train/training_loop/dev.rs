//! Network + labelled documents → scores. In: a network, the examples of a split and its gold. Out: counts by type, decoded and merged
//! over windows exactly as in extraction, or all candidates for a calibration. It must not train.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Tensor, no_grad};

use crate::error::{Error, Result};
use crate::extract::calibration::Labelled;
use crate::model::encoder::architecture::DropoutRates;
use crate::score::counts::Counts;
use crate::task::answer::Acceptance;
use crate::task::batch::{Batch, batches};
use crate::task::entity_schema::{EntitySchema, Nesting};
use crate::task::input::ModelInput;
use crate::task::kind::Kind;
use crate::task::late;
use crate::task::merge::Mentions;
use crate::task::mrc::decode::{DecodeRule, Logits, decode};
use crate::task::qa;
use crate::task::qa::AnswerRule;
use crate::task::tagger::TagReader;
use crate::task::tensor::{Tensors, Values};
use crate::text::mention::Mention;
use crate::train::data::dataset::{Gold, LabelledDocument, Split};
use crate::train::data::examples::Example;
use crate::train::network::encoder::Inputs;
use crate::train::network::failure::torch;
use crate::train::network::heads::{Asked, Dropout, Network};
use crate::train::network::loss::CHUNK;
use crate::train::state::signals;

/// Padded tokens in a batch.
const BATCH_TOKENS: usize = 8192;
/// The maximum number of candidates of one input, as in extraction.
const MAX_CANDIDATES: usize = 4096;

/// The counts of a network's predictions against a split's gold.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// The counts over all types.
    pub all: Counts,
    /// The counts of the types that the split labels, by their places in the schema.
    pub types: BTreeMap<usize, Counts>,
}

/// Scores `network` on a split with the examples `examples`. A gold mention that no example holds counts as missed.
///
/// # Errors
/// [`crate::error::Error::Stopped`] after a signal.
pub fn score(network: &Network, split: &Split, examples: &[Example], schema: &EntitySchema) -> Result<Quality> {
    let found = mentions(network, split, examples, schema)?;
    let labelled = split.documents.iter().flat_map(|document| document.labelled_types.iter());
    let mut types: BTreeMap<usize, Counts> = labelled.map(|&entity_type| (entity_type, Counts::default())).collect();
    for (document, found) in split.documents.iter().zip(found) {
        let gold: BTreeSet<Gold> = document.mentions.iter().copied().collect();
        let predicted: BTreeSet<Gold> =
            found.into_iter().map(|mention| Gold { chars: mention.chars, entity_type: mention.entity_type }).collect();
        for one in &predicted {
            let counts = types.entry(one.entity_type).or_default();
            if gold.contains(one) { counts.true_positives += 1 } else { counts.false_positives += 1 }
        }
        for one in gold.difference(&predicted) {
            types.entry(one.entity_type).or_default().false_negatives += 1;
        }
    }
    Ok(Quality { all: types.values().copied().sum(), types })
}

/// The outputs of a tagger for a batch, as its ONNX graph returns them.
///
/// # Errors
/// [`crate::error::Error::Engine`] if LibTorch fails.
pub fn tag_outputs(network: &Network, batch: &Batch) -> Result<Tensors> {
    no_grad(|| {
        let inputs = Inputs::new(&batch.tensors(), network.device());
        let logits = network.tag_logits(&network.encode(&inputs, DropoutRates::default()), 0.0);
        let shape: Vec<usize> = logits.size().into_iter().map(|size| size as usize).collect();
        Ok(Tensors::default().with("logits", &shape, Values::F32(floats(&logits)?)))
    })
}

/// The outputs of question answering for a batch, as its ONNX graph returns them.
///
/// # Errors
/// [`crate::error::Error::Engine`] if LibTorch fails.
pub fn answer_outputs(network: &Network, batch: &Batch) -> Result<Tensors> {
    no_grad(|| {
        let inputs = Inputs::new(&batch.tensors(), network.device());
        let [start, end] = network.boundaries(&network.encode(&inputs, DropoutRates::default()), None, 0.0);
        let shape = [batch.inputs.len(), batch.tokens()];
        let outputs = Tensors::default().with("start_logits", &shape, Values::F32(floats(&start)?));
        Ok(outputs.with("end_logits", &shape, Values::F32(floats(&end)?)))
    })
}

/// The documents of a split with all candidates of `network`, as a calibration needs them.
///
/// # Errors
/// As for [`score`].
pub fn candidates(
    network: &Network,
    split: &Split,
    examples: &[Example],
    schema: &EntitySchema,
) -> Result<Vec<Labelled>> {
    let found = mentions(network, split, examples, &schema.of_candidates())?;
    let labelled = |(document, candidates): (&LabelledDocument, Vec<Mention>)| Labelled {
        candidates,
        gold: document.mentions.iter().map(|gold| (gold.chars, gold.entity_type)).collect(),
    };
    Ok(split.documents.iter().zip(found).map(labelled).collect())
}

/// The mentions of each document.
fn mentions(
    network: &Network,
    split: &Split,
    examples: &[Example],
    schema: &EntitySchema,
) -> Result<Vec<Vec<Mention>>> {
    let queries: Vec<ModelInput> = examples.iter().map(|example| example.query.clone()).collect();
    let mut found: Vec<Mentions> = split.documents.iter().map(|_| Mentions::default()).collect();
    let nested = schema.nested == Nesting::Nested;
    let rule = DecodeRule { boundary: 0.0, nested, max_candidates: MAX_CANDIDATES, tolerance: 0.0 };
    let acceptance = Acceptance::new(schema, 0.0);
    let asked = no_grad(|| network.asked(Dropout::default()));
    let reader = network.tags().map(|tags| TagReader::new(tags.clone(), schema, acceptance.clone()));
    for batch in batches(queries, BATCH_TOKENS) {
        signals::check()?;
        let failed = |reason: String| Error::Engine { doing: "score".into(), source: reason.into() };
        let answers = if let Some(reader) = &reader {
            reader.read(&batch, tag_outputs(network, &batch)?).map_err(failed)?
        } else if network.model_kind() == Kind::Qa {
            let rule = AnswerRule { null_threshold: 0.0, tolerance: 0.0 };
            qa::read(&batch, (&rule, &acceptance), answer_outputs(network, &batch)?).map_err(failed)?
        } else if asked.is_none() {
            decode(&batch, &logits(network, &batch)?, &rule, &acceptance)
        } else {
            let Outputs { start, end, span_index, span } = outputs(network, asked.as_ref(), &batch)?;
            let shape = [batch.inputs.len(), schema.types.len(), batch.tokens()];
            let tensors = Tensors::default()
                .with("start_logits", &shape, Values::F32(start))
                .with("end_logits", &shape, Values::F32(end))
                .with("span_index", &[span.len(), 4], Values::I64(span_index))
                .with("span_logits", &[span.len()], Values::F32(span));
            late::read(&batch, schema.types.len(), (&rule, &acceptance), tensors).map_err(failed)?
        };
        for (query, mut answer) in batch.inputs.iter().zip(answers) {
            // Types that nobody labelled there must not displace the others.
            let labelled = &split.documents[query.document].labelled_types;
            answer.spans.retain(|span| labelled.binary_search(&span.entity_type).is_ok());
            found[query.document].add(query, &answer);
        }
    }
    let finish = |(document, found): (&LabelledDocument, Mentions)| found.finish(&document.text, schema.nested);
    Ok(split.documents.iter().zip(found).map(finish).collect())
}

/// The network's logits for a batch of questions and windows, as the ONNX graph of early interaction returns them with boundary logit 0.
///
/// # Errors
/// [`crate::error::Error::Engine`] if LibTorch fails.
pub fn logits(network: &Network, batch: &Batch) -> Result<Logits> {
    let Outputs { start, end, span_index, span } = outputs(network, None, batch)?;
    let span_index =
        span_index.as_chunks::<4>().0.iter().map(|&[row, _, start, end]| [row, start, end].map(|place| place as usize));
    Ok(Logits { start, end, span_index: span_index.collect(), span })
}

/// What a network answers to a batch: start and end logits `[rows, T, tokens]`, `[k, 4]` row, type, start and end of each candidate, and its match
/// logit.
struct Outputs {
    start: Vec<f32>,
    end: Vec<f32>,
    span_index: Vec<i64>,
    span: Vec<f32>,
}

fn outputs(network: &Network, asked: Option<&Asked>, batch: &Batch) -> Result<Outputs> {
    no_grad(|| {
        let inputs = Inputs::new(&batch.tensors(), network.device());
        let hidden = network.encode(&inputs, DropoutRates::default());
        let [start, end] = network.boundaries(&hidden, asked, 0.0);
        let passing = |logits: &Tensor, mask: &Tensor| logits.gt(0.0).logical_and(&mask.unsqueeze(1));
        let pairs =
            passing(&start, &inputs.start_mask).unsqueeze(3).logical_and(&passing(&end, &inputs.end_mask).unsqueeze(2));
        let index = pairs.triu(0).nonzero();
        let count = index.size()[0];
        let mut span = Vec::with_capacity(count as usize);
        if count > 0 {
            let head = network.match_candidates(&hidden, asked, &index);
            for from in (0..count).step_by(CHUNK as usize) {
                span.extend(floats(&head.logits(&head.parts, from, CHUNK.min(count - from), 0.0))?);
            }
        }
        let span_index = Vec::<i64>::try_from(&index.flatten(0, -1)).map_err(torch("read candidates"))?;
        Ok(Outputs { start: floats(&start)?, end: floats(&end)?, span_index, span })
    })
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    Vec::<f32>::try_from(&tensor.flatten(0, -1).to_device(tch::Device::Cpu)).map_err(torch("read logits"))
}
