//! How many tokens a batch should have: found by asking, and remembered per user. In: waiting sessions, queries as long
//! as the job's longest, what the finding holds for. Out: a budget of padded tokens. It may not change an answer: queries do not depend on their
//! batch.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::machine::environment::cache_folder;
use crate::machine::files::write_whole;
use crate::machine::hash::short_hash;
use crate::model::runtime::device::Device;
use crate::model::runtime::hardware;
use crate::model::runtime::pool::{PoolCounters, SessionPool};
use crate::task::batch::QueryBatch;

/// Rates that differ by less are as good as one, and the smaller budget takes less memory.
const SAME: f64 = 1.015;
/// After so many larger budgets in a row that are no faster, a still larger one is not tried.
const PATIENCE: usize = 2;
/// How often each budget is measured; the best counts, for other programs only ever slow it down.
const TIMES: usize = 2;

/// What a budget was found for: another one may suit anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuningKey {
    /// The model directory's hash.
    pub model: String,
    /// The version of what writes graphs.
    pub writer: u32,
    /// Where it is computed.
    pub device: String,
    /// The name of the processor or card: per-user folders may be shared by machines.
    pub hardware: String,
    /// In what.
    pub precision: String,
    /// By which library.
    pub library: String,
    /// On how many cores.
    pub cores: usize,
    /// The longest query, in tokens.
    pub longest: usize,
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// The most padded tokens of a batch.
    pub batch_tokens: usize,
    /// Tokens answered in a second by such batches; none where nothing could be measured.
    pub tokens_per_second: Option<f64>,
}

/// What is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    batch_tokens: usize,
    tokens_per_second: f64,
    found_for: TuningKey,
}

impl TuningKey {
    fn file(&self, folder: &Path) -> PathBuf {
        let key = short_hash(format!("{self:?}").as_bytes(), 16);
        folder.join(format!("budget-{key}.json"))
    }

    /// The budget that was found for them before.
    fn remembered(&self, folder: &Path) -> Option<usize> {
        let text = std::fs::read_to_string(self.file(folder)).ok()?;
        let remembered: Remembered = serde_json::from_str(&text).ok()?;
        (remembered.found_for == *self && remembered.batch_tokens > 0).then_some(remembered.batch_tokens)
    }

    /// Keeps a finding, and says whether it could. One that cannot be kept is found again next time.
    fn remember(&self, folder: &Path, batch_tokens: usize, tokens_per_second: f64) -> bool {
        let remembered = Remembered { batch_tokens, tokens_per_second, found_for: self.clone() };
        let path = self.file(folder);
        let made = std::fs::create_dir_all(folder);
        let made = made.map_err(|source| Error::Write { path: path.clone(), source: source.into() });
        let text = serde_json::to_vec_pretty(&remembered).unwrap_or_default();
        let kept = made.and_then(|()| write_whole(&path, &text));
        if let Err(error) = &kept {
            tracing::debug!(%error, "the budget of batches is not remembered");
        }
        kept.is_ok()
    }
}

/// The budget that is `named`, else the one that was found under the same tuning_key before, else what `search` finds now, which is
/// remembered in the per-user cache if it could be measured. `note` is told what was found.
pub fn settle(
    named: Option<usize>,
    tuning_key: &TuningKey,
    note: &dyn Fn(&str),
    search: impl FnOnce() -> Result<Finding>,
) -> Result<usize> {
    settle_in(cache_folder().ok().as_deref(), named, tuning_key, note, search)
}

/// The same by way of a folder of one's own, or of none.
fn settle_in(
    folder: Option<&Path>,
    named: Option<usize>,
    tuning_key: &TuningKey,
    note: &dyn Fn(&str),
    search: impl FnOnce() -> Result<Finding>,
) -> Result<usize> {
    if let Some(known) = named.or_else(|| tuning_key.remembered(folder?)) {
        return Ok(known);
    }
    let Finding { batch_tokens, tokens_per_second } = search()?;
    if let Some(rate) = tokens_per_second {
        let kept = folder.is_some_and(|folder| tuning_key.remember(folder, batch_tokens, rate));
        let kept = if kept { "; remembered" } else { "" };
        note(&format!("batches of {batch_tokens} tokens are fastest here ({rate:.0} tokens/s){kept}"));
    }
    Ok(batch_tokens)
}

/// The budgets that are tried, from and to: what suits a CPU's caches, what fills a card.
const fn range(device: Device) -> (usize, usize) {
    match device {
        Device::Cpu => (1 << 10, 1 << 13),
        Device::Cuda(_) => (1 << 13, 1 << 19),
    }
}

/// What is taken where nothing can be measured.
const fn usual(device: Device) -> usize {
    match device {
        Device::Cpu => 1 << 11,
        Device::Cuda(_) => 1 << 14,
    }
}

/// The fastest budget for batches of queries like those of `sample`: doubled until the rate stops growing or the device's memory ends.
/// That computes at most 45 thousand tokens on a CPU, most often 15, and three million on a card: 3 s, at most 8, on a CPU that answers
/// 6,000 tokens a second, and 2 s on a card that answers two million. The sessions' counters are as before. On a CPU that is busy with
/// other things, the usual budget, unmeasured; where memory is too small for the first, that one, and `note` is told.
pub fn search(pool: &SessionPool, device: Device, sample: &QueryBatch, note: &dyn Fn(&str)) -> Result<Finding> {
    let unmeasured = |batch_tokens: usize| Ok(Finding { batch_tokens, tokens_per_second: None });
    if sample.queries.is_empty() || device == Device::Cpu && hardware::busy() {
        return unmeasured(usual(device));
    }
    let longest = sample.tokens();
    let halvings = || {
        let PoolCounters { halved, cut, .. } = pool.counters();
        halved.load(Ordering::Relaxed) + cut.load(Ordering::Relaxed)
    };
    let rate = |budget: usize| -> Result<Option<f64>> {
        let rows = (budget / longest).max(1);
        let (mut best, mut tokens) = (Duration::MAX, 0);
        for _ in 0..TIMES {
            let before = halvings();
            let batch = QueryBatch { queries: sample.queries.iter().cycle().take(rows).cloned().collect() };
            tokens = batch.real_tokens();
            best = best.min(pool.answer(batch)?);
            if halvings() > before {
                return Ok(None);
            }
        }
        Ok(Some(tokens as f64 / best.as_secs_f64().max(1e-9)))
    };
    // The first answer allocates what the later ones use.
    pool.answer(sample.clone())?;
    let found = grow(range(device), rate)?;
    pool.counters().clear();
    let Some((batch_tokens, rate)) = found else {
        let (smallest, _) = range(device);
        note(&format!("the device's memory is too small for batches of {smallest} tokens: they are halved"));
        return unmeasured(smallest);
    };
    Ok(Finding { batch_tokens, tokens_per_second: Some(rate) })
}

/// Doubles the budget while that makes it faster, and takes the smallest that is as fast as the fastest; `rate` says none where there is
/// no more memory, and where it does so of the first, nothing was found. What seems faster is compared with a second look at what was
/// fastest before.
fn grow(
    (first, last): (usize, usize),
    mut rate: impl FnMut(usize) -> Result<Option<f64>>,
) -> Result<Option<(usize, f64)>> {
    let Some(found) = rate(first)? else { return Ok(None) };
    let mut tried = vec![(first, found)];
    // Where the rate grew last, and how many were tried since.
    let (mut best, mut slower) = (0, 0);
    let mut budget = first;
    while budget < last && slower < PATIENCE {
        budget *= 2;
        let Some(found) = rate(budget)? else { break };
        let (before, known) = tried[best];
        if found > known * SAME {
            tried[best].1 = known.max(rate(before)?.unwrap_or(0.0));
        }
        tried.push((budget, found));
        if found > tried[best].1 * SAME {
            (best, slower) = (tried.len() - 1, 0);
        } else {
            slower += 1;
        }
    }
    let most = tried.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    Ok(tried.into_iter().find(|(_, rate)| rate * SAME >= most))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn tuning_key() -> TuningKey {
        TuningKey {
            model: "0f".into(),
            writer: 3,
            device: "cuda:0".into(),
            hardware: "NVIDIA H200".into(),
            precision: "fp16".into(),
            library: "1.31.0".into(),
            cores: 16,
            longest: 280,
        }
    }

    /// TuningKey that differ in one thing each.
    fn others() -> [TuningKey; 8] {
        let same = tuning_key;
        [
            TuningKey { model: "0e".into(), ..same() },
            TuningKey { writer: 4, ..same() },
            TuningKey { device: "cuda:1".into(), ..same() },
            TuningKey { hardware: "NVIDIA T4".into(), ..same() },
            TuningKey { precision: "fp32".into(), ..same() },
            TuningKey { library: "1.32.0".into(), ..same() },
            TuningKey { cores: 8, ..same() },
            TuningKey { longest: 281, ..same() },
        ]
    }

    /// What is settled on where a search would find `found`, whether there was one, and what was said.
    fn settled(folder: &Path, named: Option<usize>, found: Finding) -> (usize, bool, String) {
        let (searched, said) = (Cell::new(false), RefCell::new(String::new()));
        let note = |text: &str| said.borrow_mut().push_str(text);
        let search = || {
            searched.set(true);
            Ok(found)
        };
        let settled = settle_in(Some(folder), named, &tuning_key(), &note, search).unwrap();
        (settled, searched.get(), said.take())
    }

    const FOUND: Finding = Finding { batch_tokens: 65_536, tokens_per_second: Some(1_900_000.4) };

    #[test]
    fn a_budget_is_remembered_for_its_circumstances_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("not there yet");
        assert_eq!(tuning_key().remembered(&cache), None);
        assert!(tuning_key().remember(&cache, 4096, 1.0));
        assert_eq!(tuning_key().remembered(&cache), Some(4096));
        for other in others() {
            assert_eq!(other.remembered(&cache), None, "{other:?}");
            // Nor does it help that a file has the right name.
            std::fs::copy(tuning_key().file(&cache), other.file(&cache)).unwrap();
            assert_eq!(other.remembered(&cache), None, "{other:?}");
        }
    }

    #[test]
    fn a_second_run_does_not_search() {
        let folder = tempfile::tempdir().unwrap();
        let said = "batches of 65536 tokens are fastest here (1900000 tokens/s); remembered";
        assert_eq!(settled(folder.path(), None, FOUND), (65_536, true, said.into()));
        assert_eq!(settled(folder.path(), None, FOUND), (65_536, false, String::new()));
        // What the job says counts, whatever is remembered.
        assert_eq!(settled(folder.path(), Some(300), FOUND), (300, false, String::new()));
    }

    #[test]
    fn a_budget_that_the_job_names_is_not_searched_for_and_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(settled(folder.path(), Some(300), FOUND), (300, false, String::new()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_could_not_be_measured_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let usual = Finding { batch_tokens: 2048, tokens_per_second: None };
        for _ in 0..2 {
            assert_eq!(settled(folder.path(), None, usual), (2048, true, String::new()));
        }
        // Nor what there is no folder for.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (budget, searched, said) = settled(&file, None, FOUND);
        assert!(budget == 65_536 && searched && said.ends_with("tokens/s)"), "{said}");
    }

    #[test]
    fn a_damaged_memory_is_found_anew() {
        let folder = tempfile::tempdir().unwrap();
        settled(folder.path(), None, FOUND);
        let path = tuning_key().file(folder.path());
        let text = std::fs::read_to_string(&path).unwrap();
        let (half, none, less) = (&text[..text.len() / 2], text.replace("65536", "0"), text.replace("65536", "-1"));
        for damaged in [half, "", "{}", none.as_str(), less.as_str()] {
            std::fs::write(&path, damaged).unwrap();
            let (budget, searched, _) = settled(folder.path(), None, FOUND);
            assert!(budget == 65_536 && searched, "{damaged}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    fn grown(rates: &[f64]) -> (usize, usize) {
        let mut asked = 0;
        let found = grow((1, 1 << 10), |budget| {
            asked += 1;
            Ok(rates.get(budget.ilog2() as usize).copied())
        });
        (found.unwrap().unwrap().0, asked)
    }

    #[test]
    fn a_budget_grows_until_the_rate_does_not() {
        assert_eq!(grown(&[10.0, 19.0, 30.0, 30.4, 30.2, 99.0]), (4, 7));
        // One slow measurement does not end it.
        assert_eq!(grown(&[10.0, 9.0, 20.0, 20.0, 20.0]), (4, 6));
        // Memory does.
        assert_eq!(grown(&[10.0, 20.0]), (2, 4));
    }

    #[test]
    fn the_fastest_is_taken_and_the_smallest_of_those_that_are_as_fast() {
        // Four per cent are worth it each time, and however little each is, all together are not missed.
        assert_eq!(grown(&[100.0, 104.0, 108.0, 112.0, 112.5, 111.0]).0, 8);
        assert_eq!(grown(&[100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 105.0, 105.0]).0, 16);
        // One per cent is not.
        assert_eq!(grown(&[100.0, 101.0, 100.5]).0, 1);
        assert_eq!(grown(&[100.0, 119.0, 120.0, 90.0]).0, 2);
    }

    #[test]
    fn what_was_slow_by_chance_gets_a_second_look() {
        let mut asked = [0; 4];
        let found = grow((1, 8), |budget| {
            let at = budget.ilog2() as usize;
            asked[at] += 1;
            // The machine was busy while the smallest was measured first.
            Ok(Some(if budget == 1 && asked[0] == 1 { 5.0 } else { 10.0 }))
        });
        assert_eq!(found.unwrap().unwrap().0, 1);
    }

    #[test]
    fn where_nothing_fits_nothing_is_found_and_nothing_more_is_tried() {
        let mut asked = 0;
        let found = grow((1, 8), |_| {
            asked += 1;
            Ok(None)
        });
        assert_eq!((found.unwrap(), asked), (None, 1));
    }
}
