//! Spans of characters as tags of words.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Fields as Columns};
use datafusion::common::Result as EngineResult;
use stratagem_models::encoder::Sentence;

use crate::declaration::Type;
use crate::error::{Error, Result};

/// Where the fields of a span are in its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    start: usize,
    length: usize,
    label: usize,
}

impl Fields {
    /// Of a list of rows that have them.
    pub(super) fn of(list: &DataType) -> Option<Self> {
        let item = match list {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type(),
            _ => return None,
        };
        let DataType::Struct(columns) = item else { return None };
        let find = |name: &str, fits: fn(&DataType) -> bool| position(columns, name).filter(|place| fits(columns[*place].data_type()));
        Some(Self {
            start: find("start", DataType::is_integer)?,
            length: find("length", DataType::is_integer)?,
            label: find("label", |of| Type::Text.accepts(of))?,
        })
    }
}

fn position(columns: &Columns, name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name() == name)
}

/// A span of a text: its first character, from 1, how many there are, and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) length: i64,
    pub(super) label: String,
}

/// The spans of each row of a column; `None` is NULL.
pub(super) fn rows(column: &ArrayRef) -> EngineResult<Vec<Option<Vec<Span>>>> {
    let Some(fields) = Fields::of(column.data_type()) else { return Ok(vec![None; column.len()]) };
    let row = |list: Option<ArrayRef>| {
        let Some(list) = list else { return Ok(None) };
        let spans = list.as_struct();
        let (starts, lengths) = (cast(spans.column(fields.start), &DataType::Int64)?, cast(spans.column(fields.length), &DataType::Int64)?);
        let labels = cast(spans.column(fields.label), &DataType::Utf8)?;
        let (starts, lengths, labels): (&Int64Array, &Int64Array, &StringArray) =
            (starts.as_primitive(), lengths.as_primitive(), labels.as_string());
        let whole = |at: &usize| spans.is_valid(*at) && starts.is_valid(*at) && lengths.is_valid(*at) && labels.is_valid(*at);
        let span = |at: usize| Span { start: starts.value(at), length: lengths.value(at), label: labels.value(at).to_owned() };
        EngineResult::Ok(Some((0..spans.len()).filter(whole).map(span).collect()))
    };
    match column.data_type() {
        DataType::LargeList(_) => column.as_list::<i64>().iter().map(row).collect(),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().iter().map(row).collect(),
        _ => column.as_list::<i32>().iter().map(row).collect(),
    }
}

/// The tags of the words of a text: a word that lies in a span, if only in part, has its label.
pub(super) fn tags(sentence: &Sentence, spans: &[Span], label: &str) -> Result<Vec<String>> {
    let text = &sentence.text;
    let mut tags = vec!["O".to_owned(); sentence.words.len()];
    for span in spans {
        let range = bytes(text, span).ok_or_else(|| {
            let characters = text.chars().count();
            let reason = format!("has a span of {} characters from {} on, and its text has {characters}", span.length, span.start);
            Error::InvalidValue {
                object: format!("label column \"{label}\""),
                reason,
                hint: Some("characters count from 1: substr(text, start, length) is the span".to_owned()),
            }
        })?;
        if span.label.is_empty() {
            return Err(Error::value(format!("label column \"{label}\""), "has a span without a label"));
        }
        let mut begins = true;
        for (word, tag) in sentence.words.iter().zip(&mut tags).filter(|(word, _)| word.start < range.end && word.end > range.start) {
            if tag.as_str() != "O" {
                let reason = format!("has two spans over \"{}\"", &text[word.clone()]);
                return Err(Error::value(format!("label column \"{label}\""), reason));
            }
            *tag = format!("{}-{}", if begins { "B" } else { "I" }, span.label);
            begins = false;
        }
    }
    Ok(tags)
}

/// Where a span lies in a text, if it does.
fn bytes(text: &str, span: &Span) -> Option<Range<usize>> {
    let start = usize::try_from(span.start.checked_sub(1)?).ok()?;
    let end = start.checked_add(usize::try_from(span.length).ok().filter(|length| *length > 0)?)?;
    let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let from = places.nth(start)?;
    // The one after the first is number 0 of what is left.
    let to = places.nth(end - start - 1)?;
    Some(from..to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, length: i64, label: &str) -> Span {
        Span { start, length, label: label.to_owned() }
    }

    #[test]
    fn words_in_a_span_have_its_label_and_a_span_outside_is_refused() {
        let sentence = Sentence::of_text("Ünder Armor 红色 shoe");
        let tagged = |spans: &[Span]| tags(&sentence, spans, "spans").map_err(|error| error.to_string());
        let tags = tagged(&[span(1, 11, "brand"), span(13, 2, "colour")]).unwrap();
        assert_eq!(tags, ["B-brand", "I-brand", "B-colour", "I-colour", "O"]);
        assert!(tagged(&[span(16, 4, "kind")]).unwrap().ends_with(&["B-kind".to_owned()]));
        for (start, length) in [(0, 3), (16, 5), (-1, 3), (1, 0), (1, -4), (i64::MAX, i64::MAX), (20, 1)] {
            let refused = tagged(&[span(start, length, "x")]).unwrap_err();
            assert!(refused.contains("its text has 19"), "{refused}");
        }
        assert!(tagged(&[span(1, 5, "a"), span(3, 5, "b")]).unwrap_err().contains("two spans over \"Ünder\""));
    }
}
