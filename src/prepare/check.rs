//! Validates a mention against its text. In: a text, a mention as the corpus gives it, the allowed types. Out: `Ok`, or the problem
//! and what was expected. It must not repair a mention.

use std::collections::BTreeSet;

use crate::prepare::char_index::CharIndex;
use crate::prepare::record::{Mention, short};
use crate::text::span::{CharSpan, same_words};

/// Returns what is wrong with a mention. If `types` are given, its type must be one of them.
pub(crate) fn check(
    text: &str,
    index: &CharIndex,
    mention: &Mention,
    types: Option<&BTreeSet<String>>,
) -> Result<(), String> {
    let name = &mention.entity_type;
    if name.trim().is_empty() {
        return Err("a mention has no type".into());
    }
    if let Some(types) = types.filter(|types| !types.contains(name)) {
        let known: Vec<&str> = types.iter().map(String::as_str).collect();
        return Err(format!("unknown type `{name}`, expected one of {}", known.join(", ")));
    }
    let CharSpan { start, end, .. } = mention.span;
    if start >= end {
        return Err(format!("a mention of type {name} is empty ({start}..{end})"));
    }
    let Some(covered) = index.slice(text, mention.span) else {
        return Err(format!(
            "a mention of type {name} covers characters {start}..{end}, but the text has {}",
            index.chars()
        ));
    };
    if covered.trim().is_empty() {
        return Err(format!("a mention of type {name} covers only white space ({start}..{end})"));
    }
    if let Some(surface) = mention.surface.as_ref().filter(|surface| !same_words(covered, surface)) {
        return Err(format!(
            "a mention of type {name} covers {start}..{end}, which is `{}` in the text, expected `{}`",
            short(covered),
            short(surface)
        ));
    }
    match mention.head {
        Some(head) if head.is_empty() || index.slice(text, head).is_none() => {
            Err(format!("the head of a mention of type {name} is not in the text ({}..{})", head.start, head.end))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::record::Place;

    fn mention(start: usize, end: usize, surface: &str) -> Mention {
        let span = CharSpan::new(start, end);
        Mention { surface: Some(surface.into()), ..Mention::new("PER", span, Place::Line(7)) }
    }

    fn reason(text: &str, one: &Mention) -> String {
        check(text, &CharIndex::new(text), one, None).err().unwrap_or_default()
    }

    #[test]
    fn a_mention_must_match_its_text() {
        assert_eq!(reason("Élodie met Ada", &mention(11, 14, "Ada")), "");
        assert_eq!(
            reason("Élodie met Ada", &mention(12, 15, "Ada")),
            "a mention of type PER covers characters 12..15, but the text has 14"
        );
        assert_eq!(
            reason("Élodie met Ada", &mention(7, 10, "Ada")),
            "a mention of type PER covers 7..10, which is `met` in the text, expected `Ada`"
        );
        assert!(reason("Ada", &mention(2, 2, "")).contains("is empty"));
        let split = reason("Ada\n Byron", &mention(0, 10, "Ada Byron"));
        assert_eq!(split, "", "a line break counts as white space");
    }

    #[test]
    fn a_head_outside_the_text_is_an_error() {
        let one = Mention { head: Some(CharSpan::new(3, 9)), ..mention(0, 3, "Ada") };
        assert!(reason("Ada", &one).contains("the head of a mention of type PER is not in the text (3..9)"));
    }
}
