//! Numbers read from texts as a pattern says.

use super::{Numbers, Piece};
use crate::sqlstate::{SqlError, SqlState};

impl Numbers {
    /// The digits behind the point of every number that is read as the pattern says.
    pub(in crate::pattern) fn scale(&self) -> usize {
        self.behind + self.shift
    }

    /// Reads a text: the number, times ten to the power of `scale`.
    pub(in crate::pattern) fn read(&self, text: &str, scale: usize) -> Result<i128, SqlError> {
        for (wanted, word) in [(self.scientific, "EEEE"), (self.roman, "RN")] {
            if wanted {
                return Err(SqlError::new(SqlState::FeatureNotSupported, format!("\"{word}\" not supported for input")));
            }
        }
        let mut reader = Reader { pattern: self, rest: text.as_bytes(), sign: None, digits: Vec::new(), before: 0, behind: None };
        self.pieces.iter().for_each(|piece| reader.piece(*piece));
        reader.number(scale)
    }
}

struct Reader<'a> {
    pattern: &'a Numbers,
    rest: &'a [u8],
    sign: Option<u8>,
    digits: Vec<u8>,
    /// Digits before the point.
    before: usize,
    /// Digits behind the point, where it was read.
    behind: Option<usize>,
}

impl Reader<'_> {
    fn piece(&mut self, piece: Piece) {
        let Some(first) = self.rest.first().copied() else { return };
        match piece {
            Piece::Nine | Piece::Zero => {
                self.place(true);
                self.skip(1);
            }
            Piece::Point => {
                self.place(false);
                self.skip(1);
            }
            // what is not filled has its commas, or digits in their place
            Piece::Comma if first == b',' && !self.pattern.fill => self.skip(1),
            Piece::Currency => self.skip_words(1),
            Piece::Ending(_) if !self.pattern.point => self.skip_words(2),
            Piece::Minus | Piece::Either if first == b'-' => self.take_sign(),
            Piece::Plus | Piece::Either if first == b'+' => self.take_sign(),
            Piece::Minus | Piece::Plus | Piece::Either => self.skip_words(1),
            Piece::Other(_) => self.skip_character(),
            Piece::Comma | Piece::Ending(_) | Piece::Roman(_) | Piece::Silent => {}
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn skip_character(&mut self) {
        let more = self.rest.iter().skip(1).take_while(|byte| **byte & 0xC0 == 0x80).count();
        self.skip(1 + more);
    }

    /// Skips characters that are of no number.
    fn skip_words(&mut self, most: usize) {
        for _ in 0..most {
            match self.rest.first() {
                Some(b'0'..=b'9' | b'.' | b',' | b'+' | b'-') | None => return,
                Some(_) => self.skip_character(),
            }
        }
    }

    fn take_sign(&mut self) {
        self.sign = self.rest.first().copied();
        self.skip(1);
    }

    /// Reads what may stand in a place: a space, a sign before the first digit, a digit or the point, and a sign behind the last digit.
    fn place(&mut self, of_digit: bool) {
        if self.rest.first() == Some(&b' ') {
            self.skip(1);
        }
        let none_yet = self.before == 0 && self.behind.unwrap_or_default() == 0;
        if of_digit && none_yet && self.sign.is_none() {
            self.sign_before();
        }
        let Some(first) = self.rest.first().copied() else { return };
        let mut read = false;
        if first.is_ascii_digit() {
            match &mut self.behind {
                Some(behind) if *behind == self.pattern.behind => return,
                Some(behind) => *behind += 1,
                None => self.before += 1,
            }
            self.digits.push(first);
            read = true;
        } else if first == b'.' && self.pattern.point && self.behind.is_none() {
            self.behind = Some(0);
            read = true;
        }
        if self.sign.is_none() && self.before + self.behind.unwrap_or_default() > 0 {
            self.sign_behind(read);
        }
    }

    fn sign_before(&mut self) {
        match self.rest.first() {
            Some(b'-' | b'+') => self.take_sign(),
            Some(b'<') if self.pattern.brackets => {
                self.sign = Some(b'-');
                self.skip(1);
            }
            _ => {}
        }
    }

    /// The sign is behind the digit that was `read`, or stands where none was.
    fn sign_behind(&mut self, read: bool) {
        let at = if read && self.pattern.anchor.is_some() {
            1
        } else if !read && self.pattern.anchor.is_none() && (self.pattern.plus || self.pattern.minus) {
            0
        } else {
            return;
        };
        if let Some(sign @ (b'-' | b'+')) = self.rest.get(at) {
            self.sign = Some(*sign);
            self.skip(at);
        }
    }

    fn number(self, scale: usize) -> Result<i128, SqlError> {
        if self.digits.is_empty() {
            let sign = char::from(self.sign.unwrap_or(b' '));
            return Err(SqlError::new(SqlState::InvalidTextRepresentation, format!("invalid input syntax for type numeric: \"{sign}\"")));
        }
        let (places, behind) = (self.pattern.before + self.pattern.shift, self.behind.unwrap_or_default());
        let zeros = self.digits.iter().take_while(|digit| **digit == b'0').count();
        let overflow = || SqlError::new(SqlState::NumericValueOutOfRange, "numeric field overflow");
        if self.before.saturating_sub(zeros) > places {
            let least = if places == 0 { "1".to_owned() } else { format!("10^{places}") };
            let precision = places + behind;
            let detail = format!("A field with precision {precision}, scale {behind} must round to an absolute value less than {least}.");
            return Err(overflow().with_detail(detail));
        }
        // at the end of the digits now, and wanted
        let (now, wanted) = (behind + self.pattern.shift, scale);
        let zeros = wanted.saturating_sub(now);
        let kept = self.digits.len().saturating_sub(now.saturating_sub(wanted));
        let mut digits = self.digits[..kept].iter().copied().chain(std::iter::repeat_n(b'0', zeros));
        let number = digits.try_fold(0_i128, |number, digit| number.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
        let up = self.digits.get(kept).is_some_and(|digit| *digit >= b'5');
        let number = number.and_then(|number| number.checked_add(i128::from(up))).filter(|number| *number < 10_i128.pow(38));
        let number = number.ok_or_else(|| overflow().with_detail("A numeric has at most 38 digits."))?;
        Ok(if self.sign == Some(b'-') { -number } else { number })
    }
}
