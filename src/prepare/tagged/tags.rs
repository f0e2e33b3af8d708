//! Tags → spans. In: the tags of a sentence, one per token. Out: each mention's token span and label, or the tag that violates the
//! scheme. It must not guess: a tag that the scheme forbids is an error.
//!
//! A tag is `O`, or a letter, a hyphen or an underscore, and a label. Some corpora leave the letter out (`PER`, `O`): there a run of one
//! label is a mention ([`Scheme::Bare`]).

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::text::span::TokenSpan;

/// The tagging scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// Detected from the tags.
    Auto,
    /// I inside; B only where a mention directly follows another of its type.
    Iob1,
    /// B on every first token.
    Iob2,
    /// B, I, E, and S on a single token (L and U are read as E and S).
    Bioes,
    /// B, M, E, and S on a single token.
    Bmes,
    /// Labels without a prefix: a run of one label is a mention.
    Bare,
}

/// A parsed tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag<'text> {
    Outside,
    Begin(&'text str),
    Inside(&'text str),
    End(&'text str),
    Single(&'text str),
}

impl<'text> Tag<'text> {
    fn parse(text: &'text str) -> Option<Self> {
        if text == "O" {
            return Some(Self::Outside);
        }
        let (prefix, label) = text.split_once(['-', '_']).filter(|(_, label)| !label.is_empty())?;
        match prefix {
            "B" => Some(Self::Begin(label)),
            "I" | "M" => Some(Self::Inside(label)),
            "E" | "L" => Some(Self::End(label)),
            "S" | "U" => Some(Self::Single(label)),
            _ => None,
        }
    }
}

/// Whether a text looks like a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    Tag::parse(text).is_some()
}

/// Whether a text can be a label without a prefix: it begins with a letter, and not with a letter and a hyphen, as a tag of an unknown
/// scheme does.
pub(crate) fn is_bare(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(char::is_alphabetic) && letters.next() != Some('-') && !is_tag(text)
}

/// The label of a tag; `None` for `O` and for text that is not a tag.
pub(crate) fn label(text: &str) -> Option<&str> {
    match Tag::parse(text)? {
        Tag::Outside => None,
        Tag::Begin(label) | Tag::Inside(label) | Tag::End(label) | Tag::Single(label) => Some(label),
    }
}

/// Detects the scheme of observed tags.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    prefixes: BTreeSet<char>,
    loose: bool,
    bare: bool,
}

impl Detector {
    /// Observes the tags of a sentence.
    pub(crate) fn observe<'text>(&mut self, tags: impl IntoIterator<Item = &'text str>) {
        let mut open = None;
        for tag in tags {
            match Tag::parse(tag) {
                Some(Tag::Inside(label)) => self.loose |= open != Some(label),
                Some(_) => {}
                None => {
                    self.bare |= is_bare(tag);
                    continue;
                }
            }
            self.prefixes.extend(tag.chars().next());
            open = label(tag);
        }
    }

    /// The given scheme; for `Auto`, the strictest one that fits the observed tags.
    pub(crate) fn resolve(&self, given: Scheme) -> Scheme {
        if given == Scheme::Auto { self.scheme() } else { given }
    }

    fn scheme(&self) -> Scheme {
        if self.prefixes.contains(&'M') {
            Scheme::Bmes
        } else if ['E', 'S', 'L', 'U'].iter().any(|prefix| self.prefixes.contains(prefix)) {
            Scheme::Bioes
        } else if self.bare && self.prefixes.iter().all(|prefix| *prefix == 'O') {
            Scheme::Bare
        } else if self.loose {
            Scheme::Iob1
        } else {
            Scheme::Iob2
        }
    }
}

/// The mentions of a sentence, or the index of the token with an invalid tag and the reason.
pub(crate) fn decode(tags: &[&str], scheme: Scheme) -> Result<Vec<(TokenSpan, String)>, (usize, String)> {
    decode_with(tags, scheme, |number, reason| Err((number, reason)))
}

/// Like [`decode`], but `wrong` gets the index of each invalid tag and the reason. If it returns `Ok`, the tag is read as `O`, and the
/// mention that it belongs to is lost.
pub(crate) fn decode_with<E>(
    tags: &[&str],
    scheme: Scheme,
    mut wrong: impl FnMut(usize, String) -> Result<(), E>,
) -> Result<Vec<(TokenSpan, String)>, E> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str)> = None;
    let closing = matches!(scheme, Scheme::Bioes | Scheme::Bmes);
    for (number, text) in tags.iter().enumerate() {
        let Some(tag) = parse(text, scheme) else {
            let expected = "expected O or a label after B-, I-, M-, E-, L-, S- or U-";
            wrong(number, format!("unknown tag `{text}`, {expected}"))?;
            open = None;
            continue;
        };
        let unfinished = matches!(tag, Tag::Outside | Tag::Begin(_) | Tag::Single(_));
        if let (true, true, Some((_, label))) = (closing, unfinished, open) {
            wrong(number, format!("`{text}` comes before the end of a mention of {label} ({})", name(scheme)))?;
            open = None;
        }
        let continues = |label: &str| open.is_some_and(|(_, other)| other == label);
        match tag {
            Tag::Outside => found.extend(open.take().map(|one| mention(one, number))),
            Tag::Begin(label) => {
                found.extend(open.take().map(|one| mention(one, number)));
                open = Some((number, label));
            }
            Tag::Inside(label) if continues(label) => {}
            Tag::Inside(label) if matches!(scheme, Scheme::Iob1 | Scheme::Auto | Scheme::Bare) => {
                found.extend(open.take().map(|one| mention(one, number)));
                open = Some((number, label));
            }
            Tag::End(label) if closing && continues(label) => {
                found.extend(open.take().map(|one| mention(one, number + 1)));
            }
            Tag::Single(label) if closing => found.push((TokenSpan::new(number, number + 1), label.to_owned())),
            _ => {
                let inside = matches!(tag, Tag::Inside(_)) || closing && matches!(tag, Tag::End(_));
                let reason = if inside { "does not continue a mention (" } else { "is not a tag of " };
                let close = if inside { ")" } else { "" };
                wrong(number, format!("`{text}` {reason}{}{close}", name(scheme)))?;
                let ended = open.take().filter(|_| !closing);
                found.extend(ended.map(|one| mention(one, number)));
            }
        }
    }
    if let (true, Some((_, label))) = (closing, open) {
        wrong(tags.len() - 1, format!("the sentence ends inside a mention of {label} ({})", name(scheme)))?;
        open = None;
    }
    found.extend(open.map(|one| mention(one, tags.len())));
    Ok(found)
}

/// A tag of the scheme; a label without a prefix is inside a mention.
fn parse(text: &str, scheme: Scheme) -> Option<Tag<'_>> {
    match scheme {
        Scheme::Bare if text == "O" => Some(Tag::Outside),
        Scheme::Bare => (!text.is_empty()).then_some(Tag::Inside(text)),
        _ => Tag::parse(text),
    }
}

const fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Auto | Scheme::Iob1 => "IOB1",
        Scheme::Iob2 => "IOB2",
        Scheme::Bioes => "BIOES",
        Scheme::Bmes => "BMES",
        Scheme::Bare => "labels without a prefix",
    }
}

fn mention((start, label): (usize, &str), end: usize) -> (TokenSpan, String) {
    (TokenSpan::new(start, end), label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(tags: &str, scheme: Scheme) -> Result<String, String> {
        let tags: Vec<&str> = tags.split(' ').collect();
        let one = |(span, label): (TokenSpan, String)| format!("{label} {}..{}", span.start, span.end);
        let all = |found: Vec<_>| found.into_iter().map(one).collect::<Vec<_>>().join(", ");
        decode(&tags, scheme).map(all).map_err(|(number, reason)| format!("{number}: {reason}"))
    }

    fn detected(sentences: &[&str]) -> Scheme {
        let mut detector = Detector::default();
        for tags in sentences {
            detector.observe(tags.split(' '));
        }
        detector.scheme()
    }

    #[test]
    fn one_sentence_in_every_scheme() {
        let expected = Ok("PER 0..2, LOC 3..4, LOC 4..6".to_owned());
        assert_eq!(decoded("I-PER I-PER O I-LOC B-LOC I-LOC", Scheme::Iob1), expected);
        assert_eq!(decoded("B-PER I-PER O B-LOC B-LOC I-LOC", Scheme::Iob2), expected);
        assert_eq!(decoded("B-PER E-PER O S-LOC B-LOC E-LOC", Scheme::Bioes), expected);
        assert_eq!(decoded("B-PER L-PER O U-LOC B-LOC L-LOC", Scheme::Bioes), expected);
        assert_eq!(decoded("B-PER E-PER O S-LOC B-LOC E-LOC", Scheme::Bmes), expected);
    }

    #[test]
    fn a_scheme_is_detected_from_its_tags() {
        assert_eq!(detected(&["O I-PER I-PER", "I-LOC B-LOC"]), Scheme::Iob1);
        assert_eq!(detected(&["O B-PER I-PER", "B-LOC B-LOC"]), Scheme::Iob2);
        assert_eq!(detected(&["B-PER I-PER", "B-LOC I-PER"]), Scheme::Iob1);
        assert_eq!(detected(&["O S-PER"]), Scheme::Bioes);
        assert_eq!(detected(&["O B-PER M-PER E-PER"]), Scheme::Bmes);
    }

    #[test]
    fn tags_that_a_scheme_forbids_are_errors() {
        assert_eq!(decoded("O I-PER", Scheme::Iob2), Err("1: `I-PER` does not continue a mention (IOB2)".into()));
        assert_eq!(decoded("B-PER I-LOC", Scheme::Iob2), Err("1: `I-LOC` does not continue a mention (IOB2)".into()));
        assert_eq!(decoded("B-PER E-PER", Scheme::Iob2), Err("1: `E-PER` is not a tag of IOB2".into()));
        let interrupted = "1: `O` comes before the end of a mention of PER (BIOES)";
        assert_eq!(decoded("B-PER O", Scheme::Bioes), Err(interrupted.into()));
        let open = "1: the sentence ends inside a mention of PER (BMES)";
        assert_eq!(decoded("O B-PER", Scheme::Bmes), Err(open.into()));
        assert!(decoded("E-PER", Scheme::Bioes).unwrap_err().contains("does not continue a mention"));
        assert!(decoded("O X-PER", Scheme::Iob1).unwrap_err().starts_with("1: unknown tag `X-PER`, expected O"));
        assert!(decoded("B-", Scheme::Iob2).unwrap_err().starts_with("0: unknown tag `B-`"));
    }

    #[test]
    fn labels_without_a_prefix_are_mentions_by_runs() {
        assert_eq!(detected(&["PER PER O ORG/x-y", "O"]), Scheme::Bare);
        assert_eq!(decoded("PER PER O LOC ORG ORG", Scheme::Bare), Ok("PER 0..2, LOC 3..4, ORG 4..6".into()));
        // A letter and a hyphen are a tag of a scheme that nobody knows, and a prefix elsewhere means that the label lacks one.
        assert_eq!(detected(&["O X-PER"]), Scheme::Iob2);
        assert_eq!(detected(&["O PER B-PER"]), Scheme::Iob2);
        assert_eq!(decoded("B_PER I_PER O", Scheme::Iob2), Ok("PER 0..2".into()));
    }

    #[test]
    fn an_invalid_tag_can_be_passed_over() {
        let lenient = |tags: &str, scheme| {
            let tags: Vec<&str> = tags.split(' ').collect();
            let mut wrong = Vec::new();
            let found = decode_with(&tags, scheme, |number, _| {
                wrong.push(number);
                Ok::<_, ()>(())
            });
            let found = found.unwrap().into_iter().map(|(span, label)| format!("{label} {}..{}", span.start, span.end));
            (found.collect::<Vec<_>>().join(", "), wrong)
        };
        assert_eq!(lenient("B-PER I-LOC O B-LOC", Scheme::Iob2), ("PER 0..1, LOC 3..4".into(), vec![1]));
        assert_eq!(lenient("B-PER O S-LOC", Scheme::Bioes), ("LOC 2..3".into(), vec![1]));
        assert_eq!(lenient("B-PER X-LOC I-PER B-LOC", Scheme::Iob2), ("LOC 3..4".into(), vec![1, 2]));
        assert_eq!(lenient("S-LOC B-PER", Scheme::Bmes), ("LOC 0..1".into(), vec![1]));
    }
}
