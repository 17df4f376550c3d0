//! From the ids of values to the rows of a feature's part of the embedding table: 0 is NULL's, with a dictionary 1 is that of other values.

use super::inputs::{Form, NULL, NULL_TEXT, is_null, plus, quotient, times};
use super::writer::{Value, Writer};
use crate::features::Vocabulary;
use crate::features::id::{FIRST, INCREMENT, SECOND, of_id};
use crate::onnx::data_type;

/// The values that have a row of their own.
pub(super) struct Known<'a> {
    pub(super) ids: &'a [u64],
    pub(super) texts: Option<&'a [String]>,
}

/// The row of each element of an input of any shape.
pub(super) fn rows(w: &mut Writer, input: &str, form: Form, vocabulary: Vocabulary, known: &Known<'_>) -> Value {
    if vocabulary.hashed {
        return bucket(w, input, form, vocabulary.size);
    }
    let places: Vec<i64> = std::iter::once(0).chain((0..known.ids.len() as i64).map(|position| position + 2)).collect();
    if let (Form::Text, Some(texts)) = (form, known.texts) {
        return w.encode_texts(input, std::iter::once(NULL_TEXT).chain(texts.iter().map(String::as_str)), &places, 1);
    }
    let (null, key): (i64, fn(u64) -> i64) = match form {
        Form::Whole | Form::Days | Form::Time | Form::Moment => (NULL, of_id),
        _ => (0, u64::cast_signed),
    };
    let keys: Vec<i64> = std::iter::once(null).chain(known.ids.iter().map(|id| key(*id))).collect();
    w.encode_ints(input, &keys, &places, 1)
}

/// 1 + id * size / 2^64, in 64 bits: the id is split into halves.
fn bucket(w: &mut Writer, input: &str, form: Form, size: u32) -> Value {
    let (id, null) = match form {
        Form::Whole | Form::Days | Form::Time | Form::Moment => (hash(w, input), is_null(w, input)),
        _ => {
            let zero = w.int(0);
            (w.cast(input, data_type::UINT64), w.op("Equal", &[input, &zero]))
        }
    };
    let high = shift(w, &id, 32, "RIGHT");
    let high = w.cast(&high, data_type::INT64);
    let low = shift(w, &id, 32, "LEFT");
    let low = shift(w, &low, 32, "RIGHT");
    let low = w.cast(&low, data_type::INT64);
    let low = times(w, &low, size.into());
    let low = quotient(w, &low, 1 << 32);
    let sum = times(w, &high, size.into());
    let sum = w.op("Add", &[&sum, &low]);
    let bucket = quotient(w, &sum, 1 << 32);
    let place = plus(w, &bucket, 1);
    let zero = w.int(0);
    w.op("Where", &[&null, &zero, &place])
}

/// [`crate::features::id_of`], where 0 and 1 share a bucket.
fn hash(w: &mut Writer, whole: &str) -> Value {
    let start = plus(w, whole, INCREMENT.cast_signed());
    let mut hash = w.cast(&start, data_type::UINT64);
    for (bits, factor) in [(30, Some(FIRST)), (27, Some(SECOND)), (31, None)] {
        let shifted = shift(w, &hash, bits, "RIGHT");
        hash = w.op("BitwiseXor", &[&hash, &shifted]);
        if let Some(factor) = factor {
            // The product of 64 bits is the same with and without sign.
            let signed = w.cast(&hash, data_type::INT64);
            let product = times(w, &signed, factor.cast_signed());
            hash = w.cast(&product, data_type::UINT64);
        }
    }
    hash
}

fn shift(w: &mut Writer, value: &str, bits: u64, direction: &str) -> Value {
    let bits = w.bits(bits);
    w.op_with("BitShift", &[value, &bits], vec![crate::onnx::AttributeProto::string("direction", direction)])
}
