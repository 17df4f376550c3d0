//! The binary format: a signature, rows of counted fields, and a trailer.

use super::SIGNATURE;
use crate::sqlstate::{SqlError, SqlState};

/// Bytes of the signature, the flags and the length of the header's extension.
const HEADER: usize = SIGNATURE.len() + 8;

/// Flags that a reader must know to read on.
const CRITICAL: u32 = 0xffff_0000;

fn bad(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BadCopyFileFormat, message)
}

/// The length of the header; none where it is not there in full.
pub(super) fn header(data: &[u8], last: bool) -> Result<Option<usize>, SqlError> {
    let known = data.len().min(SIGNATURE.len());
    if data[..known] != SIGNATURE[..known] || (last && known < SIGNATURE.len()) {
        return Err(bad("COPY file signature not recognized"));
    }
    let Some(rest) = data.get(SIGNATURE.len()..HEADER) else {
        return if last { Err(bad("invalid COPY file header")) } else { Ok(None) };
    };
    let word = |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
    if word(0) & CRITICAL != 0 {
        return Err(bad("unrecognized critical flags in COPY file header"));
    }
    let length = HEADER.saturating_add(usize::try_from(word(4)).unwrap_or(usize::MAX));
    match data.len() >= length {
        true => Ok(Some(length)),
        false if last => Err(bad("invalid COPY file header (wrong length)")),
        false => Ok(None),
    }
}

/// What stands next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A row of so many bytes, whose fields are in the list.
    Row(usize),
    /// The trailer.
    Trailer,
    /// A row that is not there in full.
    More,
    /// There is nothing more.
    Nothing,
}

/// Finds the fields of the row at the front of `data`: places in it, none for NULL.
pub(super) fn row(data: &[u8], last: bool, width: usize, fields: &mut Vec<Option<std::ops::Range<usize>>>) -> Result<Found, SqlError> {
    fields.clear();
    let unfinished = || if last { Err(bad("unexpected EOF in COPY data")) } else { Ok(Found::More) };
    let Some(count) = data.get(..2) else {
        return if data.is_empty() && last { Ok(Found::Nothing) } else { unfinished() };
    };
    let count = i16::from_be_bytes([count[0], count[1]]);
    if count == -1 {
        return Ok(Found::Trailer);
    }
    if usize::try_from(count).ok() != Some(width) {
        return Err(bad(format!("row field count is {count}, expected {width}")));
    }
    let mut at = 2;
    for _ in 0..width {
        let Some(length) = data.get(at..at + 4) else { return unfinished() };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                if data.len() - at < length {
                    return unfinished();
                }
                fields.push(Some(at..at + length));
                at += length;
            }
            Err(_) if length == -1 => fields.push(None),
            Err(_) => return Err(bad("invalid field size")),
        }
    }
    Ok(Found::Row(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_by_its_signature() {
        let whole = [&SIGNATURE[..], &[0, 0, 0, 0, 0, 0, 0, 2, 9, 9]].concat();
        assert_eq!(header(&whole, false).expect("a header"), Some(21));
        assert_eq!(header(&whole[..20], false).expect("the beginning"), None);
        assert!(header(&whole[..20], true).is_err());
        assert!(header(b"1\t2\n", false).is_err());
        assert!(header(&[&SIGNATURE[..], &[0, 1, 0, 0, 0, 0, 0, 0]].concat(), false).is_err());
    }

    #[test]
    fn rows_have_counted_fields() {
        let mut fields = Vec::new();
        let data = [0, 2, 0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(row(&data, false, 2, &mut fields).expect("a row"), Found::Row(11));
        assert_eq!(fields, [Some(6..7), None]);
        assert_eq!(row(&data[11..], false, 2, &mut fields).expect("the trailer"), Found::Trailer);
        assert_eq!(row(&data[..9], false, 2, &mut fields).expect("the beginning"), Found::More);
        assert_eq!(row(&data[..9], true, 2, &mut fields).expect_err("cut").message, "unexpected EOF in COPY data");
        assert_eq!(row(&data, false, 3, &mut fields).expect_err("another width").message, "row field count is 2, expected 3");
        assert_eq!(row(&[], true, 2, &mut fields).expect("no trailer"), Found::Nothing);
    }
}
