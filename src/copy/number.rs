//! Decimal numbers as PostgreSQL reads them: rounded to the scale of their column, never cut.

/// Why a text is not a number of a column.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is no number.
    Syntax,
    /// It has more digits than the column.
    Overflow,
}

/// The number times ten to the power of `scale`, of at most `precision` digits.
pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, Problem> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| Problem::Syntax)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Problem::Syntax);
    }
    let fraction = i64::try_from(fraction.len()).map_err(|_| Problem::Overflow)?;
    // the value is the digits times ten to the power of this
    let shift = i64::from(exponent) - fraction + i64::from(scale);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let mut value = 0_i128;
    let mut push = |digit: u8| {
        value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0'))).ok_or(Problem::Overflow)?;
        Ok(())
    };
    let significant = &digits[zeros..];
    let mut round = false;
    if significant.is_empty() {
        return Ok(0);
    }
    if let Ok(more) = usize::try_from(shift) {
        significant.iter().try_for_each(|digit| push(*digit))?;
        (0..more).try_for_each(|_| push(b'0'))?;
    } else {
        let dropped = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
        let kept = significant.len().saturating_sub(dropped);
        significant[..kept].iter().try_for_each(|digit| push(*digit))?;
        round = dropped <= significant.len() && significant[kept] >= b'5';
    }
    value += i128::from(round);
    if value >= 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX) {
        return Err(Problem::Overflow);
    }
    Ok(if negative { -value } else { value })
}

/// A number in PostgreSQL's binary form, as text: digits in base 10000, the weight of the first and a sign.
pub(super) fn from_binary(bytes: &[u8]) -> Option<String> {
    let short = |at: usize| Some(i16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (count, weight, sign) = (usize::try_from(short(0)?).ok()?, short(2)?, short(4)?);
    if bytes.len() != 8 + 2 * count {
        return None;
    }
    let mut text = match sign.cast_unsigned() {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    text.push('0');
    for digit in 0..count {
        let digit = short(8 + 2 * digit)?;
        if !(0..10_000).contains(&digit) {
            return None;
        }
        text.push_str(&format!("{digit:04}"));
    }
    let exponent = 4 * (i64::from(weight) + 1 - i64::try_from(count).ok()?);
    Some(format!("{text}e{exponent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_their_scale() {
        for (text, expected) in [
            ("1", 100),
            ("-1.5", -150),
            ("+.5", 50),
            ("12.", 1200),
            ("1.005", 101),
            ("-1.005", -101),
            ("1.0049", 100),
            ("0.004", 0),
            ("0.005", 1),
            ("999.994", 99_999),
            ("1e2", 10_000),
            ("12345e-3", 1235),
            ("1e-9", 0),
            ("1e-99", 0),
            ("000001", 100),
        ] {
            assert_eq!(decimal(text, 5, 2), Ok(expected), "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "abc", "1e", "1e+", "NaN", "1 2", "0x1"] {
            assert_eq!(decimal(text, 5, 2), Err(Problem::Syntax), "{text}");
        }
        for text in ["1000", "999.995", "1e40", "1e999999999", "99999999999999999999999999999999999999999999"] {
            assert_eq!(decimal(text, 5, 2), Err(Problem::Overflow), "{text}");
        }
        assert_eq!(decimal("99999999999999999999999999999999999999", 38, 0), Ok(99_999_999_999_999_999_999_999_999_999_999_999_999));
    }

    #[test]
    fn binary_numbers_are_digits_in_base_ten_thousand() {
        let number = |digits: &[i16], weight: i16, sign: u16| {
            let head = [i16::try_from(digits.len()).expect("few"), weight, sign.cast_signed(), 0];
            let bytes: Vec<u8> = head.iter().chain(digits).flat_map(|n| n.to_be_bytes()).collect();
            decimal(&from_binary(&bytes).expect("a number"), 38, 4)
        };
        // 12345678.9, -0.0012, 0, 10000
        assert_eq!(number(&[1234, 5678, 9000], 1, 0), Ok(123_456_789_000));
        assert_eq!(number(&[12], -1, 0x4000), Ok(-12));
        assert_eq!(number(&[], 0, 0), Ok(0));
        assert_eq!(number(&[1], 1, 0), Ok(100_000_000));
        assert_eq!(number(&[], 0, 0xC000), Err(Problem::Syntax));
        assert!(from_binary(&[0, 1, 0, 0]).is_none());
    }
}
