//! Numbers as a pattern shows them.

mod digits;
mod read;
mod walk;

use super::moment::ordinal;
use crate::sqlstate::{SqlError, SqlState};
use digits::{rounded, scientific, with_exponent};
use walk::{Shown, Walk};

/// A piece of a pattern of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Piece {
    Nine,
    Zero,
    Point,
    Comma,
    Currency,
    /// MI, PL and SG: the sign at a place of its own.
    Minus,
    Plus,
    Either,
    Roman(bool),
    Ending(bool),
    /// What has its effect elsewhere.
    Silent,
    Other(char),
}

/// Where the sign of `S` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Anchor {
    Before,
    Behind,
}

/// A pattern of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Numbers {
    pieces: Vec<Piece>,
    /// Places before the point and behind it.
    before: usize,
    behind: usize,
    /// Digits that `V` shifts the number by.
    shift: usize,
    /// The first place that is filled with zeros.
    zeros_from: Option<usize>,
    /// The number of places up to the last that is.
    zeros_to: usize,
    point: bool,
    fill: bool,
    shifts: bool,
    blank: bool,
    minus: bool,
    plus: bool,
    brackets: bool,
    roman: bool,
    scientific: bool,
    anchor: Option<Anchor>,
    /// The places that stood before an `S` that is before the point.
    before_sign: usize,
}

const WORDS: [&str; 21] =
    [",", ".", "0", "9", "B", "C", "D", "EEEE", "FM", "G", "L", "MI", "PL", "PR", "RN", "SG", "SP", "S", "TH", "V", "th"];

impl Numbers {
    /// Reads a pattern.
    pub(super) fn parse(pattern: &str) -> Result<Self, SqlError> {
        let mut numbers = Self::default();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let mut characters = rest[1..].chars();
                while let Some(character) = characters.next() {
                    match character {
                        '"' => break,
                        '\\' => numbers.pieces.extend(characters.next().map(Piece::Other)),
                        character => numbers.pieces.push(Piece::Other(character)),
                    }
                }
                rest = characters.as_str();
                continue;
            }
            let word = WORDS.into_iter().find(|word| {
                rest.get(..word.len()).is_some_and(|head| head == *word || (head.eq_ignore_ascii_case(word) && head == head.to_lowercase()))
            });
            match word {
                Some(word) => {
                    numbers.take(word, rest.starts_with(|c: char| c.is_lowercase()))?;
                    rest = &rest[word.len()..];
                }
                None => {
                    let mut characters = rest.chars();
                    let mut character = characters.next();
                    if character == Some('\\') && characters.as_str().starts_with('"') {
                        character = characters.next();
                    }
                    numbers.pieces.extend(character.map(Piece::Other));
                    rest = characters.as_str();
                }
            }
        }
        Ok(numbers)
    }

    fn take(&mut self, word: &str, lower: bool) -> Result<(), SqlError> {
        let refuse = |message: &str| Err(SqlError::new(SqlState::SyntaxError, message));
        if self.scientific && word != "EEEE" {
            return refuse("\"EEEE\" must be the last pattern used");
        }
        let piece = match word {
            "9" | "0" => {
                if self.brackets {
                    return refuse(&format!("\"{word}\" must be ahead of \"PR\""));
                }
                if word == "0" && !self.point && self.zeros_from.is_none() {
                    self.zeros_from = Some(self.before);
                }
                if word == "9" && self.shifts {
                    self.shift += 1;
                } else if self.point {
                    self.behind += 1;
                } else {
                    self.before += 1;
                }
                if word == "0" {
                    self.zeros_to = self.before + self.behind;
                }
                if word == "0" { Piece::Zero } else { Piece::Nine }
            }
            "." | "D" => {
                if self.point {
                    return refuse("multiple decimal points");
                }
                if self.shifts {
                    return refuse("cannot use \"V\" and decimal point together");
                }
                self.point = true;
                Piece::Point
            }
            "," | "G" => Piece::Comma,
            "B" => {
                self.blank |= self.before == 0 && self.behind == 0 && self.zeros_from.is_none();
                Piece::Silent
            }
            "FM" => {
                self.fill = true;
                Piece::Silent
            }
            "S" => {
                if self.anchor.is_some() {
                    return refuse("cannot use \"S\" twice");
                }
                if self.plus || self.minus || self.brackets {
                    return refuse("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together");
                }
                self.anchor = Some(if self.point { Anchor::Behind } else { Anchor::Before });
                self.before_sign = self.before;
                Piece::Silent
            }
            "MI" | "PL" | "SG" => {
                if self.anchor.is_some() {
                    return refuse(&format!("cannot use \"S\" and \"{word}\" together"));
                }
                self.minus |= word != "PL";
                self.plus |= word != "MI";
                match word {
                    "MI" => Piece::Minus,
                    "PL" => Piece::Plus,
                    _ => Piece::Either,
                }
            }
            "PR" => {
                if self.anchor.is_some() || self.plus || self.minus {
                    return refuse("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together");
                }
                self.brackets = true;
                Piece::Silent
            }
            "RN" => {
                self.roman = true;
                Piece::Roman(lower)
            }
            "L" => Piece::Currency,
            "TH" => Piece::Ending(lower),
            "V" => {
                if self.point {
                    return refuse("cannot use \"V\" and decimal point together");
                }
                self.shifts = true;
                Piece::Silent
            }
            "EEEE" => {
                if self.scientific {
                    return refuse("cannot use \"EEEE\" twice");
                }
                let others = self.blank || self.fill || self.anchor.is_some() || self.brackets || self.minus || self.plus;
                if others || self.roman || self.shifts {
                    return Err(SqlError::new(SqlState::SyntaxError, "\"EEEE\" is incompatible with other formats")
                        .with_detail("\"EEEE\" may only be used together with digit and decimal point patterns."));
                }
                self.scientific = true;
                Piece::Silent
            }
            _ => Piece::Silent,
        };
        self.pieces.push(piece);
        Ok(())
    }

    /// Writes a number of digits with `scale` of them behind the point.
    pub(super) fn write_decimal(&self, value: i128, scale: i8, out: &mut String) -> Result<(), SqlError> {
        if self.scientific {
            out.push_str(&scientific(value, scale, self.behind));
            return Ok(());
        }
        let negative = value < 0;
        let scale = i32::from(scale);
        if self.roman {
            let whole = rounded(value.unsigned_abs(), scale, 0).and_then(|digits| digits.parse::<i64>().ok());
            let whole = whole.filter(|whole| i32::try_from(if negative { -whole } else { *whole }).is_ok());
            let whole = whole.ok_or_else(|| SqlError::new(SqlState::NumericValueOutOfRange, "integer out of range"))?;
            return self.write(&Shown::roman(u32::try_from(whole).ok().filter(|_| !negative)), out);
        }
        let behind = if self.shifts { 0 } else { self.behind };
        let shift = i32::try_from(self.shift).unwrap_or(i32::MAX);
        let digits = rounded(value.unsigned_abs(), scale.saturating_sub(shift), behind).unwrap_or_default();
        let zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        self.write(&self.fitted(digits, negative && !zero, self.behind), out)
    }

    /// Writes a number of floating point, of which so many digits are certain.
    pub(super) fn write_float(&self, value: f64, certain: usize, out: &mut String) -> Result<(), SqlError> {
        if self.scientific {
            if !value.is_finite() {
                let mut shown = vec!['#'; self.before + self.behind + 6];
                shown[0] = ' ';
                if let Some(point) = shown.get_mut(self.before + 1) {
                    *point = '.';
                }
                out.extend(shown);
                return Ok(());
            }
            let text = format!("{:.*e}", self.behind, value);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            out.push_str(&with_exponent(mantissa, exponent.parse().unwrap_or_default()));
            return Ok(());
        }
        if self.roman {
            let whole = value.round_ties_even();
            return self.write(&Shown::roman((1.0..4000.0).contains(&whole).then_some(whole as u32)), out);
        }
        let factor = 10_f64.powi(i32::try_from(self.shift).unwrap_or(i32::MAX));
        let value = match self.shifts {
            // a product of single precision is of single precision
            true if certain == 6 => f64::from(value as f32 * factor as f32),
            true => value * factor,
            false => value,
        };
        let size = value.abs();
        let whole = if value.is_nan() {
            "NaN".to_owned()
        } else if size.is_infinite() {
            "Infinity".to_owned()
        } else {
            format!("{size:.0}")
        };
        let behind = self.behind.min(certain.saturating_sub(whole.len()));
        let digits = if size.is_finite() { format!("{size:.behind$}") } else { whole };
        self.write(&self.fitted(digits, value.is_sign_negative() && !value.is_nan(), behind), out)
    }

    /// Digits as they fit the places there are.
    fn fitted(&self, digits: String, negative: bool, behind: usize) -> Shown {
        let places = self.before + self.shift;
        let length = digits.find('.').unwrap_or(digits.len());
        let digits = if length > places {
            let mut full = vec![b'#'; places + behind + 1];
            full[places] = b'.';
            full
        } else {
            digits.into_bytes()
        };
        Shown { digits, negative, spaces: places.saturating_sub(length), behind, roman: false }
    }

    fn write(&self, shown: &Shown, out: &mut String) -> Result<(), SqlError> {
        let mut walk = Walk::new(self, shown);
        for piece in &self.pieces {
            match piece {
                Piece::Nine | Piece::Zero | Piece::Point => {
                    if !shown.roman && !walk.place(*piece, out) {
                        // of a number that is less exact than its pattern, what follows is not shown
                        return Ok(());
                    }
                }
                Piece::Comma => match walk.among_digits {
                    true => out.push(','),
                    false if self.fill => {}
                    false => out.push(' '),
                },
                // that of no country
                Piece::Currency => out.push(' '),
                // a Roman number has no sign, and ends where it should stand
                Piece::Either if shown.roman => return Ok(()),
                Piece::Plus if shown.roman && !self.fill => out.push(' '),
                Piece::Plus if shown.roman => {}
                Piece::Minus if shown.negative => out.push('-'),
                Piece::Plus if !shown.negative => out.push('+'),
                Piece::Minus | Piece::Plus if self.fill => {}
                Piece::Minus | Piece::Plus => out.push(' '),
                Piece::Either => out.push(if shown.negative { '-' } else { '+' }),
                Piece::Roman(lower) => {
                    let text = String::from_utf8_lossy(&shown.digits);
                    let text = if *lower { text.to_lowercase() } else { text.into_owned() };
                    out.push_str(&if self.fill { text } else { format!("{text:>15}") });
                }
                Piece::Ending(_) if shown.digits == b"." && !shown.negative => {
                    return Err(SqlError::new(SqlState::InvalidTextRepresentation, "\".\" is not a number")
                        .with_detail("The pattern has an ordinal's ending and no place for a digit."));
                }
                Piece::Ending(lower) => {
                    if !shown.roman && shown.digits.first() != Some(&b'#') && !shown.negative && !self.point {
                        let ending = ordinal(&String::from_utf8_lossy(&shown.digits));
                        out.push_str(&if *lower { ending.to_owned() } else { ending.to_uppercase() });
                    }
                }
                Piece::Silent => {}
                Piece::Other(character) => out.push(*character),
            }
        }
        Ok(())
    }
}
