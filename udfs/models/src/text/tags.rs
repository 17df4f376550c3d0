//! Tags of tokens in the BIO scheme (Ramshaw and Marcus 1995): `O`, and `B-` and `I-` with the label of a span.

/// The tag of a token outside of all spans.
pub const OUTSIDE: &str = "O";

/// The label of a tag and whether a span begins there; `None` for `O` and for what is no tag.
pub fn label(tag: &str) -> Option<(bool, &str)> {
    let (begins, label) = tag.strip_prefix("B-").map(|label| (true, label)).or_else(|| Some((false, tag.strip_prefix("I-")?)))?;
    (!label.is_empty()).then_some((begins, label))
}

/// Whether a text is a tag.
pub fn is_tag(tag: &str) -> bool {
    tag == OUTSIDE || label(tag).is_some()
}

/// A span: the first place, the one after the last, and its label.
pub type Span<'t> = (usize, usize, &'t str);

/// The spans of a row of tags. An `I-` that continues nothing begins a span, as in the evaluation of CoNLL.
pub fn spans<'t>(tags: impl IntoIterator<Item = &'t str>) -> Vec<Span<'t>> {
    let mut spans: Vec<Span<'t>> = Vec::new();
    for (place, tag) in tags.into_iter().enumerate() {
        let Some((begins, label)) = label(tag) else { continue };
        match spans.last_mut().filter(|(_, end, own)| !begins && *end == place && *own == label) {
            Some((_, end, _)) => *end = place + 1,
            None => spans.push((place, place + 1, label)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_begin_with_b_or_with_an_i_that_continues_nothing() {
        let tags = ["O", "B-brand", "I-brand", "B-brand", "O", "I-price", "I-price", "I-brand"];
        assert_eq!(spans(tags), [(1, 3, "brand"), (3, 4, "brand"), (5, 7, "price"), (7, 8, "brand")]);
        assert_eq!(spans(["O", "x", "B-"]), []);
        assert!(["O", "B-x", "I-x"].into_iter().all(is_tag) && !["o", "B-", "E-x", "brand", ""].into_iter().any(is_tag));
    }
}
