//! Mentions in their text. In: a text and its mentions. Out: the text with its mentions marked, and a table; control characters of the
//! text are escaped. It must not print.
//!
//! Without colours a mention is `[TYPE …]`, also when nested. With colours each type has its own colour and mentions are underlined; a
//! nested mention has brackets in its colour.

use std::fmt::Write as _;

use crate::console::{Mark, PLAIN, columns, mark};
use crate::sanitize::{escaped, escaped_lines};
use crate::text::mention::Mention;

/// The marked text, and below it a table with one row per mention.
pub(super) fn text(text: &str, mentions: &[Mention], names: &[&str], colours: bool) -> String {
    let names: Vec<_> = names.iter().map(|name| escaped(name)).collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let marked = if colours { coloured(text, mentions) } else { bracketed(text, mentions, &names) };
    if mentions.is_empty() {
        return format!("{}\n\nno mentions found ({})", marked.trim_end(), names.join(", "));
    }
    let row = |mention: &Mention| {
        let one_line = mention.bytes.of(text).split_whitespace().collect::<Vec<_>>().join(" ");
        let offsets = format!("{}–{}", mention.chars.start, mention.chars.end);
        vec![
            escaped(&one_line).into_owned(),
            names[mention.entity_type].to_owned(),
            offsets,
            format!("{:.2}", mention.score),
        ]
    };
    let table = columns(&["mention", "type", "characters", "score"], mentions.iter().map(row));
    let legend: Vec<String> =
        names.iter().enumerate().map(|(kind, name)| format!("{}{name}{PLAIN}", mark(Mark::Kind(kind)))).collect();
    let legend = if colours { format!("\n{}\n", legend.join(" ")) } else { String::new() };
    format!("{}\n{legend}\n{table}", marked.trim_end())
}

/// Positions where mentions begin or end, in order. At one position, ends come before beginnings, and the longer mention begins first.
fn boundaries(mentions: &[Mention]) -> Vec<(usize, Vec<&Mention>, Vec<&Mention>)> {
    let mut offsets: Vec<usize> = mentions.iter().flat_map(|one| [one.bytes.start, one.bytes.end]).collect();
    offsets.sort_unstable();
    offsets.dedup();
    let at = |offset: usize| {
        // The mention that began last ends first.
        let mut ends: Vec<&Mention> = mentions.iter().rev().filter(|one| one.bytes.end == offset).collect();
        ends.sort_by_key(|one| std::cmp::Reverse(one.bytes.start));
        let mut begins: Vec<&Mention> = mentions.iter().filter(|one| one.bytes.start == offset).collect();
        begins.sort_by_key(|one| std::cmp::Reverse(one.bytes.end));
        (offset, ends, begins)
    };
    offsets.into_iter().map(at).collect()
}

fn bracketed(text: &str, mentions: &[Mention], names: &[&str]) -> String {
    let crosses = |a: &Mention, b: &Mention| {
        a.bytes.start < b.bytes.start && b.bytes.start < a.bytes.end && a.bytes.end < b.bytes.end
    };
    // If mentions cross, a closing bracket is ambiguous without its type.
    let crossing = mentions.iter().any(|a| mentions.iter().any(|b| crosses(a, b)));
    let mut marked = String::with_capacity(text.len() * 2);
    let mut done = 0;
    for (offset, ends, begins) in boundaries(mentions) {
        marked.push_str(&escaped_lines(&text[done..offset]));
        done = offset;
        for one in ends {
            marked.push(']');
            if crossing {
                marked.push_str(names[one.entity_type]);
            }
        }
        for one in begins {
            marked.push('[');
            marked.push_str(names[one.entity_type]);
            marked.push(' ');
        }
    }
    marked + &escaped_lines(&text[done..])
}

fn coloured(text: &str, mentions: &[Mention]) -> String {
    let mut marked = String::with_capacity(text.len() * 2);
    let mut open: Vec<&Mention> = Vec::new();
    let mut done = 0;
    let kind = |one: &Mention| mark(Mark::Kind(one.entity_type));
    for (offset, ends, begins) in boundaries(mentions) {
        // Writing to a String cannot fail.
        let _ = match open.last() {
            Some(inner) => write!(marked, "{}{}{PLAIN}", kind(inner), escaped_lines(&text[done..offset])),
            None => write!(marked, "{}", escaped_lines(&text[done..offset])),
        };
        done = offset;
        for one in ends {
            let depth = open.iter().position(|other| std::ptr::eq(*other, one));
            if let Some(depth) = depth {
                open.remove(depth);
                if depth > 0 {
                    let _ = write!(marked, "{}]{PLAIN}", kind(one));
                }
            }
        }
        for one in begins {
            if !open.is_empty() {
                let _ = write!(marked, "{}[{PLAIN}", kind(one));
            }
            open.push(one);
        }
    }
    marked + &escaped_lines(&text[done..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::span::{ByteSpan, CharSpan};

    fn mention(text: &str, part: &str, entity_type: usize) -> Mention {
        let start = text.find(part).unwrap();
        let chars = text[..start].chars().count();
        Mention {
            entity_type,
            chars: CharSpan::new(chars, chars + part.chars().count()),
            bytes: ByteSpan::new(start, start + part.len()),
            logit: 2.2,
            score: 0.9,
            window: 0,
        }
    }

    #[test]
    fn nested_mentions_are_nested_brackets() {
        let text = "Zoë studied at the University of Oslo, Norway.";
        let found = [
            mention(text, "Zoë", 0),
            mention(text, "University of Oslo", 1),
            mention(text, "Oslo", 2),
            mention(text, "Norway", 2),
        ];
        assert_eq!(
            bracketed(text, &found, &["PER", "ORG", "LOC"]),
            "[PER Zoë] studied at the [ORG University of [LOC Oslo]], [LOC Norway]."
        );
    }

    #[test]
    fn crossing_mentions_have_their_type_at_the_end() {
        let text = "Bank of New York City";
        let found = [mention(text, "Bank of New York", 0), mention(text, "New York City", 1)];
        assert_eq!(bracketed(text, &found, &["ORG", "LOC"]), "[ORG Bank of [LOC New York]ORG City]LOC");
    }

    #[test]
    fn one_span_can_have_two_types() {
        let text = "In Oslo.";
        let found = [mention(text, "Oslo", 0), mention(text, "Oslo", 1)];
        assert_eq!(bracketed(text, &found, &["LOC", "city"]), "In [LOC [city Oslo]].");
        let shown = coloured(text, &found).replace(PLAIN, "}").replace(&mark(Mark::Kind(1)), "{1:");
        assert_eq!(shown, "In {1:[}{1:Oslo}{1:]}.");
    }

    #[test]
    fn colours_end_where_they_should() {
        let text = "Bank of Oslo, Norway";
        let found = [mention(text, "Bank of Oslo", 0), mention(text, "Oslo", 1), mention(text, "Norway", 1)];
        let shown = coloured(text, &found).replace(PLAIN, "}");
        let (first, second) = (mark(Mark::Kind(0)), mark(Mark::Kind(1)));
        let shown = shown.replace(&first, "{0:").replace(&second, "{1:");
        assert_eq!(shown, "{0:Bank of }{1:[}{1:Oslo}{1:]}, {1:Norway}");
        // Without the marks it equals the text.
        let plain = shown.replace("{0:", "").replace("{1:", "").replace('}', "").replace(['[', ']'], "");
        assert_eq!(plain, text);
    }
    #[test]
    fn escape_sequences_of_a_text_are_escaped() {
        let sequence = "\u{1b}[2J\u{9b}31m";
        let text = format!("In {sequence}Oslo\u{202e}{sequence} it\nrained{sequence}");
        let found = [mention(&text, "Oslo\u{202e}", 0)];
        for colours in [false, true] {
            let shown = super::text(&text, &found, &["LOC\u{1b}[31m"], colours);
            let ours: String = shown.replace(PLAIN, "").replace(&mark(Mark::Kind(0)), "");
            assert!(
                !ours.contains(|letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}'),
                "{ours:?}"
            );
            assert!(ours.contains("\\u{1b}[2J\\u{9b}31m") && ours.contains("Oslo\\u{202e}"), "{ours}");
        }
    }
}
