//! Numbers as a pattern shows them.

mod read;

use super::moment::ordinal;
use crate::sqlstate::{SqlError, SqlState};

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

/// A number ready to be laid out.
struct Shown {
    digits: Vec<u8>,
    negative: bool,
    /// Places before the first digit.
    spaces: usize,
    behind: usize,
    roman: bool,
}

impl Shown {
    fn roman(number: Option<u32>) -> Self {
        let digits = number.and_then(roman).unwrap_or_else(|| "#".repeat(15)).into_bytes();
        Self { digits, negative: false, spaces: 0, behind: 0, roman: true }
    }
}

/// The walk over the places of a pattern.
struct Walk<'a> {
    pattern: &'a Numbers,
    shown: &'a Shown,
    /// The place at hand, and the digit that is next.
    place: usize,
    next: usize,
    /// The place at which the number ends.
    end: usize,
    signed: bool,
    brackets: bool,
    anchor: Option<Anchor>,
    /// The last digit that is not a needless zero.
    last: Option<usize>,
    among_digits: bool,
}

impl<'a> Walk<'a> {
    fn new(pattern: &'a Numbers, shown: &'a Shown) -> Self {
        let places = pattern.before + pattern.shift;
        let mut anchor = pattern.anchor;
        let mut brackets = pattern.brackets;
        let signed = if pattern.plus || pattern.minus {
            pattern.minus
        } else {
            if !shown.negative && brackets && pattern.fill {
                brackets = false;
            }
            if anchor == Some(Anchor::Before) && pattern.before_sign == places {
                anchor = Some(Anchor::Behind);
            }
            !shown.negative && pattern.fill && pattern.anchor.is_none()
        };
        let point = shown.digits.iter().position(|byte| *byte == b'.').filter(|_| pattern.fill && pattern.point);
        let last = point.map(|point| {
            let relevant = shown.digits.iter().rposition(|byte| *byte != b'0').map_or(point, |at| at.max(point));
            let zeros = pattern.zeros_to.checked_sub(shown.spaces).filter(|zeros| *zeros > 0);
            zeros.map_or(relevant, |zeros| relevant.max(zeros.min(shown.digits.len() - 1)))
        });
        let mut end = (shown.behind + places).saturating_sub(1);
        if !signed && shown.spaces == 0 {
            end += 1;
        }
        end += usize::from(shown.spaces > 0) + usize::from(pattern.point);
        Self { pattern, shown, place: 0, next: 0, end, signed, brackets, anchor, last, among_digits: false }
    }

    fn digit(&self) -> Option<u8> {
        self.shown.digits.get(self.next).copied()
    }

    /// Whether the digit at hand is the zero before the point that is not shown.
    fn is_needless(&self) -> bool {
        self.pattern.zeros_from.is_none() && self.next == 0 && self.digit() == Some(b'0') && self.shown.behind != 0
    }

    /// Whether nothing is left of the digits behind the point.
    fn ends_at_point(&self) -> bool {
        self.last.is_some_and(|last| self.shown.digits.get(last) == Some(&b'.'))
    }

    /// Goes over a place. False where the number has no more digits.
    fn place(&mut self, piece: Piece, out: &mut String) -> bool {
        self.among_digits = false;
        let zeros = self.pattern.zeros_from.filter(|from| *from <= self.place);
        let reached = self.place >= self.shown.spaces || self.pattern.zeros_from == Some(self.place);
        if !self.signed && reached && (!self.is_needless() || self.ends_at_point()) {
            self.sign_before(out);
        }
        if self.place < self.shown.spaces {
            if zeros.is_some() {
                out.push('0');
                self.among_digits = true;
            } else if !self.pattern.fill {
                out.push(' ');
            }
        } else {
            match self.digit() {
                Some(b'.') => {
                    if !self.ends_at_point() || self.pattern.fill {
                        out.push('.');
                    }
                }
                _ if self.last.is_some_and(|last| self.next > last) && piece != Piece::Zero => {}
                _ if self.is_needless() => {
                    if !self.pattern.fill {
                        out.push(' ');
                    } else if self.ends_at_point() {
                        out.push('0');
                    }
                }
                Some(digit) => {
                    out.push(char::from(digit));
                    self.among_digits = true;
                }
                None => return false,
            }
            self.next += usize::from(self.digit().is_some());
        }
        let end = if self.last == Some(self.next) { self.place } else { self.end };
        if self.place + 1 == end {
            if self.signed && self.brackets {
                out.push(if self.shown.negative { '>' } else { ' ' });
            } else if self.anchor == Some(Anchor::Behind) {
                out.push(if self.shown.negative { '-' } else { '+' });
            }
        }
        self.place += 1;
        true
    }

    fn sign_before(&mut self, out: &mut String) {
        match self.anchor {
            Some(Anchor::Behind) => return,
            Some(Anchor::Before) => out.push(if self.shown.negative { '-' } else { '+' }),
            None if self.brackets => out.push(if self.shown.negative { '<' } else { ' ' }),
            None if self.shown.negative => out.push('-'),
            None if !self.pattern.fill => out.push(' '),
            None => {}
        }
        self.signed = true;
    }
}

/// A number of digits, `scale` of them behind the point, with `behind` of them there; none where they are too many to be told.
fn rounded(value: u128, scale: i32, behind: usize) -> Option<String> {
    let mut digits = value.to_string().into_bytes();
    let behind_now = i64::from(scale);
    let wanted = i64::try_from(behind).ok()?;
    if behind_now < wanted {
        digits.resize(digits.len() + usize::try_from(wanted - behind_now).ok()?, b'0');
    } else if behind_now > wanted {
        let drop = usize::try_from(behind_now - wanted).ok()?;
        let up = digits.len() >= drop && digits[digits.len() - drop] >= b'5';
        digits.truncate(digits.len().saturating_sub(drop));
        if up {
            match digits.iter().rposition(|digit| *digit != b'9') {
                Some(at) => {
                    digits[at] += 1;
                    digits[at + 1..].fill(b'0');
                }
                None => {
                    digits.fill(b'0');
                    digits.insert(0, b'1');
                }
            }
        }
    }
    if digits.len() <= behind {
        digits.splice(0..0, std::iter::repeat_n(b'0', behind + 1 - digits.len()));
    }
    let point = digits.len() - behind;
    if behind > 0 {
        digits.insert(point, b'.');
    }
    let zeros = digits[..point].iter().take_while(|digit| **digit == b'0').count().min(point - 1);
    digits.drain(..zeros);
    String::from_utf8(digits).ok()
}

/// A number with an exponent.
fn scientific(value: i128, scale: i8, behind: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let mut exponent = digits.len() as i64 - 1;
    let mut mantissa = rounded(value.unsigned_abs(), i32::try_from(exponent).unwrap_or_default(), behind).unwrap_or_default();
    if mantissa.starts_with("10") {
        // rounded up to one digit more
        exponent += 1;
        mantissa = format!("{:.behind$}", 1.0);
    }
    if value == 0 {
        exponent = i64::from(scale);
    }
    with_exponent(&format!("{sign}{mantissa}"), exponent - i64::from(scale))
}

fn with_exponent(mantissa: &str, exponent: i64) -> String {
    let space = if mantissa.starts_with('-') { "" } else { " " };
    format!("{space}{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A number in Roman digits, where it has some.
fn roman(number: u32) -> Option<String> {
    const SIGNS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&number) {
        return None;
    }
    let mut rest = number;
    let mut text = String::new();
    for (value, sign) in SIGNS {
        while rest >= value {
            text.push_str(sign);
            rest -= value;
        }
    }
    Some(text)
}
