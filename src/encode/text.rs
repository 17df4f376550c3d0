//! Values in PostgreSQL's words: numbers in their shortest form, times without needless zeros, lists and rows with quotes where they must be.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// A whole number.
pub(super) fn whole(value: i64, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number of `scale` places behind the point.
pub(super) fn decimal(value: i128, scale: i8, out: &mut BytesMut) {
    if value < 0 {
        out.put_u8(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    let Ok(places) = usize::try_from(scale) else {
        out.put_slice(digits);
        if value != 0 {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    };
    let point = digits.len().saturating_sub(places);
    if point == 0 {
        out.put_u8(b'0');
    }
    out.put_slice(&digits[..point]);
    if places > 0 {
        out.put_u8(b'.');
        out.put_bytes(b'0', places.saturating_sub(digits.len()));
        out.put_slice(&digits[point..]);
    }
}

/// The same in binary: digits in base 10000, the weight of the first, a sign and the places behind the point.
pub(super) fn numeric(value: i128, scale: i8, out: &mut BytesMut) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    let mut text = [b'0'; 4 + 40 + 128 + 4];
    // the point stands at a multiple of four
    let places = usize::try_from(scale).unwrap_or(0);
    let zeros = if scale < 0 { usize::from(scale.unsigned_abs()) } else { 0 };
    let before = (digits.len() + zeros).saturating_sub(places);
    let point = before.div_ceil(4) * 4;
    let start = point + places - digits.len() - zeros;
    text[start..start + digits.len()].copy_from_slice(digits);
    let end = point + places.div_ceil(4) * 4;
    let group = |at: usize| text[at..at + 4].iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let groups = (0..end).step_by(4);
    let first = groups.clone().find(|at| group(*at) != 0);
    let last = groups.rev().find(|at| group(*at) != 0);
    let (Some(first), Some(last)) = (first, last) else {
        out.put_i16(0);
        out.put_i16(0);
        out.put_i16(0);
        return out.put_i16(places as i16);
    };
    out.put_i16(((last - first) / 4 + 1) as i16);
    out.put_i16((point / 4) as i16 - (first / 4) as i16 - 1);
    out.put_u16(if value < 0 { 0x4000 } else { 0 });
    out.put_i16(places as i16);
    (first..=last).step_by(4).for_each(|at| out.put_i16(group(at)));
}

/// A number in scientific notation, in a place of its own.
struct Scientific {
    text: [u8; 32],
    length: usize,
}

impl Write for Scientific {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.text.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// The shortest digits that read back as the same number.
pub(super) fn double(value: f64, out: &mut BytesMut) {
    if value.is_finite() { float(format_args!("{value:e}"), 15, out) } else { special(value, out) }
}

/// The same of a number of single precision.
pub(super) fn single(value: f32, out: &mut BytesMut) {
    if value.is_finite() { float(format_args!("{value:e}"), 6, out) } else { special(value.into(), out) }
}

fn special(value: f64, out: &mut BytesMut) {
    out.put_slice(match value {
        value if value.is_nan() => b"NaN",
        value if value < 0.0 => b"-Infinity",
        _ => b"Infinity",
    });
}

/// A number in PostgreSQL's layout: with an exponent where it is below -4, or `precision` or more.
fn float(scientific: std::fmt::Arguments<'_>, precision: i32, out: &mut BytesMut) {
    let mut written = Scientific { text: [0; 32], length: 0 };
    // a sign, 17 digits, a point and an exponent of three digits have room
    let _ = written.write_fmt(scientific);
    let text = &written.text[..written.length];
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let at = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = (&text[..at], std::str::from_utf8(text.get(at + 1..).unwrap_or_default()));
    let exponent: i32 = exponent.ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    if negative {
        out.put_u8(b'-');
    }
    if !(-4..precision).contains(&exponent) {
        out.put_slice(mantissa);
        out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let size = exponent.unsigned_abs();
        if size < 10 {
            out.put_u8(b'0');
        }
        return whole(size.into(), out);
    }
    let (first, rest) = (&mantissa[..1], mantissa.get(2..).unwrap_or_default());
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', exponent.unsigned_abs() as usize - 1);
        out.put_slice(first);
        return out.put_slice(rest);
    }
    let point = exponent.unsigned_abs() as usize;
    out.put_slice(first);
    if rest.len() <= point {
        out.put_slice(rest);
        return out.put_bytes(b'0', point - rest.len());
    }
    out.put_slice(&rest[..point]);
    out.put_u8(b'.');
    out.put_slice(&rest[point..]);
}

/// Two digits.
fn two(value: i64, out: &mut BytesMut) {
    out.put_u8(b'0' + (value / 10) as u8);
    out.put_u8(b'0' + (value % 10) as u8);
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar: Howard Hinnant's `civil_from_days`, from
/// "chrono-Compatible Low-Level Date Algorithms".
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A date without the mark of the years before 1, which stands behind a time. Whether it is such a year.
fn day(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    let shown = if year > 0 { year } else { 1 - year };
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(shown).as_bytes();
    out.put_bytes(b'0', 4_usize.saturating_sub(digits.len()));
    out.put_slice(digits);
    out.put_u8(b'-');
    two(month, out);
    out.put_u8(b'-');
    two(day, out);
    year <= 0
}

/// A date, of days from 1970-01-01.
pub(super) fn date(days: i64, out: &mut BytesMut) {
    if day(days, out) {
        out.put_slice(b" BC");
    }
}

/// A time of day, of microseconds.
pub(super) fn time(microseconds: i64, out: &mut BytesMut) {
    let seconds = microseconds.div_euclid(1_000_000);
    two(seconds / 3600, out);
    out.put_u8(b':');
    two(seconds / 60 % 60, out);
    out.put_u8(b':');
    two(seconds % 60, out);
    let mut fraction = microseconds.rem_euclid(1_000_000);
    if fraction != 0 {
        out.put_u8(b'.');
        let mut unit = 100_000;
        while fraction != 0 {
            out.put_u8(b'0' + (fraction / unit) as u8);
            fraction %= unit;
            unit /= 10;
        }
    }
}

/// A timestamp, of microseconds from 1970-01-01: as it is, or in a zone with its distance from UTC.
pub(super) fn timestamp(microseconds: i64, zone: Option<&Tz>, out: &mut BytesMut) {
    let Some(utc) = DateTime::from_timestamp_micros(microseconds) else {
        return out.put_slice(if microseconds < 0 { b"-infinity" } else { b"infinity" });
    };
    let offset = zone.map(|zone| i64::from(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()));
    let local = microseconds + offset.unwrap_or_default() * 1_000_000;
    let before = day(local.div_euclid(MICROSECONDS_PER_DAY), out);
    out.put_u8(b' ');
    time(local.rem_euclid(MICROSECONDS_PER_DAY), out);
    if let Some(offset) = offset {
        out.put_u8(if offset < 0 { b'-' } else { b'+' });
        let (hours, minutes, seconds) = (offset.abs() / 3600, offset.abs() / 60 % 60, offset.abs() % 60);
        two(hours, out);
        for part in [minutes, seconds].iter().take(if seconds != 0 { 2 } else { usize::from(minutes != 0) }) {
            out.put_u8(b':');
            two(*part, out);
        }
    }
    if before {
        out.put_slice(b" BC");
    }
}

/// Bytes.
pub(super) fn hexadecimal(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// An item of a list, in quotes where it could be read as something else.
pub(super) fn item(value: &[u8], out: &mut BytesMut) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | 9..=13);
    if !value.is_empty() && !value.iter().any(special) && !value.eq_ignore_ascii_case(b"null") {
        return out.put_slice(value);
    }
    out.put_u8(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

/// A field of a row, in quotes where it could be read as something else.
pub(super) fn part(value: &[u8], out: &mut BytesMut) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',' | b' ' | 9..=13);
    if !value.is_empty() && !value.iter().any(special) {
        return out.put_slice(value);
    }
    out.put_u8(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(*byte);
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        // answers of PostgreSQL 16 with extra_float_digits = 1
        for (value, text) in [
            (0.1, "0.1"),
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (123456.789, "123456.789"),
            (1e300, "1e+300"),
            (-1.5e-300, "-1.5e-300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (-0.0, "-0"),
        ] {
            assert_eq!(written(|out| double(value, out)), text);
        }
        for (value, text) in [(0.1, "0.1"), (123456.0, "123456"), (1_234_567.0, "1.234567e+06"), (f32::INFINITY, "Infinity")] {
            assert_eq!(written(|out| single(value, out)), text);
        }
    }

    #[test]
    fn decimals_keep_their_places() {
        for (value, scale, text) in
            [(12345, 2, "123.45"), (-5, 3, "-0.005"), (0, 2, "0.00"), (7, 0, "7"), (7, -2, "700"), (0, -2, "0"), (100, 2, "1.00")]
        {
            assert_eq!(written(|out| decimal(value, scale, out)), text);
        }
    }

    #[test]
    fn decimals_are_digits_in_base_10000_in_binary() {
        // what numeric_send of PostgreSQL 15 gives
        for (value, scale, shorts) in [
            (12345, 2, vec![2, 0, 0, 2, 123, 4500]),
            (-5, 3, vec![1, -1, 0x4000, 3, 50]),
            (0, 2, vec![0, 0, 0, 2]),
            (100_000_000, 0, vec![1, 2, 0, 0, 1]),
            (7, -4, vec![1, 1, 0, 0, 7]),
            (12_345_678, 4, vec![2, 0, 0, 4, 1234, 5678]),
            (1, 8, vec![1, -2, 0, 8, 1]),
        ] {
            let mut out = BytesMut::new();
            numeric(value, scale, &mut out);
            let found: Vec<i16> = out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
            assert_eq!(found, shorts, "{value} of scale {scale}");
        }
        let mut out = BytesMut::new();
        numeric(i128::MIN, 38, &mut out);
        assert_eq!(&out[..8], [0, 11, 0, 0, 0x40, 0, 0, 38]);
    }

    #[test]
    fn times_are_written_without_needless_zeros_and_in_the_zone() {
        let zone = Tz::from_str("Asia/Kolkata").expect("a zone");
        assert_eq!(written(|out| timestamp(1_580_515_200_500_000, None, out)), "2020-02-01 00:00:00.5");
        assert_eq!(written(|out| timestamp(0, Some(&zone), out)), "1970-01-01 05:30:00+05:30");
        assert_eq!(written(|out| timestamp(-1, None, out)), "1969-12-31 23:59:59.999999");
        assert_eq!(written(|out| timestamp(i64::MAX, None, out)), "infinity");
        assert_eq!(written(|out| timestamp(-62_198_755_200_000_000, None, out)), "0002-01-01 00:00:00 BC");
        assert_eq!(written(|out| time(3_723_040_000, out)), "01:02:03.04");
        for (days, text) in
            [(0, "1970-01-01"), (11_016, "2000-02-29"), (-1, "1969-12-31"), (2_932_897, "10000-01-01"), (-719_529, "0002-12-31 BC")]
        {
            // the last: a day before year 1 BC, which is the year 0
            assert_eq!(written(|out| date(days, out)), text);
        }
    }

    #[test]
    fn items_and_fields_are_quoted_where_they_must_be() {
        for (value, as_item, as_field) in [
            ("plain", "plain", "plain"),
            ("a b", "\"a b\"", "\"a b\""),
            ("", "\"\"", "\"\""),
            ("null", "\"null\"", "null"),
            ("say \"hi\" \\", "\"say \\\"hi\\\" \\\\\"", "\"say \"\"hi\"\" \\\\\""),
            ("(x)", "(x)", "\"(x)\""),
            ("{x}", "\"{x}\"", "{x}"),
        ] {
            assert_eq!(written(|out| item(value.as_bytes(), out)), as_item);
            assert_eq!(written(|out| part(value.as_bytes(), out)), as_field);
        }
        assert_eq!(written(|out| hexadecimal(&[0, 171, 255], out)), "\\x00abff");
    }
}
