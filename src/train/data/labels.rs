//! The labels of a corpus → types of the schema. In: the schema, the corpus's section of the training job, the labels of its gold. Out:
//! the type of each label, the types labelled in its documents, and a warning or an error about unexpected labels. It must not read a
//! table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::console::thousands;
use crate::error::{Error, Result};
use crate::query::external_table::ExternalTable;
use crate::task::entity_schema::EntitySchema;
use crate::train::file::{DataSection, ExtraSection};
use crate::train::recipe::OnProblem;

/// The number of mentions by label.
pub(crate) type LabelCounts = BTreeMap<String, usize>;

/// Maps the labels of a corpus to types of the schema.
pub(crate) struct Labels<'a> {
    schema: &'a EntitySchema,
    /// The job's section of an additional corpus.
    extra: Option<&'a ExtraSection>,
    /// Label → index of its type in the schema.
    types: HashMap<String, usize>,
    /// The types that are labelled in the corpus, as ascending indices into the schema.
    pub(crate) labelled_types: Arc<[usize]>,
    /// How to handle other labels.
    unknown: OnProblem,
}

impl<'a> Labels<'a> {
    /// The labels of a split, or of an additional corpus.
    ///
    /// # Errors
    /// [`Error::Setting`] if the job names a type that the schema does not have.
    pub(crate) fn new(schema: &'a EntitySchema, data: &DataSection, extra: Option<&'a ExtraSection>) -> Result<Self> {
        let chosen = extra.map_or(data.types.as_ref(), |extra| extra.types.as_ref());
        let index = |key: &str, name: &str| {
            let found = schema.index_of(name);
            let hint = "use types of the schema's [[type]] tables; rename = { label = \"TYPE\" } maps the corpus's labels to them";
            found.ok_or_else(|| refuse(extra.is_some(), key, format!("the schema has no type `{name}`"), hint.into()))
        };
        let renamed = extra.map_or_else(BTreeMap::new, |extra| extra.rename.clone());
        let mut labelled: Vec<usize> = match chosen {
            Some(types) => types.iter().map(|name| index("types", name)).collect::<Result<_>>()?,
            None => (0..schema.types.len()).collect(),
        };
        labelled.sort_unstable();
        labelled.dedup();
        let own = schema.types.iter().enumerate().map(|(index, one)| (one.name.clone(), index));
        let mut types: HashMap<String, usize> = own.filter(|(name, _)| !renamed.contains_key(name)).collect();
        for (label, name) in &renamed {
            types.insert(label.clone(), index("rename", name)?);
        }
        types.retain(|_, index| labelled.binary_search(index).is_ok());
        let unknown = if chosen.is_some() { OnProblem::Skip } else { data.unknown_types };
        Ok(Self { schema, extra, types, labelled_types: labelled.into(), unknown })
    }

    /// The index in the schema of the type of `label`; `None` if the label is ignored.
    pub(crate) fn type_index(&self, label: &str) -> Option<usize> {
        self.types.get(label).copied()
    }

    /// Checks the labels `found` in `gold` against the job, and warns about ignored labels.
    ///
    /// # Errors
    /// [`Error::Table`] if a label has no type and the job does not skip it, [`Error::Setting`] if the job names a label or type that no
    /// mention has.
    pub(crate) fn check(&self, found: &LabelCounts, gold: &ExternalTable<'_>) -> Result<()> {
        if let Some(extra) = self.extra.filter(|_| !found.is_empty()) {
            let known = found.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            if let Some(label) = extra.rename.keys().find(|label| !found.contains_key(*label)) {
                let reason = format!("no mention in `{}` has the type `{label}`", gold.location);
                let hint = format!("the types there are {known}: correct the name, or remove it");
                return Err(refuse(true, "rename", reason, hint));
            }
            let occurs = |index: usize| found.keys().any(|label| self.type_index(label) == Some(index));
            let missing = self.labelled_types.iter().find(|&&index| !occurs(index));
            if let Some(&index) = missing.filter(|_| extra.types.is_some()) {
                let name = &self.schema.types[index].name;
                let reason = format!("no mention in `{}` has the type `{name}`, renamed or not", gold.location);
                let hint = format!("the types there are {known}: map one with rename, or remove the type");
                return Err(refuse(true, "types", reason, hint));
            }
        }
        let unknown: Vec<(&str, usize)> = found
            .iter()
            .filter(|(label, _)| self.type_index(label).is_none())
            .map(|(label, &mentions)| (label.as_str(), mentions))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.unknown == OnProblem::Stop {
            let names: Vec<&str> = unknown.iter().map(|&(label, _)| label).collect();
            return Err(gold.refuse(
                format!("the schema has no question for {}", names.join(", ")),
                "add a [[type]] for each to the schema, or set data.unknown_types = \"skip\"; for [[data.extra]] types or rename also work",
            ));
        }
        let each: Vec<String> =
            unknown.iter().map(|&(label, mentions)| format!("{label} × {}", thousands(mentions as u64))).collect();
        tracing::warn!(
            "`{}`: {} mention(s) of types outside the job's are skipped: {}",
            gold.location,
            thousands(unknown.iter().map(|&(_, mentions)| mentions as u64).sum()),
            each.join(", ")
        );
        Ok(())
    }
}

/// An error about the job's section of the data, or of an additional corpus.
fn refuse(extra: bool, key: &str, reason: String, hint: String) -> Error {
    let key = if extra { format!("data.extra.{key}") } else { format!("data.{key}") };
    Error::Setting { origin: "the training job".into(), key, reason, hint }
}
