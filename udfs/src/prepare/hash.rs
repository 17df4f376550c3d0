//! The hash of values: xxHash64 (Collet 2012) of bytes that depend on the value and not on how it is stored.

use datafusion::arrow::array::types::{Date32Type, Float64Type, Int64Type, Time64NanosecondType, TimestampMicrosecondType, UInt64Type};
use datafusion::arrow::array::{ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;
use twox_hash::XxHash64;

/// The hash of each value, NULL for NULL.
pub(super) fn hashes(column: &ArrayRef, seed: u64) -> Result<UInt64Array> {
    let bytes = |bytes: &[u8]| XxHash64::oneshot(seed, bytes);
    let whole = |value: i64| bytes(&value.to_le_bytes());
    Ok(match column.data_type() {
        DataType::Null => UInt64Array::new_null(column.len()),
        DataType::Boolean => column.as_boolean().iter().map(|value| value.map(|value| bytes(&[u8::from(value)]))).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(|value| value.map(|value| bytes(value.as_bytes()))).collect(),
        // Beyond the largest bigint the bits are hashed as they are; a cast would make NULL of them.
        DataType::UInt64 => column.as_primitive::<UInt64Type>().unary(|value| whole(value.cast_signed())),
        integer if integer.is_integer() => cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().unary(whole),
        number if number.is_numeric() => {
            // One zero and one NaN.
            let single = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().unary(|value| bytes(&single(value).to_le_bytes()))
        }
        DataType::Date32 | DataType::Date64 => {
            cast(column, &DataType::Date32)?.as_primitive::<Date32Type>().unary(|value| whole(value.into()))
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            cast(column, &DataType::Time64(TimeUnit::Nanosecond))?.as_primitive::<Time64NanosecondType>().unary(whole)
        }
        DataType::Timestamp(_, zone) => {
            let micro = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            micro.as_primitive::<TimestampMicrosecondType>().unary(whole)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            cast(column, &DataType::Binary)?.as_binary::<i32>().iter().map(|value| value.map(bytes)).collect()
        }
        _ => cast(column, &DataType::Utf8)?.as_string::<i32>().iter().map(|value| value.map(|value| bytes(value.as_bytes()))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        BinaryArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int16Array, Int32Array,
        Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    };
    use datafusion::arrow::datatypes::Int8Type;

    use super::*;

    fn of(column: impl datafusion::arrow::array::Array + 'static) -> Vec<Option<u64>> {
        let column: ArrayRef = Arc::new(column);
        hashes(&column, 0).unwrap().iter().collect()
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // The test vectors of the reference implementation.
        assert_eq!(of(StringArray::from(vec!["", "abc"])), [Some(0xef46_db37_51d8_e999), Some(0x44bc_2cf5_ad77_0999)]);
    }

    #[test]
    fn equal_values_hash_alike_in_every_representation() {
        let whole = of(Int64Array::from(vec![Some(7), None, Some(-1)]));
        assert_eq!(whole, of(Int16Array::from(vec![Some(7), None, Some(-1)])));
        assert_eq!(whole, of(Int32Array::from(vec![Some(7), None, Some(-1)])));
        assert_eq!(whole[0], of(UInt64Array::from(vec![7]))[0]);
        assert_eq!(whole[2], of(UInt64Array::from(vec![u64::MAX]))[0]);
        assert!(whole[0].is_some() && whole[1].is_none() && whole[0] != whole[2]);
        let words = vec![Some("a"), None, Some("b")];
        let text = of(StringArray::from(words.clone()));
        assert_eq!(text, of(LargeStringArray::from(words.clone())));
        assert_eq!(text, of(StringViewArray::from(words.clone())));
        assert_eq!(text, of(words.into_iter().collect::<DictionaryArray<Int8Type>>()));
        assert_eq!(text[0], of(BinaryArray::from(vec![b"a".as_slice()]))[0]);
        let numbers = of(Float64Array::from(vec![1.5, 0.0, f64::NAN]));
        assert_eq!(numbers, of(Float32Array::from(vec![1.5, -0.0, -f32::NAN])));
        assert_eq!(numbers[0], of(Decimal128Array::from(vec![150]).with_precision_and_scale(10, 2).unwrap())[0]);
        assert_eq!(of(Date32Array::from(vec![3])), of(Date64Array::from(vec![3 * 86_400_000])));
        let time = of(TimestampMicrosecondArray::from(vec![5_000]));
        assert_eq!(time, of(TimestampMillisecondArray::from(vec![5]).with_timezone("+02:00")));
        assert_eq!(of(NullArray::new(1)), [None]);
    }
}
