//! How many tokens a batch should have: found by asking, and remembered per user. In: waiting sessions, queries as long
//! as the job's longest, what the finding holds for. Out: a budget of padded tokens. It may not change an answer: queries do not depend on their
//! batch.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cache_folder;
use super::device::Device;
use super::directory::write_whole;
use super::hash::short_hash;
use super::pool::{PoolCounters, SessionPool};
use crate::error::{Error, Result};
use crate::mrc::batch::QueryBatch;

/// A larger budget must be faster by this to be worth its memory and its padding.
const GAIN: f64 = 1.05;
/// After so many larger budgets that were not, a still larger one is not tried.
const PATIENCE: usize = 2;
/// How often each budget is measured; the best counts, for other programs only ever slow it down.
const TIMES: usize = 2;

/// What a budget was found for: another one may suit anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The model directory's hash.
    pub model: String,
    /// Where it is computed.
    pub device: String,
    /// In what.
    pub flavour: String,
    /// By which library.
    pub library: String,
    /// On how many cores.
    pub cores: usize,
    /// The longest query, in tokens.
    pub longest: usize,
}

/// What is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    batch_tokens: usize,
    tokens_per_second: f64,
    found_for: Circumstances,
}

impl Circumstances {
    fn file(&self) -> Result<PathBuf> {
        let key = short_hash(format!("{self:?}").as_bytes(), 16);
        Ok(cache_folder()?.join(format!("budget-{key}.json")))
    }

    /// The budget that was found for them before, on this machine.
    pub fn remembered(&self) -> Option<usize> {
        let text = std::fs::read_to_string(self.file().ok()?).ok()?;
        let remembered: Remembered = serde_json::from_str(&text).ok()?;
        (remembered.found_for == *self && remembered.batch_tokens > 0).then_some(remembered.batch_tokens)
    }

    /// Keeps a finding, and says whether it could. One that cannot be kept is found again next time, which costs a
    /// second or two.
    fn remember(&self, batch_tokens: usize, tokens_per_second: f64) -> bool {
        let remembered = Remembered { batch_tokens, tokens_per_second, found_for: self.clone() };
        let kept = self.file().and_then(|path| {
            let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            folder.map_err(|source| Error::Write { path: path.clone(), source: source.into() })?;
            let text = serde_json::to_vec_pretty(&remembered).unwrap_or_default();
            write_whole(&path, &text)
        });
        if let Err(error) = &kept {
            tracing::debug!(%error, "the budget of batches is not remembered");
        }
        kept.is_ok()
    }
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

/// Whether other programs keep so much of the processor that nothing measured on it means anything. The kernel counts
/// the load of the whole machine, also for who is inside a container: it is held against all its cores, not against
/// those that are ours.
fn busy(cores: usize) -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let all = std::fs::read_to_string("/proc/cpuinfo").map_or(0, |text| processors(&text));
    load.is_some_and(|load| load > all.max(cores) as f64 / 2.0)
}

/// The processors that `/proc/cpuinfo` lists.
fn processors(text: &str) -> usize {
    text.lines().filter(|line| line.split(':').next().is_some_and(|name| name.trim() == "processor")).count()
}

/// The budget for batches of queries like those of `sample`: doubled until the rate stops growing or the device's memory ends. The
/// sessions' counters are as before. `note` is told the finding. On a CPU that is busy with other things, the usual budget, which is not
/// remembered.
pub fn find(
    pool: &SessionPool,
    device: Device,
    sample: &QueryBatch,
    circumstances: &Circumstances,
    note: &dyn Fn(&str),
) -> Result<usize> {
    if sample.queries.is_empty() || device == Device::Cpu && busy(circumstances.cores) {
        return Ok(usual(device));
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
    let Some((budget, best)) = found else {
        let (smallest, _) = range(device);
        note(&format!("the device's memory is too small for batches of {smallest} tokens: they are halved"));
        return Ok(smallest);
    };
    let kept = if circumstances.remember(budget, best) { "; remembered" } else { "" };
    note(&format!("batches of {budget} tokens are fastest here ({best:.0} tokens/s){kept}"));
    Ok(budget)
}

/// Doubles the budget while that makes it faster; `rate` says none where there is no more memory, and where it does so
/// of the first, nothing was found. What seems faster is compared with a second look at what it would replace.
fn grow(
    (first, last): (usize, usize),
    mut rate: impl FnMut(usize) -> Result<Option<f64>>,
) -> Result<Option<(usize, f64)>> {
    let Some(found) = rate(first)? else { return Ok(None) };
    let mut best = (first, found);
    let (mut budget, mut slower) = (first, 0);
    while budget < last && slower < PATIENCE {
        budget *= 2;
        let Some(found) = rate(budget)? else { break };
        if found > best.1 * GAIN {
            best.1 = best.1.max(rate(best.0)?.unwrap_or(0.0));
        }
        if found > best.1 * GAIN {
            (best, slower) = ((budget, found), 0);
        } else {
            slower += 1;
        }
    }
    Ok(Some(best))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(grown(&[10.0, 19.0, 30.0, 30.5, 30.2, 99.0]), (4, 7));
        // One slow measurement does not end it.
        assert_eq!(grown(&[10.0, 9.0, 20.0, 20.0, 20.0]), (4, 6));
        // Memory does.
        assert_eq!(grown(&[10.0, 20.0]), (2, 4));
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

    #[test]
    fn processors_are_counted_as_the_kernel_lists_them() {
        let text = "processor\t: 0\nmodel name\t: A processor\n\nprocessor\t: 1\nBogoMIPS: 50\n";
        assert_eq!(processors(text), 2);
    }
}
