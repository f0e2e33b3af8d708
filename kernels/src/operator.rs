//! The encoder as one operator of a graph. In: states and attention mask of a padded batch; the weights as constants. Out: the states after
//! all layers, 0 where the mask is. It must not know what stands before and after it in the graph.
//!
//! Domain [`DOMAIN`], operator [`Int8Encoder`], version 1:
//!
//! | input | type | shape |
//! |---|---|---|
//! | states | float | `[batch, tokens, hidden]` |
//! | mask | int64 | `[batch, tokens]`: ones, then zeros |
//! | per layer: query, key, value, output, inner, outer | int8, float, float | `[outputs, inputs]`, `[outputs]`, `[outputs]` |
//! | then: scale and shift of both normalizations | float | `[hidden]` |
//!
//! Attributes: `heads` (int), `epsilon` (float).

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput};
use ort::value::{DowncastableTarget, TensorElementType, TensorValueType, ValueRef};

use crate::encoder::{Encoder, Scratch};
use crate::weights::{LayerWeights, Linear, Norm, Shape};
use crate::workers::Workers;

/// The domain of the operator.
pub const DOMAIN: &str = "quarry";
/// The name of the operator.
pub const NAME: &str = "Int8Encoder";
/// Inputs before the weights.
const ACTIVATIONS: usize = 2;
/// Constants of a layer: six products of three, two normalizations of two.
const PER_LAYER: usize = 6 * 3 + 2 * 2;

/// Makes the domain, for `SessionBuilder::with_operators`. `threads`: those of the session.
pub fn domain(threads: usize) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?.add(Int8Encoder { threads: threads.max(1) })
}

/// The operator's description.
#[derive(Debug, Clone, Copy)]
pub struct Int8Encoder {
    threads: usize,
}

impl Operator for Int8Encoder {
    type Kernel<'attr> = EncoderKernel;

    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [
            OperatorInput::required(TensorElementType::Float32),
            OperatorInput::required(TensorElementType::Int64),
            OperatorInput::variadic(PER_LAYER),
        ]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        let layers = (context.inputs()?.len() - ACTIVATIONS) / PER_LAYER;
        let heads = context.get::<i64>("heads").ok_or_else(|| missing("the attribute `heads`"))?;
        let epsilon = context.get::<f32>("epsilon").ok_or_else(|| missing("the attribute `epsilon`"))?;
        let constants: Vec<Constants<'attr>> = (0..layers)
            .map(|layer| Constants::read(context, ACTIVATIONS + layer * PER_LAYER))
            .collect::<Result<_, _>>()?;
        let first = constants.first().ok_or_else(|| missing("a layer"))?;
        let size = |linear: usize| first.linears[linear].1.extract_tensor().1.len();
        let heads = usize::try_from(heads).map_err(|_| missing("a positive number of heads"))?;
        let shape = Shape { hidden: size(0), heads, feed_forward: size(4) };
        let weights: Vec<LayerWeights<'_>> = constants.iter().map(|constants| constants.weights(epsilon)).collect();
        let encoder = Encoder::new(&weights, shape).map_err(|error| failed(&error))?;
        Ok(EncoderKernel { encoder, threads: self.threads, scratch: Scratch::new(), states: Vec::new() })
    }
}

/// Constant floats.
type Floats<'a> = ValueRef<'a, TensorValueType<f32>>;

/// The constants of a layer.
struct Constants<'a> {
    /// Weights, scales and biases.
    linears: Vec<(ValueRef<'a, TensorValueType<i8>>, Floats<'a>, Floats<'a>)>,
    /// Scales and shifts.
    norms: Vec<Floats<'a>>,
}

impl<'a> Constants<'a> {
    fn read(context: &KernelContext<'a>, first: usize) -> ort::Result<Self> {
        fn constant<'a, T: DowncastableTarget>(
            context: &KernelContext<'a>,
            index: usize,
        ) -> ort::Result<ValueRef<'a, T>> {
            context.constant_input(index)
        }
        let linear = |index: usize| -> ort::Result<_> {
            let start = first + 3 * index;
            Ok((constant(context, start)?, constant(context, start + 1)?, constant(context, start + 2)?))
        };
        let norm = |index: usize| constant(context, first + 18 + index);
        Ok(Self {
            linears: (0..6).map(linear).collect::<Result<_, _>>()?,
            norms: (0..4).map(norm).collect::<Result<_, _>>()?,
        })
    }

    fn weights(&self, epsilon: f32) -> LayerWeights<'_> {
        let linear = |index: usize| {
            let (weights, scales, biases) = &self.linears[index];
            Linear {
                weights: weights.extract_tensor().1,
                scales: scales.extract_tensor().1,
                biases: biases.extract_tensor().1,
            }
        };
        let norm = |index: usize| Norm {
            scales: self.norms[index].extract_tensor().1,
            shifts: self.norms[index + 1].extract_tensor().1,
            epsilon,
        };
        LayerWeights {
            query: linear(0),
            key: linear(1),
            value: linear(2),
            output: linear(3),
            attention_norm: norm(0),
            inner: linear(4),
            outer: linear(5),
            feed_forward_norm: norm(2),
        }
    }
}

/// The operator in a session, which runs one batch at a time.
pub struct EncoderKernel {
    encoder: Encoder,
    threads: usize,
    scratch: Scratch,
    /// `[tokens of the batch without padding, hidden]`.
    states: Vec<f32>,
}

impl Kernel for EncoderKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let input = |index: usize| context.input(index)?.ok_or_else(|| missing("an input"));
        let (states, mask) = (input(0)?, input(1)?);
        let (shape, states) = states.try_extract_tensor::<f32>()?;
        let (_, mask) = mask.try_extract_tensor::<i64>()?;
        let tokens = shape.get(1).map_or(0, |tokens| usize::try_from(*tokens).unwrap_or(0)).max(1);
        let hidden = self.encoder.shape().hidden;
        let lengths: Vec<usize> =
            mask.chunks(tokens).map(|row| row.iter().take_while(|value| **value != 0).count()).collect();
        let row = tokens * hidden;
        if states.len() != lengths.len() * row {
            return Err(missing("a mask of the states' shape"));
        }
        self.states.clear();
        for (row, length) in states.chunks(row).zip(&lengths) {
            self.states.extend_from_slice(&row[..length * hidden]);
        }
        let workers = OfSession { context, threads: self.threads };
        self.encoder
            .forward(&mut self.states, &lengths, &mut self.scratch, &workers)
            .map_err(|error| failed(&error))?;
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(|| missing("the output"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let mut rest = &self.states[..];
        for (row, length) in output.chunks_mut(row).zip(&lengths) {
            let (sequence, following) = rest.split_at(length * hidden);
            row[..sequence.len()].copy_from_slice(sequence);
            row[sequence.len()..].fill(0.0);
            rest = following;
        }
        Ok(())
    }
}

/// The threads of the session.
struct OfSession<'a> {
    context: &'a ComputeContext,
    threads: usize,
}

impl Workers for OfSession<'_> {
    fn count(&self) -> usize {
        self.threads
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        // If the session refuses, nothing has run, and the encoder says that the batch is incomplete.
        let _refused = self.context.par_for(self.threads, self.threads, work);
    }
}

fn missing(what: &str) -> ort::Error {
    ort::Error::new(format!("the operator Int8Encoder lacks {what}"))
}

fn failed(error: &crate::Error) -> ort::Error {
    ort::Error::new(error.to_string())
}
