//! The tags of a tagger. In: the names of its tags (`B-PER`, `I-PER`, `O`). Out: a [`TagSet`]: the scheme, the entity types, and which tag can
//! follow which. It must not know words or logits.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::task::tagger::scheme::{Role, Scheme, role_of, scheme_of, with_letter};

/// What a list of tags has to be, for messages.
pub const EXPECTED: &str = "the tags are O, and for each type B- and I- (BIO), with E- and S- (BIOES), M- (BMES) or L- and U- (BILOU), or only I- or the bare type (IO)";

/// The tag of a word outside every mention.
const OUTSIDE: &str = "O";

/// One tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    role: Role,
    /// The index of its type; `None` only for [`Role::Outside`].
    entity_type: Option<usize>,
}

/// The tags of a model, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSet {
    names: Vec<String>,
    tags: Vec<Tag>,
    types: Vec<String>,
    scheme: Scheme,
    /// For each tag those that can stand before it, ascending.
    before: Vec<Vec<usize>>,
}

impl TagSet {
    /// The tags of a scheme for these types: `O`, then those of each type.
    pub fn new(scheme: Scheme, types: &[&str]) -> Self {
        let mut names = vec![OUTSIDE.to_owned()];
        let mut tags = vec![Tag { role: Role::Outside, entity_type: None }];
        for (number, name) in types.iter().enumerate() {
            for (letter, role) in scheme.letters() {
                names.push(format!("{letter}{name}"));
                tags.push(Tag { role: *role, entity_type: Some(number) });
            }
        }
        Self::with(names, tags, types.iter().map(|name| (*name).to_owned()).collect(), scheme)
    }

    /// Reads the names of tags, in the order of their numbers. Letters are followed by `-` or `_`. If a type has no `B-` although others have,
    /// the scheme is IOB1.
    ///
    /// # Errors
    /// The reason why they are no scheme: no `O`, some with a letter and some without, letters of two schemes, a tag that occurs twice, a type
    /// whose mentions cannot begin or end, or names that say nothing (`LABEL_0`).
    pub fn parse(names: &[String]) -> Result<Self, String> {
        let numbered = |name: &String| name.strip_prefix("LABEL_").is_some_and(|rest| rest.parse::<usize>().is_ok());
        if let Some(name) = names.iter().find(|name| numbered(name)) {
            return Err(format!("`{name}` names no type"));
        }
        if !names.iter().any(|name| name == OUTSIDE) {
            return Err("there is no tag `O`".to_owned());
        }
        let beside_outside: Vec<(&str, Option<(char, &str)>)> =
            names.iter().filter(|name| *name != OUTSIDE).map(|name| (name.as_str(), with_letter(name))).collect();
        let lettered = beside_outside.iter().filter(|(_, letter)| letter.is_some()).count();
        if lettered > 0
            && let Some((bare, _)) = beside_outside.iter().find(|(_, letter)| letter.is_none())
        {
            return Err(format!("`{bare}` has no letter before its type, and others have"));
        }
        let letters: Vec<char> =
            beside_outside.iter().filter_map(|(_, letter)| letter.map(|(letter, _)| letter)).collect();
        let scheme = scheme_of(&letters, lettered == 0)?;
        let (mut types, mut tags) = (Vec::<String>::new(), Vec::new());
        for name in names {
            let (role, of) = match with_letter(name) {
                _ if name == OUTSIDE => (Role::Outside, None),
                Some((letter, of)) if lettered > 0 => (role_of(letter), Some(of)),
                _ => (Role::Inside, Some(name.as_str())),
            };
            let entity_type = of.map(|of| {
                types.iter().position(|one| one == of).unwrap_or_else(|| {
                    types.push(of.to_owned());
                    types.len() - 1
                })
            });
            let tag = Tag { role, entity_type };
            if tags.contains(&tag) {
                return Err(format!("`{name}` occurs twice"));
            }
            tags.push(tag);
        }
        if types.is_empty() {
            return Err("there is no tag but `O`".to_owned());
        }
        let roles = |number: usize| -> Vec<Role> {
            tags.iter().filter(|tag| tag.entity_type == Some(number)).map(|tag| tag.role).collect()
        };
        let mut scheme = scheme;
        for (number, name) in types.iter().enumerate() {
            let roles = roles(number);
            let has = |role: Role| roles.contains(&role);
            if scheme == Scheme::Bio && !has(Role::Begin) {
                scheme = Scheme::Iob1;
            }
            let closes = has(Role::Begin) == has(Role::End) && (has(Role::Begin) || !has(Role::Inside));
            if scheme.ends_are_tagged() && !closes {
                return Err(format!("mentions of `{name}` cannot begin and end: a tag is missing"));
            }
        }
        Ok(Self::with(names.to_vec(), tags, types, scheme))
    }

    fn with(names: Vec<String>, tags: Vec<Tag>, types: Vec<String>, scheme: Scheme) -> Self {
        let mut set = Self { names, tags, types, scheme, before: Vec::new() };
        let all = 0..set.tags.len();
        set.before =
            all.clone().map(|tag| all.clone().filter(|&before| set.can_follow(before, tag)).collect()).collect();
        set
    }

    /// The number of tags.
    pub const fn count(&self) -> usize {
        self.tags.len()
    }

    /// The names of the tags, by their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The entity types, in the order of their first tags.
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The scheme.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The number of the tag `O`.
    pub fn outside(&self) -> usize {
        self.tags.iter().position(|tag| tag.role == Role::Outside).unwrap_or_default()
    }

    /// The index of a tag's type; `None` for `O`.
    pub fn entity_type(&self, tag: usize) -> Option<usize> {
        self.tags[tag].entity_type
    }

    /// The tags that can stand before a tag, ascending.
    pub fn before(&self, tag: usize) -> &[usize] {
        &self.before[tag]
    }

    /// Whether the first word of a text can have a tag.
    pub fn can_start(&self, tag: usize) -> bool {
        match self.tags[tag].role {
            Role::Outside | Role::Begin | Role::Single => true,
            Role::Inside => matches!(self.scheme, Scheme::Iob1 | Scheme::Io),
            Role::End => false,
        }
    }

    /// Whether the last word of a text can have a tag.
    pub fn can_end(&self, tag: usize) -> bool {
        !(self.scheme.ends_are_tagged() && matches!(self.tags[tag].role, Role::Begin | Role::Inside))
    }

    /// Whether a word with the tag `next`, directly behind a word with the tag `tag`, belongs to the same mention.
    pub fn continues(&self, tag: usize, next: usize) -> bool {
        let (tag, next) = (self.tags[tag], self.tags[next]);
        tag.entity_type.is_some()
            && tag.entity_type == next.entity_type
            && matches!(next.role, Role::Inside | Role::End)
    }

    /// The tags of the words of a mention of `words` words of a type; a word's tag that the model lacks is the nearest that it has. `behind`:
    /// a mention of the same type ends directly before it.
    pub fn of_mention(&self, entity_type: usize, words: usize, behind: bool) -> Vec<usize> {
        let find = |roles: &[Role]| {
            let tag = |role: &Role| {
                self.tags.iter().position(|tag| tag.entity_type == Some(entity_type) && tag.role == *role)
            };
            roles.iter().find_map(tag).unwrap_or_else(|| self.outside())
        };
        let first: &[Role] = match self.scheme {
            Scheme::Iob1 if !behind => &[Role::Inside, Role::Begin],
            _ => &[Role::Begin, Role::Inside, Role::Single],
        };
        let inside = [Role::Inside, Role::Begin];
        match (self.scheme.ends_are_tagged(), words) {
            (_, 0) => Vec::new(),
            (true, 1) => vec![find(&[Role::Single, Role::Begin])],
            (true, _) => {
                let middle = std::iter::repeat_n(find(&inside), words - 2);
                [find(first)].into_iter().chain(middle).chain([find(&[Role::End, Role::Inside])]).collect()
            }
            (false, _) => [find(first)].into_iter().chain(std::iter::repeat_n(find(&inside), words - 1)).collect(),
        }
    }

    fn can_follow(&self, before: usize, tag: usize) -> bool {
        let (first, second) = (self.tags[before], self.tags[tag]);
        let continued = self.continues(before, tag);
        match self.scheme {
            Scheme::Iob1 | Scheme::Io => true,
            Scheme::Bio => second.role != Role::Inside || continued,
            Scheme::Bioes | Scheme::Bilou | Scheme::Bmes => {
                let open = matches!(first.role, Role::Begin | Role::Inside);
                if open { continued } else { matches!(second.role, Role::Outside | Role::Begin | Role::Single) }
            }
        }
    }
}

impl Serialize for TagSet {
    /// As `id2label` of Hugging Face's `config.json`: a map from numbers to names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbered: BTreeMap<usize, &String> = self.names.iter().enumerate().collect();
        numbered.serialize(serializer)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn parsed(names: &[&str]) -> Result<TagSet, String> {
        TagSet::parse(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_scheme_and_the_types_come_from_the_names() {
        for (names, scheme, types) in [
            (&["O", "B-PER", "I-PER", "B-LOC", "I-LOC"][..], Scheme::Bio, &["PER", "LOC"][..]),
            (&["B-LOC", "I-LOC", "I-PER", "O"], Scheme::Iob1, &["LOC", "PER"]),
            (&["O", "I-PER", "I-LOC"], Scheme::Io, &["PER", "LOC"]),
            (&["O", "person", "cell-line"], Scheme::Io, &["person", "cell-line"]),
            (&["O", "B-X", "I-X", "E-X", "S-X"], Scheme::Bioes, &["X"]),
            (&["O", "B-X", "I-X", "L-X", "U-X"], Scheme::Bilou, &["X"]),
            (&["B_X", "M_X", "E_X", "S_X", "O"], Scheme::Bmes, &["X"]),
            (&["O", "B-X-Y"], Scheme::Bio, &["X-Y"]),
        ] {
            let set = parsed(names).expect("a scheme");
            assert_eq!(
                (set.scheme(), set.types()),
                (scheme, types.iter().map(|&one| one.to_owned()).collect::<Vec<_>>().as_slice())
            );
            assert_eq!(set.names()[set.outside()], "O");
        }
        for scheme in [Scheme::Bio, Scheme::Io, Scheme::Bioes, Scheme::Bilou, Scheme::Bmes] {
            let set = TagSet::new(scheme, &["PER", "LOC"]);
            assert_eq!(TagSet::parse(set.names()), Ok(set.clone()), "{scheme}");
        }
    }

    #[test]
    fn names_that_are_no_scheme_are_refused() {
        for (names, reason) in [
            (&["LABEL_0", "LABEL_1"][..], "`LABEL_0` names no type"),
            (&["B-PER", "I-PER"], "there is no tag `O`"),
            (&["O"], "there is no tag but `O`"),
            (&["O", "B-PER", "X"], "`X` has no letter before its type, and others have"),
            (&["O", "B-PER", "B-PER"], "`B-PER` occurs twice"),
            (&["O", "B-X", "I-X", "S-X"], "mentions of `X` cannot begin and end: a tag is missing"),
            (&["O", "B-X", "E-X", "L-X"], "E- or S- and L- or U- are letters of two schemes"),
            (&["O", "B-X", "M-X", "I-X", "E-X"], "M- and I- are letters of two schemes"),
        ] {
            assert_eq!(parsed(names).expect_err("no scheme"), reason, "{names:?}");
        }
    }

    #[test]
    fn tags_follow_each_other_by_the_scheme() {
        let follows = |set: &TagSet, before: &str, tag: &str| {
            let number = |name: &str| set.names().iter().position(|one| one == name).expect("a tag");
            set.before(number(tag)).contains(&number(before))
        };
        let bio = TagSet::new(Scheme::Bio, &["A", "B"]);
        assert!(follows(&bio, "B-A", "I-A") && follows(&bio, "I-A", "B-A") && follows(&bio, "I-A", "O"));
        assert!(!follows(&bio, "O", "I-A") && !follows(&bio, "B-B", "I-A"));
        let bioes = TagSet::new(Scheme::Bioes, &["A", "B"]);
        assert!(follows(&bioes, "B-A", "E-A") && follows(&bioes, "E-A", "S-A") && follows(&bioes, "S-A", "B-B"));
        assert!(!follows(&bioes, "B-A", "O") && !follows(&bioes, "O", "E-A") && !follows(&bioes, "I-A", "E-B"));
        assert!(!bioes.can_end(1) && bioes.can_end(3) && !bioes.can_start(2) && bioes.can_start(4));
    }

    #[test]
    fn the_tags_of_a_mention_are_legal_and_one_mention() {
        for scheme in [Scheme::Bio, Scheme::Io, Scheme::Bioes, Scheme::Bilou, Scheme::Bmes] {
            let set = TagSet::new(scheme, &["A", "B"]);
            for words in 1..5 {
                let tags = set.of_mention(1, words, false);
                assert_eq!(tags.len(), words);
                assert!(set.can_start(tags[0]) && set.can_end(tags[words - 1]), "{scheme}");
                for pair in tags.windows(2) {
                    assert!(set.before(pair[1]).contains(&pair[0]) && set.continues(pair[0], pair[1]), "{scheme}");
                }
                assert!(tags.iter().all(|&tag| set.entity_type(tag) == Some(1)));
            }
        }
        let iob1 = parsed(&["O", "B-A", "I-A", "I-B"]).expect("a scheme");
        assert_eq!(iob1.of_mention(0, 2, false), [2, 2]);
        assert_eq!(iob1.of_mention(0, 2, true), [1, 2]);
        assert_eq!(iob1.of_mention(1, 2, true), [3, 3]);
    }
}
