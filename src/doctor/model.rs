//! The model directory. In: its path. Out: whether its files are those that its quarry.json describes, its tokenizer works, and the
//! job's questions fit it. It may not open a session.

use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::error::Error;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::text::document::Reject;

pub(super) fn look(subject: &Subject, report: &mut Report) {
    let place = match resolve::here(&subject.model) {
        Ok(Some(place)) => place,
        Ok(None) => {
            let text = format!("`{}` is not in the hub's cache: the first run fetches it", subject.model.display());
            return report.warning("model", text, "start a run once where there is a network");
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
    let found = place.origin.map_or_else(String::new, |origin| format!(", from {origin}"));
    report.ok(
        "model",
        format!("{}{found}: trained on {trained}; {} tokens at the most", place.path.display(), manifest.max_length),
    );
    let hash = model.model_hash();
    if manifest.files.is_empty() {
        let text = format!("hash {hash}; nothing says whether the files are whole: quarry.json lists none");
        report.warning("model files", text, "`quarry export` writes a directory with the hashes of its files");
    } else {
        report.ok(
            "model files",
            format!("hash {hash}; {} files are those that quarry.json describes", manifest.files.len()),
        );
    }
    match tokenizer(subject, &model) {
        Ok(text) => report.ok("tokenizer", text),
        Err(error) => report.error("tokenizer", &error),
    }
}

fn tokenizer(subject: &Subject, model: &ModelDirectory) -> Result<String, Error> {
    if let Some(job) = &subject.job {
        let (tokenizer, questions, windows) = job.questions(model)?;
        let longest = questions.longest_query(windows.tokens);
        return Ok(format!(
            "{} wordpieces; windows of {}, the longest query of the job has {longest} tokens",
            tokenizer.vocabulary_size(),
            windows.tokens
        ));
    }
    let tokenizer = model.tokenizer(None)?;
    let tried = tokenizer.ids("Which people are named?");
    let failed = |reject: Reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() };
    let tried = tried.map_err(failed)?;
    Ok(format!("{} wordpieces; a question of four words has {} of them", tokenizer.vocabulary_size(), tried.len()))
}
