//! Models of the GLiNER family: spans and scores against those that the package `gliner` finds (`tests/fixtures/gliner_figures.py`), whole commands
//! with them, and what is refused before work.

mod refused;
mod runs;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use quarry::extract::extractor::Extractor;
use quarry::extract::settings::{ExtractionSettings, RuntimeSettings};
use quarry::model::runtime::device::{Device, DeviceChoice};
use quarry::task::entity_schema::{EntitySchema, EntityType, Nesting};
use serde::Deserialize;

use crate::support::{Dir, project};

/// What the script computed.
#[derive(Deserialize)]
struct Figures {
    texts: Vec<String>,
    models: BTreeMap<String, Vec<Case>>,
}

/// The words of a type, start and end in characters, and score.
type Found = (String, usize, usize, f32);

#[derive(Deserialize)]
struct Case {
    types: Vec<String>,
    nested: Nesting,
    threshold: f32,
    /// Of each text; `None` where the package cuts the text off.
    mentions: Vec<Option<Vec<Found>>>,
}

fn figures() -> Figures {
    serde_json::from_slice(&std::fs::read(project().join("tests/fixtures/gliner.json")).unwrap()).unwrap()
}

/// Writes the folder of a model, as the package exports it.
fn exported(dir: &Dir, name: &str) -> PathBuf {
    let file = std::fs::File::open(project().join("tests/fixtures/gliner.zip")).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let root = dir.path(name);
    std::fs::create_dir_all(&root).unwrap();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let Some(file) = entry.name().strip_prefix(&format!("{name}/")).map(|file| root.join(file)) else { continue };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    root
}

fn opened(model: &Path, types: Vec<EntityType>, nested: Nesting, threshold: f32) -> Extractor {
    let schema = EntitySchema { nested, types };
    let settings = ExtractionSettings { threshold: Some(threshold), ..ExtractionSettings::new(model, schema) };
    let (spec, model) = settings.resolve().unwrap();
    let runtime =
        RuntimeSettings { device: DeviceChoice::Named(Device::Cpu.into()), library: None, batch_tokens: Some(512) };
    Extractor::with_model(&spec, &model, &runtime).unwrap()
}

/// The mentions of a text.
fn mentions(extractor: &Extractor, text: &str) -> Vec<Found> {
    let types = &extractor.spec().schema.types;
    let found = extractor.extract(text).unwrap();
    let found =
        found.iter().map(|one| (types[one.entity_type].words().to_owned(), one.chars.start, one.chars.end, one.score));
    found.collect()
}

#[test]
fn spans_and_scores_are_those_of_the_package() {
    let Figures { texts, models } = figures();
    let dir = Dir::new();
    let (mut answers, mut most) = (0, 0.0_f32);
    assert_eq!(models.len(), 4);
    for (name, cases) in &models {
        let model = exported(&dir, name);
        for Case { types, nested, threshold, mentions: expected } in cases {
            let asked = types.iter().enumerate().map(|(number, words)| EntityType::new(format!("T{number}"), words));
            let extractor = opened(&model, asked.collect(), *nested, *threshold);
            for (text, expected) in texts.iter().zip(expected) {
                let Some(expected) = expected else { continue };
                let found = mentions(&extractor, text);
                let places = |all: &[Found]| -> Vec<(String, usize, usize)> {
                    all.iter().map(|(words, start, end, _)| (words.clone(), *start, *end)).collect()
                };
                let case = format!("{name}, {types:?}, nested {nested}, threshold {threshold}: {text}");
                assert_eq!(places(&found), places(expected), "{case}");
                for (one, other) in found.iter().zip(expected) {
                    most = most.max((one.3 - other.3).abs());
                }
                answers += 1;
            }
        }
    }
    assert!(answers > 300, "{answers}");
    assert!(most < 1e-4, "the largest difference of a score is {most}");
}

#[test]
fn a_type_is_asked_by_its_question_or_else_its_name() {
    let dir = Dir::new();
    let model = exported(&dir, "span");
    let text = &figures().texts[0];
    let asked = |types: Vec<EntityType>| {
        let found = opened(&model, types, Nesting::Nested, 0.35);
        let found = found.extract(text).unwrap();
        found.iter().map(|one| (one.entity_type, one.bytes, one.score.to_bits())).collect::<Vec<_>>()
    };
    let named = asked(vec![EntityType::new("person", ""), EntityType::new("place", "")]);
    assert!(!named.is_empty());
    assert_eq!(named, asked(vec![EntityType::new("PER", "person"), EntityType::new("LOC", "place")]));
    assert_ne!(named, asked(vec![EntityType::new("PER", "human"), EntityType::new("LOC", "place")]));
}
