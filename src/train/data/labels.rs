//! The labels of a corpus → types of the schema. In: the schema, what the training job says of the corpus, the labels that its gold has.
//! Out: each label's place in the schema, what is asked of its documents, and a warning or an error about labels that are not what the
//! job expects. It may not read a table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::console;
use crate::console::thousands;
use crate::error::{Error, Result};
use crate::query::external_table::ExternalTable;
use crate::task::entity_schema::EntitySchema;
use crate::train::file::ExtraSection;
use crate::train::recipe::OnProblem;

/// Labels, and how many mentions have each.
pub(crate) type Found = BTreeMap<String, usize>;

/// What the labels of a corpus mean.
pub(crate) struct Labels<'a> {
    schema: &'a EntitySchema,
    /// What the job says of a corpus beside the training split.
    extra: Option<&'a ExtraSection>,
    /// Label → place in the schema.
    places: HashMap<String, usize>,
    /// The types that are labelled there, as places in the schema, ascending.
    pub(crate) asked: Arc<[usize]>,
    /// What to do about other labels.
    unknown: OnProblem,
}

impl<'a> Labels<'a> {
    /// The labels of a split, or of a corpus beside it.
    ///
    /// # Errors
    /// [`Error::Setting`] where the job names a type that the schema has not.
    pub(crate) fn new(schema: &'a EntitySchema, unknown: OnProblem, extra: Option<&'a ExtraSection>) -> Result<Self> {
        let place = |key: &str, name: &str| {
            let found = schema.types.iter().position(|one| one.name == name);
            let hint = "its types are those of the schema's [[type]] tables; rename = { theirs = \"ours\" }";
            found.ok_or_else(|| refuse(key, format!("the schema has no type `{name}`"), hint.into()))
        };
        let renamed = extra.map_or_else(BTreeMap::new, |extra| extra.rename.clone());
        let mut asked: Vec<usize> = match extra.and_then(|extra| extra.types.as_ref()) {
            Some(types) => types.iter().map(|name| place("types", name)).collect::<Result<_>>()?,
            None => (0..schema.types.len()).collect(),
        };
        asked.sort_unstable();
        asked.dedup();
        let own = schema.types.iter().enumerate().map(|(place, one)| (one.name.clone(), place));
        let mut places: HashMap<String, usize> = own.filter(|(name, _)| !renamed.contains_key(name)).collect();
        for (theirs, ours) in &renamed {
            places.insert(theirs.clone(), place("rename", ours)?);
        }
        places.retain(|_, place| asked.binary_search(place).is_ok());
        let chosen = extra.is_some_and(|extra| extra.types.is_some());
        let unknown = if chosen { OnProblem::Skip } else { unknown };
        Ok(Self { schema, extra, places, asked: asked.into(), unknown })
    }

    /// The place in the schema of what is called `label` there; none where it is not asked for.
    pub(crate) fn place(&self, label: &str) -> Option<usize> {
        self.places.get(label).copied()
    }

    /// Holds the labels `found` in `gold` against the job. Those that are left out are told.
    ///
    /// # Errors
    /// [`Error::Table`] where a label has no type and the job does not skip it, [`Error::Setting`] where the job renames or names what
    /// no mention is.
    pub(crate) fn check(&self, found: &Found, gold: &ExternalTable<'_>) -> Result<()> {
        if let Some(extra) = self.extra.filter(|_| !found.is_empty()) {
            let known = found.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            if let Some(theirs) = extra.rename.keys().find(|theirs| !found.contains_key(*theirs)) {
                let reason = format!("no mention at `{}` has the type `{theirs}`", gold.location);
                return Err(refuse("rename", reason, format!("the types there are {known}: mend it, or leave it out")));
            }
            let there = |place: usize| found.keys().any(|label| self.place(label) == Some(place));
            let missing = self.asked.iter().find(|&&place| !there(place));
            if let Some(&place) = missing.filter(|_| extra.types.is_some()) {
                let name = &self.schema.types[place].name;
                let reason = format!("no mention at `{}` has the type `{name}`, renamed or not", gold.location);
                let hint = format!("the types there are {known}: say which it is with rename, or leave it out");
                return Err(refuse("types", reason, hint));
            }
        }
        let unknown: Vec<(&str, usize)> = found
            .iter()
            .filter(|(label, _)| self.place(label).is_none())
            .map(|(label, &mentions)| (label.as_str(), mentions))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.unknown == OnProblem::Stop {
            let names: Vec<&str> = unknown.iter().map(|&(label, _)| label).collect();
            return Err(gold.refuse(
                format!("the schema has no question for {}", names.join(", ")),
                "add a [[type]] for each to the schema, or say data.unknown_types = \"skip\"; of [[data.extra]] also types or rename",
            ));
        }
        let each: Vec<String> =
            unknown.iter().map(|&(label, mentions)| format!("{label} × {}", thousands(mentions as u64))).collect();
        console::warn(&format!(
            "`{}`: {} mention(s) of types that are not asked for are left out: {}",
            gold.location,
            thousands(unknown.iter().map(|&(_, mentions)| mentions as u64).sum()),
            each.join(", ")
        ));
        Ok(())
    }
}

/// An error about what the job says of a corpus beside the training split.
fn refuse(key: &str, reason: String, hint: String) -> Error {
    Error::Setting { origin: "the training job".into(), key: format!("data.extra.{key}"), reason, hint }
}
