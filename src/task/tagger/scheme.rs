//! Schemes of tags. In: letters before types (`B` of `B-PER`). Out: the [`Scheme`] they belong to, and what each says of its word. It must not
//! know the types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How tags mark mentions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `B-` begins a mention, `I-` continues it (also called IOB2).
    #[default]
    Bio,
    /// `I-` begins and continues a mention; `B-` begins one directly behind another of its type.
    #[serde(skip)]
    Iob1,
    /// Only `I-`, or the bare type: neighbouring words of a type are one mention.
    #[serde(skip)]
    Io,
    /// `B-` begins, `I-` continues and `E-` ends a mention of several words; `S-` is a mention of one word.
    Bioes,
    /// [`Scheme::Bioes`] with `L-` (last) and `U-` (unit) for `E-` and `S-`.
    #[serde(skip)]
    Bilou,
    /// [`Scheme::Bioes`] with `M-` (middle) for `I-`.
    Bmes,
}

/// What a tag says of its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

impl Scheme {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bio => "BIO",
            Self::Iob1 => "IOB1",
            Self::Io => "IO",
            Self::Bioes => "BIOES",
            Self::Bilou => "BILOU",
            Self::Bmes => "BMES",
        }
    }

    /// Whether a mention of several words has a tag for its end.
    pub(super) const fn ends_are_tagged(self) -> bool {
        matches!(self, Self::Bioes | Self::Bilou | Self::Bmes)
    }

    /// The letters and roles of the tags of each type.
    pub(super) const fn letters(self) -> &'static [(&'static str, Role)] {
        match self {
            Self::Bio | Self::Iob1 => &[("B-", Role::Begin), ("I-", Role::Inside)],
            Self::Io => &[("I-", Role::Inside)],
            Self::Bioes => &[("B-", Role::Begin), ("I-", Role::Inside), ("E-", Role::End), ("S-", Role::Single)],
            Self::Bilou => &[("B-", Role::Begin), ("I-", Role::Inside), ("L-", Role::End), ("U-", Role::Single)],
            Self::Bmes => &[("B-", Role::Begin), ("M-", Role::Inside), ("E-", Role::End), ("S-", Role::Single)],
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The letter before a type, and the type.
pub(super) fn with_letter(name: &str) -> Option<(char, &str)> {
    let (letter, rest) = (name.chars().next()?, name.get(1..)?);
    let of = rest.strip_prefix(['-', '_'])?;
    ("BIESLUM".contains(letter) && !of.is_empty()).then_some((letter, of))
}

/// The role of a letter.
pub(super) const fn role_of(letter: char) -> Role {
    match letter {
        'B' => Role::Begin,
        'E' | 'L' => Role::End,
        'S' | 'U' => Role::Single,
        _ => Role::Inside,
    }
}

/// The scheme that has these letters.
pub(super) fn scheme_of(letters: &[char], bare: bool) -> Result<Scheme, String> {
    let has = |letter: char| letters.contains(&letter);
    let (last, end, middle) = (has('L') || has('U'), has('E') || has('S'), has('M'));
    if let Some((one, other)) = [("E- or S-", "L- or U-", last && end), ("M-", "I-", middle && has('I'))]
        .into_iter()
        .find_map(|(one, other, both)| both.then_some((one, other)))
    {
        return Err(format!("{one} and {other} are letters of two schemes"));
    }
    Ok(match (bare, last, middle, end) {
        (true, ..) => Scheme::Io,
        (_, true, ..) => Scheme::Bilou,
        (_, _, true, _) => Scheme::Bmes,
        (_, _, _, true) => Scheme::Bioes,
        _ if has('B') => Scheme::Bio,
        _ => Scheme::Io,
    })
}
