//! The files of a table's transaction log (Delta protocol, "Delta Log Entries" and "Checkpoints"). In: a listing of the log's folder. Out:
//! whether there is a table, which checkpoints can be left out, and what is damaged. It must not write or interpret data files.

use std::collections::BTreeMap;

use deltalake_core::kernel::{Action, Version};
use deltalake_core::logstore::get_actions;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;
use crate::store::log::hidden_files::HiddenFiles;
use crate::tables::Table;

/// The application id of this program in the tables' transactions (Delta protocol, "Transaction Identifiers").
pub(crate) const APPLICATION: &str = "quarry";
/// The fields of `commitInfo` that identify the run and commit of a transaction,
pub(crate) const RUN_ID: &str = "quarryRun";
pub(crate) const NUMBER: &str = "quarryCommit";
/// and the one that says how many files it adds and removes: an entry that has lost lines is seen by it.
pub(crate) const FILES: &str = "quarryFiles";
/// How many log entries are read concurrently.
const READS: usize = 8;
/// The way out of damage that nothing on the disk can repair.
pub(crate) const RESTORE: &str =
    "restore it from a backup; without one, name a new store in `store.path` and run the job again";

/// The files of a log at the time of the listing.
#[derive(Debug)]
pub(crate) struct LogFiles {
    table: Table,
    store: String,
    folder: Path,
    /// The size of each entry.
    entries: BTreeMap<Version, u64>,
    /// The files of each checkpoint.
    checkpoints: BTreeMap<Version, Vec<Path>>,
    /// `_last_checkpoint`, if it is there.
    hint: Option<Path>,
}

impl LogFiles {
    /// Lists the log of a table.
    pub(crate) async fn list(location: &StoreLocation, table: Table) -> object_store::Result<Self> {
        let folder: Path = location.table_path(table).parts().chain(Path::from("_delta_log").parts()).collect();
        let (entries, checkpoints) = (BTreeMap::new(), BTreeMap::new());
        let mut log = Self { table, store: location.to_string(), folder, entries, checkpoints, hint: None };
        let mut listed = location.objects().list(Some(&log.folder));
        loop {
            match listed.try_next().await {
                Ok(Some(file)) => log.sort_in(&file.location, file.size),
                Ok(None) | Err(object_store::Error::NotFound { .. }) => break,
                Err(cause) => return Err(cause),
            }
        }
        Ok(log)
    }

    fn sort_in(&mut self, path: &Path, size: u64) {
        let Some(mut inside) = path.prefix_match(&self.folder) else { return };
        let (Some(name), None) = (inside.next(), inside.next()) else { return };
        if name.as_ref() == "_last_checkpoint" {
            self.hint = Some(path.clone());
        }
        let Some((version, kind)) = name.as_ref().split_once('.') else { return };
        let Some(version) = version.parse::<Version>().ok().filter(|_| version.len() == 20) else { return };
        if kind == "json" {
            self.entries.insert(version, size);
        } else if kind.starts_with("checkpoint.") {
            self.checkpoints.entry(version).or_default().push(path.clone());
        }
    }

    /// Whether there is a table.
    pub(crate) fn exists(&self) -> bool {
        !self.entries.is_empty() || !self.checkpoints.is_empty()
    }

    /// Whether there was a transaction after the table's creation.
    pub(crate) fn was_used(&self) -> bool {
        self.entries.len() > 1 || self.checkpoints.keys().chain(self.entries.keys()).any(|version| *version > 0)
    }

    /// Hides the newest checkpoint that is visible, or else `_last_checkpoint` if that is. Returns its name; `None` if there was nothing
    /// left to hide. The log is then read from an older checkpoint, or from its entries.
    pub(crate) fn hide_checkpoint(&self, files: &HiddenFiles) -> Option<String> {
        let newest = self.base(files).and_then(|version| self.checkpoints.get_key_value(&version));
        let name = match newest {
            Some((version, paths)) => {
                files.hide(paths.iter().cloned());
                format!("{version:020}.checkpoint.parquet")
            }
            None if self.hint.as_ref().is_none_or(|hint| files.has_hidden(hint)) => return None,
            None => "_last_checkpoint".to_owned(),
        };
        // It can name the hidden checkpoint, which readers must then find.
        files.hide(self.hint.clone());
        Some(name)
    }

    /// The newest visible checkpoint.
    fn base(&self, files: &HiddenFiles) -> Option<Version> {
        let visible = |(_, paths): &(&Version, &Vec<Path>)| !paths.iter().any(|path| files.has_hidden(path));
        self.checkpoints.iter().rev().find(visible).map(|(version, _)| *version)
    }

    /// Checks the entries that the table is read from: those after the newest visible checkpoint. Each must be there and not be empty.
    /// With `contents` each is read, too: it must be whole, and the commits in it must follow one another.
    ///
    /// # Errors
    /// [`Error::Damaged`] if an entry is gone or not whole; [`Error::Store`] if one cannot be read.
    pub(crate) async fn check(&self, files: &HiddenFiles, contents: bool) -> Result<()> {
        let first = self.base(files).map_or(0, |version| version + 1);
        let mut versions = Vec::new();
        for (expected, (&version, &size)) in (first..).zip(self.entries.range(first..)) {
            if version != expected {
                return Err(self.damaged(expected, "is gone"));
            }
            if size == 0 {
                return Err(self.damaged(version, "is empty"));
            }
            versions.push(version);
        }
        if !contents {
            return Ok(());
        }
        let reading = versions.into_iter().map(|version| async move {
            let bytes = async { files.get(&self.entry(version)).await?.bytes().await };
            let bytes = bytes.await.map_err(|cause| self.unreadable(cause))?;
            get_actions(version, &bytes)
                .ok()
                .and_then(|actions| whole(version, &actions))
                .map(|commit| (version, commit))
                .ok_or_else(|| self.damaged(version, "is not whole"))
        });
        let mut entries = futures::stream::iter(reading).buffered(READS);
        let mut last: Option<i64> = None;
        while let Some((version, commit)) = entries.try_next().await? {
            let Some(commit) = commit else { continue };
            // A rollback repeats an earlier number.
            if last.is_some_and(|last| commit > last + 1) {
                let missing = last.unwrap_or_default() + 1;
                return Err(self.damaged(version, &format!("does not follow commit {missing}, which is gone")));
            }
            last = Some(commit);
        }
        Ok(())
    }

    /// The protocol actions of all entries that can be read, as JSON, oldest first: to say why a table cannot be loaded.
    pub(crate) async fn protocols(&self, objects: &dyn ObjectStore) -> Vec<serde_json::Value> {
        let mut protocols = Vec::new();
        for &version in self.entries.keys() {
            let bytes = async { objects.get(&self.entry(version)).await?.bytes().await };
            let Ok(bytes) = bytes.await else { continue };
            let lines = bytes.split(|byte| *byte == b'\n');
            let actions = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
            protocols.extend(actions.filter_map(|mut action| Some(action.get_mut("protocol")?.take())));
        }
        protocols
    }

    fn entry(&self, version: Version) -> Path {
        self.folder.parts().chain(Path::from(format!("{version:020}.json")).parts()).collect()
    }

    fn damaged(&self, version: Version, what: &str) -> Error {
        let reason = format!("its log entry `_delta_log/{version:020}.json` {what}");
        damaged(&self.store, self.table, reason)
    }

    fn unreadable(&self, cause: object_store::Error) -> Error {
        Error::Store { doing: "read".to_owned(), store: self.store.clone(), source: cause.into() }
    }
}

/// The number of the commit that an entry is part of, if any. `None` if the entry has lost lines.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether the entry is whole, the inner one whether it is a commit"
)]
fn whole(version: Version, actions: &[Action]) -> Option<Option<i64>> {
    let (mut files, mut expected, mut number, mut commit) = (0, None, None, None);
    for action in actions {
        match action {
            Action::Add(_) | Action::Remove(_) => files += 1,
            Action::CommitInfo(info) => {
                expected = info.info.get(FILES).and_then(serde_json::Value::as_u64);
                number = info.info.get(NUMBER).and_then(serde_json::Value::as_i64);
            }
            Action::Txn(txn) if txn.app_id == APPLICATION => commit = Some(txn.version),
            _ => {}
        }
    }
    let created = |of: fn(&Action) -> bool| version > 0 || actions.iter().any(of);
    let created = created(|action| matches!(action, Action::Protocol(_)))
        && created(|action| matches!(action, Action::Metadata(_)));
    // Only our own entries say how many files they have. Those of other tools have no number either.
    let whole = created && !actions.is_empty() && expected.is_none_or(|expected| expected == files) && number == commit;
    whole.then_some(commit)
}

/// The error for a table whose files do not fit together.
pub(crate) fn damaged(store: &str, table: Table, reason: String) -> Error {
    Error::Damaged { store: store.to_owned(), table: table.name().to_owned(), reason, hint: RESTORE.to_owned() }
}
