//! Nested gold → flat gold. In: the mentions of a document. Out: those that a tagger can mark, and the number of the others. It must not know
//! tokens.

use crate::train::data::dataset::Gold;

/// The mentions that overlap no longer one, in the order of the text: a word has one tag, so of mentions that share a character the longest is
/// kept, of equally long ones the earlier, and of two types the first of the schema. The second value is the number of the others.
pub(crate) fn outermost(mentions: &[Gold]) -> (Vec<Gold>, usize) {
    let mut ranked: Vec<Gold> = mentions.to_vec();
    ranked.sort_by_key(|one| (std::cmp::Reverse(one.chars.len()), one.chars.start, one.entity_type));
    let mut kept: Vec<Gold> = Vec::with_capacity(ranked.len());
    for one in ranked {
        // The kept ones are in order and do not overlap, so only the neighbours can overlap a new one.
        let place = kept.partition_point(|other| other.chars.start < one.chars.start);
        let near = kept[place.saturating_sub(1)..kept.len().min(place + 1)].iter();
        if !near.into_iter().any(|other| other.chars.overlaps(&one.chars)) {
            kept.insert(place, one);
        }
    }
    let others = mentions.len() - kept.len();
    (kept, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::span::CharSpan;

    fn gold(start: usize, end: usize, entity_type: usize) -> Gold {
        Gold { chars: CharSpan::new(start, end), entity_type }
    }

    #[test]
    fn the_longest_of_overlapping_mentions_is_kept() {
        let all = [
            gold(0, 4, 1),
            gold(0, 10, 0),
            gold(6, 10, 1),
            gold(10, 12, 1),
            gold(11, 14, 0),
            gold(20, 22, 1),
            gold(20, 22, 0),
        ];
        let kept = vec![gold(0, 10, 0), gold(11, 14, 0), gold(20, 22, 0)];
        assert_eq!(outermost(&all), (kept.clone(), 4));
        assert_eq!(outermost(&kept), (kept, 0));
        assert_eq!(outermost(&[]), (Vec::new(), 0));
    }
}
