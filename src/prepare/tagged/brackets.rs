//! Names in brackets → spans. In: a cell per token: `(TYPE*` opens a name, `*)` closes one. Out: each name's token span and type, or the
//! cell that does not fit. It must not repair brackets.
//!
//! Format: the columns of the CoNLL shared tasks 2004, 2005 and 2012; names can lie inside others.

use crate::text::span::TokenSpan;

/// Whether a text is a cell of this notation.
pub(crate) fn is_bracketed(text: &str) -> bool {
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix('(') {
        let end = inside.find(['(', '*', ')']).unwrap_or(inside.len());
        if end == 0 {
            return false;
        }
        rest = &inside[end..];
    }
    let closing = rest.strip_prefix('*').unwrap_or(rest);
    (closing.len() < rest.len() || closing.len() < text.len()) && closing.bytes().all(|byte| byte == b')')
}

/// The names of a sentence, or the index of the cell that does not fit and the reason.
pub(crate) fn brackets(cells: &[&str]) -> Result<Vec<(TokenSpan, String)>, (usize, String)> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for (index, cell) in cells.iter().enumerate() {
        let wrong = |why: &str| (index, format!("{why}, found `{cell}`"));
        let mut rest = *cell;
        while let Some(inside) = rest.strip_prefix('(') {
            let end = inside.find(['(', '*', ')']).unwrap_or(inside.len());
            if end == 0 {
                return Err(wrong("expected a type after the bracket"));
            }
            open.push((index, &inside[..end]));
            rest = &inside[end..];
        }
        rest = rest.strip_prefix(['*', '-']).unwrap_or(rest);
        while let Some(after) = rest.strip_prefix(')') {
            let (start, label) = open.pop().ok_or_else(|| wrong("a closing bracket without an opening one"))?;
            found.push((TokenSpan::new(start, index + 1), label.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(wrong("expected names such as `(ORG*`, `*`, `*)` or `(GPE)`"));
        }
    }
    match open.pop() {
        Some((_, label)) => Err((cells.len() - 1, format!("the sentence ends inside a mention of {label}"))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(column: &str) -> Result<Vec<(TokenSpan, String)>, (usize, String)> {
        brackets(&column.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn brackets_nest() {
        let found = names("(DATE(CARDINAL) * *) (GPE)").unwrap();
        let expected = [(0, 1, "CARDINAL"), (0, 3, "DATE"), (3, 4, "GPE")];
        assert_eq!(found, expected.map(|(start, end, label)| (TokenSpan::new(start, end), label.to_owned())));
    }

    #[test]
    fn brackets_that_do_not_match_are_errors() {
        assert_eq!(names("* *)").unwrap_err(), (1, "a closing bracket without an opening one, found `*)`".into()));
        assert_eq!(names("(ORG* *").unwrap_err(), (1, "the sentence ends inside a mention of ORG".into()));
        assert!(names("ORG").unwrap_err().1.starts_with("expected names such as"));
        assert!(names("(*").unwrap_err().1.starts_with("expected a type"));
    }

    #[test]
    fn a_cell_is_known_by_its_brackets() {
        for cell in ["*", "(PER*", "*)", "(PER*)", "(DATE(CARDINAL)", "(GPE)", "*))"] {
            assert!(is_bracketed(cell), "{cell}");
        }
        for cell in ["", "O", "B-PER", "(", "(*", "()", ")", "-", "(see", "left"] {
            assert_eq!(is_bracketed(cell), cell == "(see", "{cell}");
        }
    }
}
