//! Times and intervals as a pattern shows them.

use std::fmt::Write;

use super::piece::{Ending, Field, Fill, Letters, Piece};
use crate::sqlstate::{SqlError, SqlState};

/// The names of the months, of which the short ones are the first three letters.
pub(super) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// The names of the days of the week from Sunday, of which the short ones are the first three letters.
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Months in Roman numbers, from the last to the first.
pub(super) const ROMAN: [&str; 12] = ["XII", "XI", "X", "IX", "VIII", "VII", "VI", "V", "IV", "III", "II", "I"];

/// The day from which days are counted in Arrow, 1970-01-01, in the count of the Julian calendar.
const EPOCH: i64 = 2_440_588;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// A time or an interval in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// Of times, the year 1 BC is 0.
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
    day_of_year: i64,
    /// From Sunday; none of an interval.
    day_of_week: Option<usize>,
    /// Distance from UTC in seconds.
    offset: i64,
    zone: String,
}

impl Moment {
    /// A time of microseconds from 1970 where it is, in a zone of a name so many seconds from UTC.
    pub(super) fn local(microseconds: i64, offset: i64, zone: String) -> Self {
        let days = microseconds.div_euclid(MICROSECONDS_PER_DAY);
        let time = microseconds.rem_euclid(MICROSECONDS_PER_DAY);
        let (year, month, day) = crate::encode::civil(days);
        Self {
            day_of_year: days + EPOCH - julian(year, 1, 1) + 1,
            day_of_week: usize::try_from((days + 4).rem_euclid(7)).ok(),
            offset,
            zone,
            ..Self { year, month, day, ..Self::of_time(time) }
        }
    }

    /// An interval.
    pub(super) fn interval(months: i32, days: i32, microseconds: i64) -> Self {
        let (months, day) = (i64::from(months), i64::from(days));
        Self { year: months / 12, month: months % 12, day, day_of_year: months * 30 + day, ..Self::of_time(microseconds) }
    }

    fn of_time(microseconds: i64) -> Self {
        let seconds = microseconds / 1_000_000;
        Self {
            year: 0,
            month: 0,
            day: 0,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            microsecond: microseconds % 1_000_000,
            day_of_year: 0,
            day_of_week: None,
            offset: 0,
            zone: String::new(),
        }
    }

    /// The year as it is called: without 0 before or after the birth of Christ.
    fn called(&self) -> i64 {
        if self.day_of_week.is_some() && self.year <= 0 { 1 - self.year } else { self.year }
    }

    /// The Monday that the year of weeks of this year begins with.
    fn first_monday(year: i64) -> i64 {
        let fourth = julian(year, 1, 4);
        fourth - fourth.rem_euclid(7)
    }

    /// Year and day of the calendar of weeks, the first day being 0.
    fn weeks(&self) -> (i64, i64) {
        let day = julian(self.year, self.month, self.day);
        let year = (-1..=1).rev().map(|more| self.year + more).find(|year| Self::first_monday(*year) <= day).unwrap_or(self.year - 1);
        (year, day - Self::first_monday(year))
    }

    /// Writes this as the pattern says.
    pub(super) fn write(&self, pieces: &[Piece], out: &mut String) -> Result<(), SqlError> {
        for piece in pieces {
            match piece {
                Piece::Other(character, _) => out.push(*character),
                Piece::Field { field, letters, fill, ending, .. } => {
                    let start = out.len();
                    self.field(*field, *letters, *fill, out)?;
                    if let (Some(ending), true) = (ending, field.is_digits() && *field != Field::ZoneMinute && out.len() > start) {
                        let ending_of = ordinal(&out[start..]);
                        match ending {
                            Ending::Lower => out.push_str(ending_of),
                            Ending::Upper => out.push_str(&ending_of.to_uppercase()),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn field(&self, field: Field, letters: Letters, fill: Fill, out: &mut String) -> Result<(), SqlError> {
        let signed = |value: i64, width: usize| if value < 0 { width + 1 } else { width };
        let mut number = |value: i64, width: usize| {
            let width = if fill == Fill::Plain { 0 } else { width };
            // writing to a String does not fail
            let _ = write!(out, "{value:0width$}");
        };
        match field {
            Field::Exact => {}
            Field::Meridiem(points) => {
                let late = self.hour % 24 >= 12;
                out.push_str(&cased(
                    if late {
                        if points { "P.M." } else { "PM" }
                    } else if points {
                        "A.M."
                    } else {
                        "AM"
                    },
                    letters,
                ));
            }
            Field::Era(points) => {
                self.day_of_week()?;
                let before = self.year <= 0;
                out.push_str(&cased(
                    if before {
                        if points { "B.C." } else { "BC" }
                    } else if points {
                        "A.D."
                    } else {
                        "AD"
                    },
                    letters,
                ));
            }
            Field::Century => {
                let century = match (self.day_of_week, self.year) {
                    (None, year) => year / 100,
                    (Some(_), year) if year > 0 => (year - 1) / 100 + 1,
                    (Some(_), year) => year / 100 - 1,
                };
                number(century, if century.abs() <= 99 { signed(century, 2) } else { 0 });
            }
            Field::DayName => name(DAYS[self.day_of_week()?], 9, letters, fill, out),
            Field::DayShort => name(&DAYS[self.day_of_week()?][..3], 0, letters, fill, out),
            Field::MonthName | Field::MonthShort => {
                self.day_of_week()?;
                let full = usize::try_from(self.month - 1).ok().and_then(|month| MONTHS.get(month));
                let full = full.copied().unwrap_or_default();
                match field {
                    Field::MonthName => name(full, 9, letters, fill, out),
                    _ => name(full.get(..3).unwrap_or_default(), 0, letters, fill, out),
                }
            }
            Field::DayOfYear => number(self.day_of_year, 3),
            Field::DayOfIsoYear => number(self.weeks().1 + 1, 3),
            Field::Day => number(self.day, 2),
            Field::DayOfWeek => {
                let day = self.day_of_week()?;
                number(day as i64 + 1, 0);
            }
            Field::DayOfIsoWeek => {
                let day = self.day_of_week()?;
                number(if day == 0 { 7 } else { day as i64 }, 0);
            }
            Field::Fraction(digits) => {
                let _ = write!(out, "{:0digits$}", self.microsecond / 10_i64.pow(6 - digits.min(6) as u32));
            }
            Field::Hour24 => number(self.hour, signed(self.hour, 2)),
            Field::Hour12 => number(if self.hour % 12 == 0 { 12 } else { self.hour % 12 }, signed(self.hour, 2)),
            Field::Minute => number(self.minute, signed(self.minute, 2)),
            Field::Second => number(self.second, signed(self.second, 2)),
            Field::SecondOfDay => number(self.hour * 3600 + self.minute * 60 + self.second, 0),
            Field::IsoWeek => number(self.weeks().1 / 7 + 1, 2),
            Field::IsoYear(digits) => {
                let (year, _) = self.weeks();
                let called = if self.day_of_week.is_some() && year <= 0 { 1 - year } else { year };
                self.year_of(called, digits, &mut number);
            }
            Field::Year(digits) => self.year_of(self.called(), digits, &mut number),
            Field::YearWithComma => {
                let year = self.called();
                let _ = write!(out, "{},{:03}", year / 1000, year % 1000);
            }
            Field::JulianDay => number(julian(self.year, self.month, self.day), 0),
            Field::Month => number(self.month, signed(self.month, 2)),
            Field::Quarter => {
                if self.month != 0 {
                    number((self.month - 1) / 3 + 1, 0);
                }
            }
            Field::RomanMonth => {
                let place = match self.month {
                    0 if self.year == 0 => return Ok(()),
                    0 => {
                        if self.year > 0 {
                            0
                        } else {
                            11
                        }
                    }
                    month if month < 0 => -(month + 1),
                    month => 12 - month,
                };
                let roman = usize::try_from(place).ok().and_then(|place| ROMAN.get(place)).copied().unwrap_or_default();
                let fill = if fill == Fill::Translated { Fill::Padded } else { fill };
                name(roman, 4, letters, fill, out);
            }
            Field::WeekOfYear => number((self.day_of_year - 1) / 7 + 1, 2),
            Field::WeekOfMonth => number((self.day - 1) / 7 + 1, 0),
            Field::Zone => {
                self.day_of_week()?;
                out.push_str(&cased(&self.zone, letters));
            }
            Field::ZoneHour | Field::Offset => {
                self.day_of_week()?;
                let width = if fill == Fill::Plain { 0 } else { 2 };
                let _ = write!(out, "{}{:0width$}", if self.offset < 0 { '-' } else { '+' }, self.offset.abs() / 3600);
                let minutes = self.offset.abs() / 60 % 60;
                if field == Field::Offset && minutes != 0 {
                    let _ = write!(out, ":{minutes:02}");
                }
            }
            Field::ZoneMinute => {
                self.day_of_week()?;
                let _ = write!(out, "{:02}", self.offset.abs() / 60 % 60);
            }
        }
        Ok(())
    }

    /// The last digits of a year.
    fn year_of(&self, year: i64, digits: usize, number: &mut impl FnMut(i64, usize)) {
        let width = if self.called() < 0 { digits + 1 } else { digits };
        number(if digits < 4 { year % 10_i64.pow(digits as u32) } else { year }, width);
    }

    /// The day of the week, and with it all that only a time has.
    fn day_of_week(&self) -> Result<usize, SqlError> {
        self.day_of_week.ok_or_else(|| {
            SqlError::new(SqlState::InvalidDatetimeFormat, "invalid format specification for an interval value")
                .with_hint("Intervals are not tied to specific calendar dates.")
        })
    }
}

/// The number of a day in the count of the Julian calendar. Parts of an interval have one, too.
pub(super) fn julian(year: i64, month: i64, day: i64) -> i64 {
    // a year begins with March, and its months are 30.6 days long
    let (year, month) = if month > 2 { (year + 4800, month + 1) } else { (year + 4799, month + 13) };
    let leap = year / 4 - year / 100 + year / 400;
    year * 365 + leap - 32_167 + 7834 * month / 256 + day
}

/// The ending that a number has as one of an order.
pub(super) fn ordinal(digits: &str) -> &'static str {
    let mut last = digits.bytes().rev();
    let (unit, ten) = (last.next(), last.next());
    match unit {
        _ if ten == Some(b'1') => "th",
        Some(b'1') => "st",
        Some(b'2') => "nd",
        Some(b'3') => "rd",
        _ => "th",
    }
}

fn cased(word: &str, letters: Letters) -> String {
    match letters {
        Letters::Upper => word.to_uppercase(),
        Letters::Capital => word.to_owned(),
        Letters::Lower => word.to_lowercase(),
    }
}

/// Writes a name, filled up with spaces.
fn name(word: &str, width: usize, letters: Letters, fill: Fill, out: &mut String) {
    let width = if fill == Fill::Padded { width } else { 0 };
    let _ = write!(out, "{:width$}", cased(word, letters));
}
