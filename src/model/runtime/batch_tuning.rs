//! Tunes the number of tokens per batch and caches the result per user. In: idle sessions, inputs as long as the job's
//! longest, the key of the cache. Out: a budget of padded tokens. It must not change answers: inputs do not depend on their batch.

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
use crate::model::runtime::scorer::Scorer;
use crate::model::runtime::scorer_counters::ScorerCounters;
use crate::task::batch::Batch;

/// Rates that differ by less than this factor count as equal; the smaller budget then wins, because it takes less memory.
const EQUAL_RATE: f64 = 1.015;
/// The search stops after this many larger budgets in a row that are not faster.
const PATIENCE: usize = 2;
/// How often each budget is measured. The best measurement counts, because other programs only slow it down.
const REPEATS: usize = 2;

/// The conditions that a budget was measured under; others can have another optimum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuningKey {
    /// The model directory's hash.
    pub model: String,
    /// The version of the graph writer.
    pub writer: u32,
    /// The device.
    pub device: String,
    /// The name of the processor or GPU: several machines can share a per-user folder.
    pub hardware: String,
    /// The precision.
    pub precision: String,
    /// The version of ONNX Runtime.
    pub library: String,
    /// The number of cores.
    pub cores: usize,
    /// The longest input, in tokens.
    pub longest: usize,
}

/// The result of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// The maximum number of padded tokens of a batch.
    pub batch_tokens: usize,
    /// The throughput with such batches; `None` if nothing was measured.
    pub tokens_per_second: Option<f64>,
}

/// The content of a cache file.
#[derive(Debug, Serialize, Deserialize)]
struct CachedBudget {
    batch_tokens: usize,
    tokens_per_second: f64,
    found_for: TuningKey,
}

impl TuningKey {
    fn file(&self, folder: &Path) -> PathBuf {
        let key = short_hash(format!("{self:?}").as_bytes(), 16);
        folder.join(format!("budget-{key}.json"))
    }

    /// The cached budget for this key.
    fn cached(&self, folder: &Path) -> Option<usize> {
        let text = std::fs::read_to_string(self.file(folder)).ok()?;
        let cached: CachedBudget = serde_json::from_str(&text).ok()?;
        // A batch of a damaged size could exhaust the memory.
        let possible = (1..=range(Device::Cuda(0)).1).contains(&cached.batch_tokens);
        (cached.found_for == *self && possible).then_some(cached.batch_tokens)
    }

    /// Caches a budget, and returns whether this succeeded. If not, the next run searches again.
    fn store(&self, folder: &Path, batch_tokens: usize, tokens_per_second: f64) -> bool {
        let cached = CachedBudget { batch_tokens, tokens_per_second, found_for: self.clone() };
        let path = self.file(folder);
        let created = std::fs::create_dir_all(folder);
        let created = created.map_err(|source| Error::Write { path: path.clone(), source: source.into() });
        let text = serde_json::to_vec_pretty(&cached).unwrap_or_default();
        let stored = created.and_then(|()| write_whole(&path, &text));
        if let Err(error) = &stored {
            tracing::debug!(%error, "the batch budget cannot be cached");
        }
        stored.is_ok()
    }
}

/// The budget of a run: the `configured` one, else the cached one for this key, else the result of `search`. A measured result is
/// written to the per-user cache and logged.
pub fn settle(
    configured: Option<usize>,
    tuning_key: &TuningKey,
    search: impl FnOnce() -> Result<Finding>,
) -> Result<usize> {
    settle_in(cache_folder().ok().as_deref(), configured, tuning_key, search)
}

/// [`settle`] with a given cache folder, or without one.
fn settle_in(
    folder: Option<&Path>,
    configured: Option<usize>,
    tuning_key: &TuningKey,
    search: impl FnOnce() -> Result<Finding>,
) -> Result<usize> {
    if let Some(known) = configured.or_else(|| tuning_key.cached(folder?)) {
        return Ok(known);
    }
    let Finding { batch_tokens, tokens_per_second } = search()?;
    if let Some(rate) = tokens_per_second {
        let cached = folder.is_some_and(|folder| tuning_key.store(folder, batch_tokens, rate));
        let cached = if cached { "; cached for later runs" } else { "" };
        tracing::info!("batches of {batch_tokens} tokens are the fastest here ({rate:.0} tokens/s){cached}");
    }
    Ok(batch_tokens)
}

/// The smallest and largest budget to try: small ones fit a CPU's caches, large ones fill a GPU.
const fn range(device: Device) -> (usize, usize) {
    match device {
        Device::Cpu => (1 << 10, 1 << 13),
        Device::Cuda(_) => (1 << 13, 1 << 19),
    }
}

/// The budget if nothing can be measured.
const fn default_budget(device: Device) -> usize {
    match device {
        Device::Cpu => 1 << 11,
        Device::Cuda(_) => 1 << 14,
    }
}

/// The fastest budget for batches of inputs like those of `sample`. The budget is doubled until the rate stops growing or the device
/// runs out of memory. This computes about 15,000 tokens on a CPU (at most 45,000) and three million on a GPU: about 3 s (at most 8) on
/// a CPU with 6,000 tokens/s, and 2 s on a GPU with two million tokens/s. The sessions' counters are reset afterwards. If other
/// programs keep the CPU busy, the result is the default budget, unmeasured. If memory is too small for the smallest budget, that one is
/// the result, which is logged.
pub fn search(scorer: &Scorer, device: Device, sample: &Batch) -> Result<Finding> {
    let unmeasured = |batch_tokens: usize| Ok(Finding { batch_tokens, tokens_per_second: None });
    if sample.inputs.is_empty() || device == Device::Cpu && hardware::busy() {
        return unmeasured(default_budget(device));
    }
    let longest = sample.tokens();
    let splits = || {
        let ScorerCounters { halved, cut, .. } = scorer.counters();
        halved.load(Ordering::Relaxed) + cut.load(Ordering::Relaxed)
    };
    let rate = |budget: usize| -> Result<Option<f64>> {
        let rows = (budget / longest).max(1);
        let (mut best, mut tokens) = (Duration::MAX, 0);
        for _ in 0..REPEATS {
            let before = splits();
            let batch = Batch { inputs: sample.inputs.iter().cycle().take(rows).cloned().collect() };
            tokens = batch.real_tokens();
            best = best.min(scorer.answer(batch)?);
            if splits() > before {
                return Ok(None);
            }
        }
        Ok(Some(tokens as f64 / best.as_secs_f64().max(1e-9)))
    };
    // Warm up: the first batch allocates memory that later ones reuse.
    scorer.answer(sample.clone())?;
    let found = grow(range(device), rate)?;
    scorer.counters().clear();
    let Some((batch_tokens, rate)) = found else {
        let (smallest, _) = range(device);
        tracing::info!("the device's memory is too small for batches of {smallest} tokens: they will be split in half");
        return unmeasured(smallest);
    };
    Ok(Finding { batch_tokens, tokens_per_second: Some(rate) })
}

/// Doubles the budget while this increases the rate, and returns the smallest budget that is as fast as the fastest. `rate` returns
/// `None` if memory is too small; if it does so for the first budget, the result is `None`. Before a budget replaces the fastest one, the
/// fastest one is measured again.
fn grow(
    (first, last): (usize, usize),
    mut rate: impl FnMut(usize) -> Result<Option<f64>>,
) -> Result<Option<(usize, f64)>> {
    let Some(found) = rate(first)? else { return Ok(None) };
    let mut tried = vec![(first, found)];
    // The index of the last budget that increased the rate, and the number of budgets tried since.
    let (mut best, mut slower) = (0, 0);
    let mut budget = first;
    while budget < last && slower < PATIENCE {
        budget *= 2;
        let Some(found) = rate(budget)? else { break };
        let (before, known) = tried[best];
        if found > known * EQUAL_RATE {
            tried[best].1 = known.max(rate(before)?.unwrap_or(0.0));
        }
        tried.push((budget, found));
        if found > tried[best].1 * EQUAL_RATE {
            (best, slower) = (tried.len() - 1, 0);
        } else {
            slower += 1;
        }
    }
    let highest = tried.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    Ok(tried.into_iter().find(|(_, rate)| rate * EQUAL_RATE >= highest))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::machine::captured_events::captured;

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

    /// Keys that each differ in one field.
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

    /// The budget if a search would find `found`, whether there was a search, and the notes.
    fn settled(folder: &Path, configured: Option<usize>, found: Finding) -> (usize, bool, String) {
        let searched = Cell::new(false);
        let search = || {
            searched.set(true);
            Ok(found)
        };
        let (settled, notes) = captured(|| settle_in(Some(folder), configured, &tuning_key(), search).unwrap());
        (settled, searched.get(), notes.join("\n"))
    }

    const FOUND: Finding = Finding { batch_tokens: 65_536, tokens_per_second: Some(1_900_000.4) };

    #[test]
    fn a_cached_budget_is_used_only_for_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("not there yet");
        assert_eq!(tuning_key().cached(&cache), None);
        assert!(tuning_key().store(&cache, 4096, 1.0));
        assert_eq!(tuning_key().cached(&cache), Some(4096));
        for other in others() {
            assert_eq!(other.cached(&cache), None, "{other:?}");
            // A file with the right name and another key inside is ignored too.
            std::fs::copy(tuning_key().file(&cache), other.file(&cache)).unwrap();
            assert_eq!(other.cached(&cache), None, "{other:?}");
        }
    }

    #[test]
    fn a_second_run_does_not_search() {
        let folder = tempfile::tempdir().unwrap();
        let note = "batches of 65536 tokens are the fastest here (1900000 tokens/s); cached for later runs";
        assert_eq!(settled(folder.path(), None, FOUND), (65_536, true, note.into()));
        assert_eq!(settled(folder.path(), None, FOUND), (65_536, false, String::new()));
        // The job's setting wins over the cache.
        assert_eq!(settled(folder.path(), Some(300), FOUND), (300, false, String::new()));
    }

    #[test]
    fn a_configured_budget_is_neither_searched_nor_cached() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(settled(folder.path(), Some(300), FOUND), (300, false, String::new()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unmeasured_budget_is_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let unmeasured = Finding { batch_tokens: 2048, tokens_per_second: None };
        for _ in 0..2 {
            assert_eq!(settled(folder.path(), None, unmeasured), (2048, true, String::new()));
        }
        // Without a cache folder, nothing is cached either.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (budget, searched, notes) = settled(&file, None, FOUND);
        assert!(budget == 65_536 && searched && notes.ends_with("tokens/s)"), "{notes}");
    }

    #[test]
    fn a_damaged_cache_file_is_searched_again() {
        let folder = tempfile::tempdir().unwrap();
        settled(folder.path(), None, FOUND);
        let path = tuning_key().file(folder.path());
        let text = std::fs::read_to_string(&path).unwrap();
        let half = &text[..text.len() / 2];
        let [zero, negative, huge] = ["0", "-1", "6553665536"].map(|number| text.replace("65536", number));
        for damaged in [half, "", "{}", zero.as_str(), negative.as_str(), huge.as_str()] {
            std::fs::write(&path, damaged).unwrap();
            let (budget, searched, _) = settled(folder.path(), None, FOUND);
            assert!(budget == 65_536 && searched, "{damaged}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    fn grown(rates: &[f64]) -> (usize, usize) {
        let mut measurements = 0;
        let found = grow((1, 1 << 10), |budget| {
            measurements += 1;
            Ok(rates.get(budget.ilog2() as usize).copied())
        });
        (found.unwrap().unwrap().0, measurements)
    }

    #[test]
    fn a_budget_grows_while_the_rate_grows() {
        assert_eq!(grown(&[10.0, 19.0, 30.0, 30.4, 30.2, 99.0]), (4, 7));
        // One slow measurement does not end the search.
        assert_eq!(grown(&[10.0, 9.0, 20.0, 20.0, 20.0]), (4, 6));
        // Too little memory does.
        assert_eq!(grown(&[10.0, 20.0]), (2, 4));
    }

    #[test]
    fn the_smallest_of_the_fastest_budgets_wins() {
        // Steps of four per cent count, and many small steps add up.
        assert_eq!(grown(&[100.0, 104.0, 108.0, 112.0, 112.5, 111.0]).0, 8);
        assert_eq!(grown(&[100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 105.0, 105.0]).0, 16);
        // A single step of one per cent does not count.
        assert_eq!(grown(&[100.0, 101.0, 100.5]).0, 1);
        assert_eq!(grown(&[100.0, 119.0, 120.0, 90.0]).0, 2);
    }

    #[test]
    fn the_fastest_budget_is_measured_again_before_it_is_replaced() {
        let mut measurements = [0; 4];
        let found = grow((1, 8), |budget| {
            let at = budget.ilog2() as usize;
            measurements[at] += 1;
            // The machine was busy during the first measurement of the smallest budget.
            Ok(Some(if budget == 1 && measurements[0] == 1 { 5.0 } else { 10.0 }))
        });
        assert_eq!(found.unwrap().unwrap().0, 1);
    }

    #[test]
    fn the_search_ends_if_the_first_budget_does_not_fit() {
        let mut measurements = 0;
        let found = grow((1, 8), |_| {
            measurements += 1;
            Ok(None)
        });
        assert_eq!((found.unwrap(), measurements), (None, 1));
    }
}
