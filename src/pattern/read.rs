//! Times read from texts as a pattern says.

use super::moment::{DAYS, MONTHS, ROMAN, julian};
use super::piece::{Field, Fill, Piece};
use crate::sqlstate::{SqlError, SqlState};

/// What a text says of a time. What it does not say is 0, as nothing that counts is.
#[derive(Debug, Default)]
struct Said {
    hour: i64,
    minute: i64,
    second: i64,
    second_of_day: i64,
    millisecond: i64,
    microsecond: i64,
    late: Option<bool>,
    twelve_hours: bool,
    before_christ: Option<bool>,
    year: i64,
    /// The digits that the pattern has for the year.
    year_digits: usize,
    century: i64,
    month: i64,
    week: i64,
    week_of_month: i64,
    day: i64,
    day_of_year: i64,
    /// 1 is Sunday.
    day_of_week: i64,
    julian: i64,
    /// Whether the date is one of the calendar of weeks.
    weeks: Option<bool>,
    zone_sign: i64,
    zone_hour: i64,
    zone_minute: i64,
}

/// A time as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Days from 1970-01-01.
    pub(super) days: i64,
    /// Microseconds of the day.
    pub(super) time: i64,
    /// Distance from UTC in seconds, where the text says it.
    pub(super) offset: Option<i64>,
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::InvalidDatetimeFormat, message)
}

fn out_of_range(text: &str) -> SqlError {
    SqlError::new(SqlState::DatetimeFieldOverflow, format!("date/time field value out of range: \"{text}\""))
}

/// Reads a text.
pub(super) fn read(text: &str, pieces: &[Piece]) -> Result<Found, SqlError> {
    let mut reader = Reader { rest: text, said: Said::default(), exact: false, skipped: 0 };
    reader.read(pieces)?;
    reader.said.settle(text)
}

struct Reader<'a> {
    rest: &'a str,
    said: Said,
    /// Whether spaces count.
    exact: bool,
    /// Characters that were skipped beyond those that the pattern has.
    skipped: i64,
}

fn is_separator(character: char) -> bool {
    character.is_ascii_punctuation()
}

fn is_space(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\u{b}'
}

impl Reader<'_> {
    fn read(&mut self, pieces: &[Piece]) -> Result<(), SqlError> {
        for (at, piece) in pieces.iter().enumerate() {
            if self.rest.is_empty() {
                break;
            }
            let field = matches!(piece, Piece::Field { .. });
            if !self.exact && (field || at == 0) {
                self.skip_spaces();
            }
            match piece {
                Piece::Other(character, false) if is_space(*character) || is_separator(*character) => {
                    if self.exact || self.rest.starts_with(|c| is_space(c) || is_separator(c)) {
                        self.skip(1);
                    } else {
                        self.skipped -= 1;
                    }
                }
                Piece::Other(..) => {
                    if !self.exact && self.skipped > 0 {
                        self.skipped -= 1;
                    } else {
                        self.skip(1);
                    }
                }
                Piece::Field { field, word, fill, ending, .. } => {
                    let free = *fill == Fill::Plain || ending.is_some() || ends_number(pieces.get(at + 1));
                    self.field(*field, word, free)?;
                    if ending.is_some() && field.is_digits() {
                        self.skip(2);
                    }
                    if !self.exact {
                        self.skipped = 0;
                        self.skip_spaces();
                    }
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, characters: usize) {
        let mut left = self.rest.chars();
        (0..characters).for_each(|_| {
            left.next();
        });
        self.rest = left.as_str();
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest.trim_start_matches(is_space);
        self.skipped += (self.rest.len() - rest.len()) as i64;
        self.rest = rest;
    }

    fn field(&mut self, field: Field, word: &str, free: bool) -> Result<(), SqlError> {
        self.convention(field)?;
        match field {
            Field::Exact => self.exact = true,
            Field::Meridiem(points) => {
                let words: &[&str] = if points { &["A.M.", "P.M."] } else { &["AM", "PM"] };
                let late = self.one_of(words, word)? == 1;
                self.said.late = agreed(self.said.late, late, word)?;
                self.said.twelve_hours = true;
            }
            Field::Era(points) => {
                let words: &[&str] = if points { &["A.D.", "B.C."] } else { &["AD", "BC"] };
                let before = self.one_of(words, word)? == 1;
                self.said.before_christ = agreed(self.said.before_christ, before, word)?;
            }
            Field::Hour12 => {
                self.number(2, word, free, |said| &mut said.hour)?;
                self.said.twelve_hours = true;
            }
            Field::Hour24 => drop(self.number(2, word, free, |said| &mut said.hour)?),
            Field::Minute => drop(self.number(2, word, free, |said| &mut said.minute)?),
            Field::Second => drop(self.number(2, word, free, |said| &mut said.second)?),
            Field::SecondOfDay => drop(self.number(word.len().min(5), word, free, |said| &mut said.second_of_day)?),
            Field::Fraction(3) if word == "MS" => {
                let length = self.number(3, word, free, |said| &mut said.millisecond)?;
                self.said.millisecond *= 10_i64.pow(3_u32.saturating_sub(length));
            }
            Field::Fraction(digits) => {
                let length = self.number(digits, word, free, |said| &mut said.microsecond)?;
                self.said.microsecond *= 10_i64.pow(6_u32.saturating_sub(length));
            }
            Field::DayName => {
                let day = self.one_of(&DAYS, word)? as i64;
                set(&mut self.said.day_of_week, day, word)?;
                self.said.day_of_week = day + 1;
            }
            Field::DayShort => {
                let day = self.one_of(&DAYS.map(|day| &day[..3]), word)? as i64;
                set(&mut self.said.day_of_week, day, word)?;
                self.said.day_of_week = day + 1;
            }
            Field::MonthName => {
                let month = self.one_of(&MONTHS, word)?;
                set(&mut self.said.month, month as i64 + 1, word)?;
            }
            Field::MonthShort => {
                let month = self.one_of(&MONTHS.map(|month| &month[..3]), word)?;
                set(&mut self.said.month, month as i64 + 1, word)?;
            }
            Field::RomanMonth => {
                let place = self.one_of(&ROMAN, word)?;
                set(&mut self.said.month, 12 - place as i64, word)?;
            }
            Field::Month => drop(self.number(2, word, free, |said| &mut said.month)?),
            Field::DayOfYear | Field::DayOfIsoYear => drop(self.number(3, word, free, |said| &mut said.day_of_year)?),
            Field::Day => drop(self.number(2, word, free, |said| &mut said.day)?),
            Field::DayOfWeek => drop(self.number(1, word, free, |said| &mut said.day_of_week)?),
            Field::DayOfIsoWeek => {
                self.number(1, word, free, |said| &mut said.day_of_week)?;
                self.said.day_of_week = if self.said.day_of_week >= 7 { 1 } else { self.said.day_of_week + 1 };
            }
            Field::WeekOfYear | Field::IsoWeek => drop(self.number(2, word, free, |said| &mut said.week)?),
            Field::WeekOfMonth => drop(self.number(1, word, free, |said| &mut said.week_of_month)?),
            // it does not say which day is meant
            Field::Quarter => drop(self.digits(1, word, free)?),
            Field::Century => drop(self.number(2, word, free, |said| &mut said.century)?),
            Field::JulianDay => drop(self.number(word.len(), word, free, |said| &mut said.julian)?),
            Field::YearWithComma => self.year_with_comma(word)?,
            Field::Year(digits) | Field::IsoYear(digits) => {
                let length = self.number(digits, word, free, |said| &mut said.year)?;
                if digits < 4 && length < 4 {
                    self.said.year = near_2020(self.said.year);
                }
                self.said.year_digits = digits;
            }
            Field::ZoneHour => {
                let sign = self.rest.chars().next();
                self.said.zone_sign = if sign == Some('-') { -1 } else { 1 };
                if matches!(sign, Some('+' | '-' | ' ')) {
                    self.skip(1);
                }
                self.number(2, word, free, |said| &mut said.zone_hour)?;
            }
            Field::ZoneMinute => {
                if self.said.zone_sign == 0 {
                    self.said.zone_sign = 1;
                }
                self.number(2, word, free, |said| &mut said.zone_minute)?;
            }
            Field::Zone | Field::Offset => {
                let message = format!("formatting field \"{word}\" is only supported in to_char");
                return Err(SqlError::new(SqlState::FeatureNotSupported, message));
            }
        }
        Ok(())
    }

    /// Refuses a date of two calendars.
    fn convention(&mut self, field: Field) -> Result<(), SqlError> {
        let weeks = match field {
            Field::DayOfIsoYear | Field::DayOfIsoWeek | Field::IsoWeek | Field::IsoYear(_) => true,
            Field::Century
            | Field::DayOfYear
            | Field::Day
            | Field::DayOfWeek
            | Field::MonthName
            | Field::MonthShort
            | Field::Month
            | Field::RomanMonth
            | Field::WeekOfYear
            | Field::WeekOfMonth
            | Field::YearWithComma
            | Field::Year(_) => false,
            _ => return Ok(()),
        };
        if self.said.weeks.is_some_and(|known| known != weeks) {
            return Err(invalid("invalid combination of date conventions")
                .with_hint("Do not mix Gregorian and ISO week date conventions in a formatting template."));
        }
        self.said.weeks = Some(weeks);
        Ok(())
    }

    /// Reads a number into its place, and gives its length.
    fn number(&mut self, width: usize, word: &str, free: bool, place: fn(&mut Said) -> &mut i64) -> Result<u32, SqlError> {
        let (value, length) = self.digits(width, word, free)?;
        set(place(&mut self.said), value, word)?;
        Ok(length)
    }

    /// A number and its length: of so many characters, or of as many digits as there are where it ends by itself.
    fn digits(&mut self, width: usize, word: &str, free: bool) -> Result<(i64, u32), SqlError> {
        let rest = self.rest.trim_start_matches(is_space);
        let shown = |characters: usize| rest.chars().take(characters).collect::<String>();
        let there = rest.chars().count();
        if !free && there < width {
            return Err(invalid(format!("source string too short for \"{word}\" formatting field"))
                .with_detail(format!("Field requires {width} characters, but only {there} remain."))
                .with_hint("If your source string is not fixed-width, try using the \"FM\" modifier."));
        }
        let whole = if free { rest } else { rest.char_indices().nth(width).map_or(rest, |(end, _)| &rest[..end]) };
        let signed = usize::from(whole.starts_with(['-', '+']));
        let digits = whole[signed..].bytes().take_while(u8::is_ascii_digit).count();
        let used = if digits == 0 { 0 } else { signed + digits };
        if used == 0 {
            return Err(invalid(format!("invalid value \"{}\" for \"{word}\"", shown(width))).with_detail("Value must be an integer."));
        }
        if !free && used < width {
            return Err(invalid(format!("invalid value \"{}\" for \"{word}\"", shown(width)))
                .with_detail(format!("Field requires {width} characters, but only {used} could be parsed."))
                .with_hint("If your source string is not fixed-width, try using the \"FM\" modifier."));
        }
        let value = rest[..used].parse::<i32>().map_err(|_| {
            SqlError::new(SqlState::DatetimeFieldOverflow, format!("value for \"{word}\" in source string is out of range"))
                .with_detail(format!("Value must be in the range {} to {}.", i32::MIN, i32::MAX))
        })?;
        self.rest = &rest[used..];
        Ok((i64::from(value), u32::try_from(used).unwrap_or(u32::MAX)))
    }

    fn year_with_comma(&mut self, word: &str) -> Result<(), SqlError> {
        let wrong = || invalid("invalid input string for \"Y,YYY\"");
        let digits = |text: &str, most: usize| text.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let rest = self.rest.trim_start_matches(is_space);
        let (thousands, after) = rest.split_at(digits(rest, 7));
        let after = after.strip_prefix(',').ok_or_else(wrong)?;
        let (years, after) = after.split_at(digits(after, 3));
        let thousands: i64 = thousands.parse().map_err(|_| wrong())?;
        let years: i64 = years.parse().map_err(|_| wrong())?;
        self.rest = after;
        set(&mut self.said.year, thousands * 1000 + years, word)?;
        self.said.year_digits = 4;
        Ok(())
    }

    /// The place of the word that the text goes on with.
    fn one_of(&mut self, words: &[&str], field: &str) -> Result<usize, SqlError> {
        let starts = |word: &str| self.rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        match words.iter().position(|word| starts(word)) {
            Some(place) => {
                self.rest = &self.rest[words[place].len()..];
                Ok(place)
            }
            None => {
                let shown = self.rest.split(is_space).next().unwrap_or_default();
                Err(invalid(format!("invalid value \"{shown}\" for \"{field}\""))
                    .with_detail("The given value did not match any of the allowed values for this field."))
            }
        }
    }
}

/// Whether a number before this piece ends by itself.
fn ends_number(next: Option<&Piece>) -> bool {
    match next {
        None => true,
        Some(Piece::Field { field, .. }) => !field.is_digits(),
        Some(Piece::Other(character, _)) => !character.is_ascii_digit(),
    }
}

fn conflict(word: &str) -> SqlError {
    invalid(format!("conflicting values for \"{word}\" field in formatting string"))
        .with_detail("This value contradicts a previous setting for the same field type.")
}

fn set(place: &mut i64, value: i64, word: &str) -> Result<(), SqlError> {
    if *place != 0 && *place != value {
        return Err(conflict(word));
    }
    *place = value;
    Ok(())
}

fn agreed(known: Option<bool>, value: bool, word: &str) -> Result<Option<bool>, SqlError> {
    match known {
        Some(known) if known != value => Err(conflict(word)),
        _ => Ok(Some(value)),
    }
}

/// A year of less than four digits is the one nearest to 2020.
fn near_2020(year: i64) -> i64 {
    match year {
        ..70 => year + 2000,
        70..100 => year + 1900,
        100..520 => year + 2000,
        520..1000 => year + 1000,
        _ => year,
    }
}

/// The first day of a week of a year of weeks, in the count of the Julian calendar.
fn week(year: i64, week: i64) -> i64 {
    let fourth = julian(year, 1, 4);
    fourth - fourth.rem_euclid(7) + (week - 1) * 7
}

impl Said {
    /// The time that was said.
    fn settle(mut self, text: &str) -> Result<Found, SqlError> {
        if self.second_of_day != 0 {
            let of_day = [self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60];
            for (said, of_day) in [&mut self.hour, &mut self.minute, &mut self.second].into_iter().zip(of_day) {
                if *said == 0 {
                    *said = of_day;
                }
            }
        }
        if self.twelve_hours {
            self.hour = self.of_twelve()?;
        }
        let year = self.settled_year();
        let has_year = self.year != 0 || self.century != 0;
        let mut date = (year, 1, 1);
        let of_day = |day: i64| crate::encode::civil(day - julian(1970, 1, 1));
        if self.julian != 0 {
            date = of_day(self.julian);
        }
        if self.week != 0 {
            if self.weeks == Some(true) {
                let day = match self.day_of_week {
                    0 => 0,
                    1 => 6,
                    day => day - 2,
                };
                date = of_day(week(year, self.week) + day);
            } else {
                self.day_of_year = (self.week - 1) * 7 + 1;
            }
        }
        if self.week_of_month != 0 {
            self.day = (self.week_of_month - 1) * 7 + 1;
        }
        if self.day != 0 {
            date.2 = self.day;
        }
        if self.month != 0 {
            date.1 = self.month;
        }
        if self.day_of_year != 0 && (date.1 <= 1 || date.2 <= 1) {
            if year == 0 && self.before_christ.is_none() && !has_year {
                return Err(invalid("cannot calculate day of year without year information"));
            }
            let first = if self.weeks == Some(true) { week(year, 1) } else { julian(year, 1, 1) };
            let last = if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 { 366 } else { 365 };
            if self.day_of_year < 1 || self.day_of_year > last {
                return Err(out_of_range(text));
            }
            let found = of_day(first + self.day_of_year - 1);
            if self.weeks == Some(true) {
                date = found;
            }
            if date.1 <= 1 {
                date.1 = found.1;
            }
            if date.2 <= 1 {
                date.2 = found.2;
            }
        }
        let (year, month, day) = date;
        let number = julian(year, month, day);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || of_day(number) != date {
            return Err(out_of_range(text).with_hint("Perhaps you need a different \"datestyle\" setting."));
        }
        let microsecond = self.millisecond * 1000 + self.microsecond;
        let in_time = (0..24).contains(&self.hour) && (0..60).contains(&self.minute) && (0..60).contains(&self.second);
        if !in_time || !(0..=1_000_000).contains(&microsecond) {
            return Err(out_of_range(text));
        }
        let offset = (self.zone_sign != 0).then_some(self.zone_sign * (self.zone_hour * 3600 + self.zone_minute * 60));
        if !(0..=15).contains(&self.zone_hour) || !(0..60).contains(&self.zone_minute) {
            let message = format!("time zone displacement out of range: \"{text}\"");
            return Err(SqlError::new(SqlState::InvalidTimeZoneDisplacement, message));
        }
        let time = (self.hour * 3600 + self.minute * 60 + self.second) * 1_000_000 + microsecond;
        Ok(Found { days: number - julian(1970, 1, 1), time, offset })
    }

    fn of_twelve(&self) -> Result<i64, SqlError> {
        if !(1..=12).contains(&self.hour) {
            return Err(invalid(format!("hour \"{}\" is invalid for the 12-hour clock", self.hour))
                .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        let late = self.late == Some(true);
        Ok(self.hour % 12 + if late { 12 } else { 0 })
    }

    /// The year, 1 BC being 0.
    fn settled_year(&self) -> i64 {
        let before = self.before_christ == Some(true);
        let century = if before { -self.century } else { self.century };
        match (self.year, century) {
            (0, 0) => 0,
            (0, century) if century >= 0 => (century - 1) * 100 + 1,
            (0, century) => century * 100 + 1,
            (year, century) if century != 0 && self.year_digits <= 2 => match year % 100 {
                0 => century * 100 + i64::from(century < 0),
                year if century >= 0 => (century - 1) * 100 + year,
                year => (century + 1) * 100 - year + 1,
            },
            (year, _) => {
                let year = if before { -year } else { year };
                if year < 0 { year + 1 } else { year }
            }
        }
    }
}
