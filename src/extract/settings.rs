//! Settings of an extraction, as a job or a command has them. In: settings; those that are absent come from the model. Out: the
//! [`ExtractionSpec`] for a model, or an error that names the setting. It must not load weights or ONNX Runtime.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::extract::spec::{ExtractionSpec, ModelReference};
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::model::precision::Precision;
use crate::model::runtime::device::DeviceChoice;
use crate::task::entity_schema::{DEFAULT_THRESHOLD, EntitySchema, EntityType};
use crate::task::gliner::layout::GlinerModel;
use crate::task::kind::{Kind, Task, TaskSettings};
use crate::task::tagger::unknown_type;
use crate::text::tokens::Words;
use crate::text::window::{SHORTEST_WINDOW, WindowRule};

/// Context wordpieces in one window, if neither the settings nor the model name it.
const DEFAULT_WINDOW: usize = 256;

/// How many wordpieces a word has at the most, on the average of a window, before a model of the GLiNER family reads fewer words at once than it
/// could: far more than in any text with spaces.
const PIECES_OF_A_WORD: usize = 4;

/// The default maximum of candidates per input.
pub const DEFAULT_MAX_CANDIDATES: usize = 4096;

/// What is extracted, as a job or a command says it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractionSettings {
    /// A model directory, or `hf://owner/name`.
    pub model: PathBuf,
    /// The entity types.
    pub schema: EntitySchema,
    /// Context wordpieces in one window; by default as in the model's training.
    pub window_tokens: Option<usize>,
    /// Context wordpieces that the next window repeats; by default an eighth.
    pub overlap_tokens: Option<usize>,
    /// What counts as a word; by default as in the model's training.
    pub words: Option<Words>,
    /// The threshold of the types that have none in the schema; by default the model's for each type.
    pub threshold: Option<f32>,
    /// See [`TaskSettings::Mrc`].
    pub boundary_threshold: f32,
    /// See [`TaskSettings::Mrc`].
    pub max_candidates: usize,
    /// See [`TaskSettings::Qa`].
    pub null_threshold: f32,
    /// The precision; by default the device's best.
    pub precision: Option<Precision>,
}

/// Where and how a model runs. It does not change the rows beyond the tolerance of the precision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeSettings {
    /// The device.
    pub device: DeviceChoice,
    /// A shared library of ONNX Runtime to use instead of the pinned one.
    pub library: Option<PathBuf>,
    /// Padded tokens in one batch; by default the fastest number on this machine, measured once and cached.
    pub batch_tokens: Option<usize>,
}

impl ExtractionSettings {
    /// Settings with default values.
    pub fn new(model: impl Into<PathBuf>, schema: EntitySchema) -> Self {
        Self {
            model: model.into(),
            schema,
            window_tokens: None,
            overlap_tokens: None,
            words: None,
            threshold: None,
            boundary_threshold: DEFAULT_THRESHOLD,
            max_candidates: DEFAULT_MAX_CANDIDATES,
            null_threshold: 0.0,
            precision: None,
        }
    }

    /// Checks everything that can be checked without a model. Errors name `origin` and the key of a job file.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value out of range.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let refuse = |key: &str, reason: String, hint: &str| Error::Setting {
            origin: origin.into(),
            key: key.into(),
            reason,
            hint: hint.into(),
        };
        let probabilities = self.threshold.map(|threshold| ("extract.threshold", threshold));
        for (key, value) in probabilities.into_iter().chain([("extract.boundary_threshold", self.boundary_threshold)]) {
            if !(value > 0.0 && value < 1.0) {
                let reason = format!("{value} is not a probability between 0 and 1");
                return Err(refuse(key, reason, "0.5 accepts what is more likely than not"));
            }
        }
        if !self.null_threshold.is_finite() {
            let reason = format!("{} is not a number", self.null_threshold);
            return Err(refuse("extract.null_threshold", reason, "0 accepts what is more likely than no answer"));
        }
        // If no window is set, it is the model's, which is not known here.
        if let Some(tokens) = self.window_tokens {
            self.window_rule(origin, tokens)?;
        }
        if self.max_candidates == 0 {
            let reason = "it must be at least 1, not 0".to_owned();
            return Err(refuse("extract.max_candidates", reason, "leave it out for the default"));
        }
        Ok(())
    }

    /// The specification for the model that the settings name, which is fetched if it lies on the hub, and the opened model.
    ///
    /// # Errors
    /// As for [`ModelDirectory::open`] and [`Self::specify`].
    pub fn resolve(&self) -> Result<(ExtractionSpec, ModelDirectory)> {
        let model = ModelDirectory::open(&resolve::model(&self.model)?)?;
        Ok((self.specify(&model)?, model))
    }

    /// The specification for an opened model: windows, words, and the threshold and temperature of each type are the model's where the settings
    /// leave them open.
    ///
    /// # Errors
    /// [`Error::Setting`] if a window and the longest question do not fit the model, or a tagger has no tag for a type; [`Error::Tokenizer`] if
    /// the tokenizer fails.
    pub fn specify(&self, model: &ModelDirectory) -> Result<ExtractionSpec> {
        if let Some(tags) = model.tags()
            && let Some(name) = unknown_type(tags, &self.schema)
        {
            return Err(Error::Setting {
                origin: self.model.display().to_string(),
                key: "type".into(),
                reason: format!("the model is a tagger, which has no tag for the type `{name}`"),
                hint: format!("it knows {}: use these names in the schema", tags.types().join(", ")),
            });
        }
        self.check_for(model)?;
        let tokenizer = model.tokenizer(self.words)?;
        let mut spec = ExtractionSpec {
            model: ModelReference { path: self.model.clone(), hash: model.model_hash().to_owned() },
            schema: self.with_scores(&model.manifest().types),
            words: model.words(self.words),
            windows: WindowRule { tokens: SHORTEST_WINDOW, overlap: 0, words: None },
            task: match model.manifest().kind {
                Kind::Mrc | Kind::Questions => TaskSettings::Mrc {
                    boundary_threshold: self.boundary_threshold,
                    max_candidates: self.max_candidates,
                },
                Kind::Late => TaskSettings::Late {
                    boundary_threshold: self.boundary_threshold,
                    max_candidates: self.max_candidates,
                },
                Kind::Tagger => TaskSettings::Tagger,
                Kind::Qa => TaskSettings::Qa { null_threshold: self.null_threshold },
                Kind::Gliner => TaskSettings::Gliner { max_candidates: self.max_candidates, all: false },
                #[cfg(test)]
                Kind::OnePass => TaskSettings::OnePass,
            },
            precision: self.precision,
        };
        spec.windows = self.windows(&spec.task(&tokenizer, model, 0.0)?, model)?;
        Ok(spec)
    }

    /// Checks what a kind of model needs of the schema, and what it does not let be set.
    fn check_for(&self, model: &ModelDirectory) -> Result<()> {
        let origin = self.model.display().to_string();
        let refuse = |key: &str, reason: String, hint: &str| {
            Err(Error::Setting { origin: origin.clone(), key: key.into(), reason, hint: hint.into() })
        };
        match model.manifest().kind {
            Kind::Gliner if self.words.is_some() => refuse(
                "extract.words",
                "the model is of the GLiNER family, which has words of its own".to_owned(),
                "leave it out",
            ),
            Kind::Mrc | Kind::Late | Kind::Qa => match self.schema.without_question() {
                Some(name) => refuse(
                    "type.question",
                    format!("the type `{name}` has none, and the model is asked questions"),
                    "add one, such as question = \"Which people are named?\"; a model of kind gliner or tagger needs none",
                ),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The schema with a threshold and a temperature for every type: its own, else the settings', else what the model has for the same question.
    fn with_scores(&self, known: &[EntityType]) -> EntitySchema {
        let mut schema = self.schema.clone();
        for one in &mut schema.types {
            // The model never sees the name, but types can share a question.
            let same = known.iter().filter(|known| known.words() == one.words());
            let known = same.max_by_key(|known| known.name == one.name);
            let threshold = one.threshold.or(self.threshold).or(known.and_then(|known| known.threshold));
            one.threshold = threshold.or(Some(DEFAULT_THRESHOLD));
            one.temperature = one.temperature.or(known.and_then(|known| known.temperature)).or(Some(1.0));
        }
        schema
    }

    /// The window rule: from the settings, or else from the model.
    fn windows(&self, task: &Task, model: &ModelDirectory) -> Result<WindowRule> {
        if let Some(gliner) = model.gliner() {
            return self.gliner_windows(task, gliner, model.manifest().window_tokens);
        }
        let longest = model.manifest().max_length;
        let origin = self.model.display().to_string();
        let available = longest.saturating_sub(task.longest_input(0));
        let default = model.manifest().window_tokens.unwrap_or(DEFAULT_WINDOW).min(available);
        let tokens = self.window_tokens.unwrap_or(default);
        let shorten = |reason: &dyn Fn(&str) -> String| {
            let name = task.longest_question().map_or("", |index| &self.schema.types[index].name);
            let hint = "shorten the question".to_owned();
            Err(Error::Setting { origin: origin.clone(), key: "question".into(), reason: reason(name), hint })
        };
        if available < SHORTEST_WINDOW {
            return shorten(&|name| {
                format!("that of type `{name}` leaves {available} of the model's {longest} tokens for the text")
            });
        }
        let asked = task.longest_asked();
        if asked > longest {
            return shorten(&|name| format!("that of type `{name}` has {asked} tokens, and the model takes {longest}"));
        }
        let needed = task.longest_input(tokens);
        if needed > longest {
            let in_the_window = asked == 0 && task.longest_question().is_some();
            let beside = if in_the_window { "the longest question" } else { "the special tokens" };
            return Err(Error::Setting {
                origin,
                key: "extract.window_tokens".into(),
                reason: format!("{tokens} and {beside} need {needed} tokens, and the model takes {longest}"),
                hint: format!("the maximum is {available}"),
            });
        }
        self.window_rule(&origin, tokens)
    }

    /// The window rule of a model of the GLiNER family. A window has as many words as the model reads at once, if its tokens fit. Where inputs are
    /// limited in tokens, the prompt of all types leaves at least half of them to the text, else it is split.
    fn gliner_windows(&self, task: &Task, model: &GlinerModel, trained: Option<usize>) -> Result<WindowRule> {
        let origin = self.model.display().to_string();
        let refuse = |key: &str, reason: String, hint: String| {
            Err(Error::Setting { origin: origin.clone(), key: key.into(), reason, hint })
        };
        let Task::Gliner(gliner) = task else { return self.window_rule(&origin, DEFAULT_WINDOW) };
        let longest = model.max_tokens;
        let [whole, one] = [gliner.prompts.whole_tokens(), gliner.prompts.longest_tokens()];
        let special = gliner.special_tokens();
        let room = longest.saturating_sub(special);
        let most = room.saturating_sub(one);
        if most < SHORTEST_WINDOW {
            let name = gliner.prompts.longest().map_or("", |index| &self.schema.types[index].name);
            let reason = format!("that of type `{name}` leaves {most} of the model's {longest} tokens for the text");
            return refuse("question", reason, "shorten the question, or else the name".to_owned());
        }
        let wanted = trained.unwrap_or(PIECES_OF_A_WORD * model.max_words);
        let default = wanted.min(room.saturating_sub(whole).max(room / 2)).min(most);
        let tokens = self.window_tokens.unwrap_or(default);
        if tokens > most {
            let needed = tokens + one + special;
            let reason = format!("{tokens} and the longest type need {needed} tokens, and the model takes {longest}");
            return refuse("extract.window_tokens", reason, format!("the maximum is {most}"));
        }
        let overlap = self.overlap_tokens.or(Some(tokens.min(model.max_words) / 8));
        let named = Self { overlap_tokens: overlap, ..self.clone() };
        Ok(WindowRule { words: Some(model.max_words), ..named.window_rule(&origin, tokens)? })
    }

    /// Windows of `tokens` tokens. Errors name `origin`.
    fn window_rule(&self, origin: &str, tokens: usize) -> Result<WindowRule> {
        let refuse = |key: &str, reason: String, hint: &str| {
            Err(Error::Setting { origin: origin.into(), key: key.into(), reason, hint: hint.into() })
        };
        if tokens < SHORTEST_WINDOW {
            let hint = format!("the minimum is {SHORTEST_WINDOW}; if it is left out, the model decides");
            return refuse("extract.window_tokens", format!("{tokens} is too short a context"), &hint);
        }
        WindowRule::new(tokens, self.overlap_tokens).or_else(|overlap| {
            let reason = format!("{overlap} is more than half of window_tokens ({tokens})");
            refuse("extract.overlap_tokens", reason, "if it is left out, it is an eighth of the window")
        })
    }
}
