//! The reference implementation's MRC JSON ↔ documents. In: one item per sentence and type, or rows to write. Out: a document whose
//! sentences are the contexts, or the file. It must not change a context: tokens are separated by white space.
//!
//! Format: the data of BERT-MRC's code. `start_position` and `end_position` are token numbers from 0, ends inclusive;
//! `span_position` has them in pairs, "s;e"; `qas_id` is "sentence.type". `doc_id` is our own key: it preserves the ids of rows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Cause, Result};
use crate::prepare::char_index::CharIndex;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::output::granularity::Row;
use crate::prepare::record::{Kind, LineError, Place, outside_tokens, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::standoff::json::{items, parse};
use crate::task::entity_schema::EntitySchema;
use crate::text::span::TokenSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "MRC JSON is a list of items with context, entity_label, qas_id, start_position and end_position (or span_position)";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".json", "mrc-ner.train", "mrc-ner.dev", "mrc-ner.test"];

/// An item: one question about one sentence. The keys are in the order of the reference implementation.
#[derive(Debug, Deserialize, Serialize)]
struct Item {
    context: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doc_id: Option<String>,
    #[serde(default)]
    end_position: Option<Vec<usize>>,
    #[serde(default)]
    entity_label: Option<String>,
    #[serde(default)]
    impossible: bool,
    #[serde(default)]
    qas_id: Option<String>,
    #[serde(default)]
    query: String,
    #[serde(default)]
    span_position: Option<Vec<String>>,
    #[serde(default)]
    start_position: Option<Vec<usize>>,
}

/// A sentence whose items are being collected.
struct Sentence {
    context: String,
    doc_id: Option<String>,
    line: usize,
    labels: Vec<String>,
    mentions: Vec<(TokenSpan, String)>,
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let items = match items(&text) {
        Ok(items) => items,
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    let (mut sentences, mut numbers) = (Vec::new(), HashMap::new());
    for item in items {
        if let Err((line, reason)) = collect(item, &mut sentences, &mut numbers, options.schema.as_ref()) {
            corpus.problem(file, Place::Line(line), reason)?;
        }
    }
    let mut rest = Assembler::new(file.name.clone(), file, Place::Line(1), Kind::File);
    for Sentence { context, doc_id, line, mentions, .. } in sentences {
        let place = Place::Line(line);
        let sentence =
            TokenSentence { tokens: context.split_whitespace().collect(), mentions, place, lines: Vec::new() };
        match doc_id {
            None => rest.tokens(&sentence, file, corpus)?,
            Some(id) => {
                let mut document = Assembler::new(id, file, place, Kind::Sentence);
                document.tokens(&sentence, file, corpus)?;
                document.finish().map_or(Ok(()), |document| corpus.push(file, document))?;
            }
        }
    }
    rest.finish().map_or(Ok(()), |document| corpus.push(file, document))
}

/// Adds an item to its sentence: the one that its `qas_id` names, without a `qas_id` the last one, or a new one.
fn collect(
    (line, text): (usize, &str),
    sentences: &mut Vec<Sentence>,
    numbers: &mut HashMap<String, usize>,
    schema: Option<&EntitySchema>,
) -> Result<(), LineError> {
    let item: Item = parse((line, text))?;
    let wrong = |reason: String| (line, reason);
    let label = label(&item, schema).map_err(wrong)?;
    let spans = spans(&item).map_err(wrong)?;
    let key = item.qas_id.as_deref().map(|id| id.rsplit_once('.').map_or(id, |(sentence, _)| sentence).to_owned());
    let tokens = item.context.split_whitespace().count();
    if let Some(span) = spans.iter().find(|span| span.end > tokens) {
        return Err(wrong(outside_tokens(&label, span.start..span.end, tokens)));
    }
    let begun = match &key {
        Some(key) => numbers.get(key).copied(),
        None => sentences.len().checked_sub(1).filter(|&last| {
            let Sentence { context, labels, .. } = &sentences[last];
            *context == item.context && !labels.contains(&label)
        }),
    };
    let number = begun.unwrap_or(sentences.len());
    if begun.is_none() {
        let (context, doc_id) = (item.context.clone(), item.doc_id.clone());
        sentences.push(Sentence { context, doc_id, line, labels: Vec::new(), mentions: Vec::new() });
        numbers.extend(key.map(|key| (key, number)));
    }
    let last = &mut sentences[number];
    if last.context != item.context {
        let reason = format!(
            "the context differs from line {}, which has the same sentence in `qas_id`: `{}`, expected `{}`",
            last.line,
            short(&item.context),
            short(&last.context)
        );
        return Err(wrong(reason));
    }
    last.mentions.extend(spans.into_iter().map(|span| (span, label.clone())));
    last.labels.push(label);
    Ok(())
}

/// The type that an item asks for; without `entity_label` the question identifies it.
fn label(item: &Item, schema: Option<&EntitySchema>) -> Result<String, String> {
    if let Some(label) = &item.entity_label {
        return Ok(label.clone());
    }
    let mut types = schema.into_iter().flat_map(|schema| &schema.types);
    types.find(|one| one.words() == item.query).map(|one| one.name.clone()).ok_or_else(|| {
        "no `entity_label`; pass a --schema with the item's `query` as a question, to identify the type".to_owned()
    })
}

/// The mentions of an item, half-open.
fn spans(item: &Item) -> Result<Vec<TokenSpan>, String> {
    let (starts, ends) = (item.start_position.as_deref(), item.end_position.as_deref());
    let Some(pairs) = &item.span_position else {
        let (starts, ends) = (starts.unwrap_or_default(), ends.unwrap_or_default());
        if starts.len() != ends.len() {
            return Err(format!("{} starts but {} ends, and no `span_position`", starts.len(), ends.len()));
        }
        return Ok(starts
            .iter()
            .zip(ends)
            .map(|(&start, &end)| TokenSpan::new(start, end.saturating_add(1)))
            .collect());
    };
    let pairs = pairs.iter().map(|pair| pair_of(pair)).collect::<Result<Vec<_>, _>>()?;
    // Compare only the keys that are present.
    let same = |positions: Option<&[usize]>, side: fn(&(usize, usize)) -> usize| {
        let Some(positions) = positions else { return true };
        let (mut one, mut other) = (positions.to_vec(), pairs.iter().map(side).collect::<Vec<_>>());
        one.sort_unstable();
        one.dedup();
        other.sort_unstable();
        other.dedup();
        one == other
    };
    if !(same(starts, |pair| pair.0) && same(ends, |pair| pair.1)) {
        return Err("`span_position` and `start_position`, `end_position` name different tokens".into());
    }
    Ok(pairs.into_iter().map(|(start, end)| TokenSpan::new(start, end.saturating_add(1))).collect())
}

/// "s;e" as two numbers, the end inclusive.
pub(crate) fn pair_of(pair: &str) -> Result<(usize, usize), String> {
    let numbers = pair
        .split_once([';', ','])
        .and_then(|(start, end)| Some((start.trim().parse::<usize>().ok()?, end.trim().parse::<usize>().ok()?)));
    numbers.filter(|(start, end)| start <= end).ok_or_else(|| format!("`{pair}` is not a span, expected \"start;end\""))
}

/// Writes rows as MRC JSON, one item per row and type of the schema. Returns the number of texts with white space other than single
/// spaces, and the number of times a word was split because a mention begins or ends inside it.
pub(crate) fn write(file: &mut File, rows: &[Row], schema: &EntitySchema) -> Result<(usize, usize), Cause> {
    let mut out = std::io::BufWriter::new(file);
    let (mut spaced, mut split) = (0, 0);
    let mut json = serde_json::Serializer::pretty(&mut out);
    let mut list = json.serialize_seq(None)?;
    for (number, row) in rows.iter().enumerate() {
        let tokens = Tokens::of(row);
        let context = tokens.words.join(" ");
        spaced += usize::from(context != row.text && tokens.splits == 0);
        split += tokens.splits;
        let mut by_type: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        for (mention, span) in row.mentions.iter().zip(&tokens.mentions) {
            by_type.entry(&mention.entity_type).or_default().push(*span);
        }
        for (index, one) in schema.types.iter().enumerate() {
            let spans = by_type.get(one.name.as_str()).cloned().unwrap_or_default();
            let item = Item {
                context: context.clone(),
                doc_id: Some(row.id.clone()),
                end_position: Some(spans.iter().map(|span| span.1).collect()),
                entity_label: Some(one.name.clone()),
                impossible: spans.is_empty(),
                qas_id: Some(format!("{number}.{}", index + 1)),
                query: one.words().to_owned(),
                span_position: Some(spans.iter().map(|(start, end)| format!("{start};{end}")).collect()),
                start_position: Some(spans.iter().map(|span| span.0).collect()),
            };
            list.serialize_element(&item)?;
        }
    }
    list.end()?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok((spaced, split))
}

/// A row's words, and the first and last word of each mention.
struct Tokens<'row> {
    words: Vec<&'row str>,
    mentions: Vec<(usize, usize)>,
    /// How often a word was split because a mention begins or ends inside it.
    splits: usize,
}

impl<'row> Tokens<'row> {
    fn of(row: &'row Row) -> Self {
        let index = CharIndex::new(&row.text);
        let mut boundaries: Vec<usize> =
            row.mentions.iter().flat_map(|mention| [mention.span.start, mention.span.end]).collect();
        boundaries.sort_unstable();
        boundaries.dedup();
        let (mut words, mut places, mut splits) = (Vec::new(), Vec::new(), 0);
        let mut boundaries = boundaries.into_iter().peekable();
        for word in row.text.split_whitespace() {
            let byte = word.as_ptr() as usize - row.text.as_ptr() as usize;
            let (mut start, mut from) = (index.char_at(byte), 0);
            let end = index.char_at(byte + word.len());
            while boundaries.peek().is_some_and(|&boundary| boundary < end) {
                let Some(boundary) = boundaries.next().filter(|&boundary| boundary > start) else { continue };
                let to = from + word[from..].char_indices().nth(boundary - start).map_or(0, |(byte, _)| byte);
                words.push(&word[from..to]);
                places.push((start, boundary));
                (start, from, splits) = (boundary, to, splits + 1);
            }
            words.push(&word[from..]);
            places.push((start, end));
        }
        let first = |start: usize| places.partition_point(|&(_, end)| end <= start);
        let last = |end: usize| places.partition_point(|&(start, _)| start < end).saturating_sub(1);
        let mentions = row.mentions.iter().map(|one| (first(one.span.start), last(one.span.end))).collect();
        Self { words, mentions, splits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::record::Mention;
    use crate::text::span::CharSpan;

    fn item(text: &str) -> Item {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn span_positions_take_precedence_over_starts_and_ends() {
        let one = item(
            r#"{"context": "a b c", "start_position": [0, 1], "end_position": [1, 2], "span_position": ["0;2", "1;1"]}"#,
        );
        assert_eq!(spans(&one), Ok(vec![TokenSpan::new(0, 3), TokenSpan::new(1, 2)]));
        let one = item(r#"{"context": "a b c", "start_position": [0, 1], "end_position": [1, 1]}"#);
        assert_eq!(spans(&one), Ok(vec![TokenSpan::new(0, 2), TokenSpan::new(1, 2)]));
        let one = item(r#"{"context": "a b c", "span_position": ["0;2", "1;1"]}"#);
        assert_eq!(spans(&one), Ok(vec![TokenSpan::new(0, 3), TokenSpan::new(1, 2)]), "missing keys are not compared");
        let one = item(r#"{"context": "a", "start_position": [0], "end_position": [0], "span_position": []}"#);
        let reason = "`span_position` and `start_position`, `end_position` name different tokens";
        assert_eq!(spans(&one), Err(reason.into()));
        let one = item(r#"{"context": "a", "start_position": [0], "end_position": []}"#);
        assert_eq!(spans(&one), Err("1 starts but 0 ends, and no `span_position`".into()));
    }

    proptest::proptest! {
        /// No letter is lost, and the words of a mention are the text it covers.
        #[test]
        fn words_spell_the_text(text in "[ aé𝄞.\u{a0}\n-]{1,24}", spans in proptest::collection::vec((0..24_usize, 1..6_usize), 0..5)) {
            let index = CharIndex::new(&text);
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            let inside = |&(start, length): &(usize, usize)| {
                let span = CharSpan::new(start, start + length);
                index.slice(&text, span).is_some_and(|covered| !covered.trim().is_empty()).then_some(span)
            };
            let mut spans: Vec<CharSpan> = spans.iter().filter_map(inside).collect();
            spans.sort_unstable();
            let row = Row {
                id: "1".into(),
                text: text.clone(),
                source: String::new(),
                place: Place::Line(1),
                document: "1".into(),
                sentence: None,
                sentences: 1,
                group: String::new(),
                mentions: spans.iter().map(|&span| Mention::new("X", span, Place::Line(1))).collect(),
            };
            let tokens = Tokens::of(&row);
            proptest::prop_assert_eq!(tokens.words.concat(), solid(&text));
            proptest::prop_assert_eq!(tokens.mentions.len(), spans.len());
            for (span, (first, last)) in spans.iter().zip(&tokens.mentions) {
                proptest::prop_assert_eq!(tokens.words[*first..=*last].concat(), solid(index.slice(&text, *span).unwrap()));
            }
        }
    }

    #[test]
    fn words_are_split_at_mention_boundaries() {
        let spans = [(2, 6), (2, 3), (7, 8)];
        let mention = |(start, end)| Mention::new("X", CharSpan::new(start, end), Place::Line(1));
        let row = Row {
            id: "1".into(),
            text: "é IL-2-x\n(y)".into(),
            source: String::new(),
            place: Place::Line(1),
            document: "1".into(),
            sentence: None,
            sentences: 1,
            group: String::new(),
            mentions: spans.map(mention).into(),
        };
        let tokens = Tokens::of(&row);
        assert_eq!(tokens.words, ["é", "I", "L-2", "-", "x", "(y)"]);
        assert_eq!(tokens.mentions, [(1, 2), (1, 1), (4, 4)]);
        assert_eq!(tokens.splits, 3);
    }
}
