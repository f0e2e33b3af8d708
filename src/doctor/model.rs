//! The model directory. In: its path. Out: whether its files match its quarry.json, its tokenizer works, and the job's questions fit
//! its maximum length. It must not open a session.

use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::error::Error;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::task::kind::{Kind, Own};
use crate::text::document::Reject;

pub(super) fn check(subject: &Subject, report: &mut Report) {
    let place = match resolve::here(&subject.model) {
        Ok(Some(place)) => place,
        Ok(None) => {
            let text = format!("`{}` is not in the hub's cache: the first run downloads it", subject.model.display());
            return report.warning("model", text, "start one run with network access");
        }
        Err(error) => return report.error("model", &error),
    };
    let model = match ModelDirectory::open(&place.path) {
        Ok(model) => model,
        Err(error) => return report.error("model", &error),
    };
    let manifest = model.manifest();
    let types: Vec<&str> = manifest.types.iter().map(|one| one.name.as_str()).collect();
    let trained = if types.is_empty() { "unknown types".to_owned() } else { types.join(", ") };
    let kind = match (manifest.kind, model.own()) {
        (Kind::Gliner, Own::Gliner(gliner)) => {
            format!("gliner ({}; {} words at once), ", gliner.layout.scores, gliner.max_words)
        }
        (Kind::Tagger, Own::Tags(tags)) => format!("tagger ({}), ", tags.scheme()),
        (Kind::Qa, _) => "qa, ".to_owned(),
        _ => String::new(),
    };
    let origin = place.origin.map_or_else(String::new, |origin| format!(", from {origin}"));
    report.ok(
        "model",
        format!("{}{origin}: {kind}trained on {trained}; at most {} tokens", place.path.display(), manifest.max_length),
    );
    let hash = model.model_hash();
    if manifest.files.is_empty() {
        let text = format!("hash {hash}; the files cannot be verified: quarry.json lists no hashes");
        report.warning(
            "model files",
            text,
            "write the directory with `quarry export`, which records the hash of each file",
        );
    } else {
        report.ok("model files", format!("hash {hash}; {} files match quarry.json", manifest.files.len()));
    }
    let encoder =
        model.config().filter(|_| model.foreign_graph().is_none()).map(|config| config.encoder.architecture());
    if let Some(reason) = encoder.and_then(|encoder| encoder.beyond_fused_attention()) {
        report.ok("graph", format!("attention in standard operators, because no fused one has {reason}"));
    }
    match tokenizer(subject, &model) {
        Ok(text) => report.ok("tokenizer", text),
        Err(error) => report.error("tokenizer", &error),
    }
}

fn tokenizer(subject: &Subject, model: &ModelDirectory) -> Result<String, Error> {
    if let Some(job) = &subject.job {
        let spec = job.extraction.specify(model)?;
        let tokenizer = model.tokenizer(Some(spec.words))?;
        let longest = spec.task(&tokenizer, model, 0.0)?.longest_input(spec.windows.tokens);
        return Ok(format!(
            "{} wordpieces; windows of {} tokens, longest query of the job {longest} tokens",
            tokenizer.vocabulary_size(),
            spec.windows.tokens
        ));
    }
    let tokenizer = model.tokenizer(None)?;
    let encoded = tokenizer.ids("Which people are named?");
    let failed = |reject: Reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() };
    let encoded = encoded.map_err(failed)?;
    Ok(format!(
        "{} wordpieces; a test question of four words has {} tokens",
        tokenizer.vocabulary_size(),
        encoded.len()
    ))
}
