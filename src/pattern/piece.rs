//! The pieces of a pattern of times: fields, and what stands between them.

/// What a field shows of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Field {
    /// AM or PM, with points or without.
    Meridiem(bool),
    /// AD or BC, with points or without.
    Era(bool),
    Century,
    DayName,
    DayShort,
    DayOfYear,
    DayOfIsoYear,
    Day,
    /// 1 is Sunday.
    DayOfWeek,
    /// 1 is Monday.
    DayOfIsoWeek,
    /// Whether all that follows is of fixed width.
    Exact,
    /// So many digits of a second.
    Fraction(usize),
    Hour24,
    Hour12,
    IsoWeek,
    /// So many digits of the year of weeks.
    IsoYear(usize),
    JulianDay,
    Minute,
    Month,
    MonthName,
    MonthShort,
    Offset,
    Quarter,
    RomanMonth,
    SecondOfDay,
    Second,
    ZoneHour,
    ZoneMinute,
    Zone,
    WeekOfYear,
    WeekOfMonth,
    /// The year with a comma behind its thousands.
    YearWithComma,
    /// So many digits of the year.
    Year(usize),
}

impl Field {
    /// Whether it is read as digits.
    pub(super) fn is_digits(self) -> bool {
        !matches!(
            self,
            Field::Meridiem(_)
                | Field::Era(_)
                | Field::DayName
                | Field::DayShort
                | Field::Exact
                | Field::MonthName
                | Field::MonthShort
                | Field::RomanMonth
                | Field::Zone
                | Field::Offset
                | Field::ZoneHour
        )
    }
}

/// How letters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Letters {
    Upper,
    Capital,
    Lower,
}

/// How a field is filled up to its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fill {
    Padded,
    /// Not at all, by the modifier FM.
    Plain,
    /// Names not at all, by the modifier TM, which asks for the words of a language.
    Translated,
}

/// The ending of a number as one of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    Upper,
    Lower,
}

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Field {
        field: Field,
        /// The field as it stands in PostgreSQL's manual.
        word: &'static str,
        letters: Letters,
        fill: Fill,
        ending: Option<Ending>,
    },
    /// A character between fields, and whether it stood in quotes.
    Other(char, bool),
}

/// The words of fields, those before that begin with others.
const WORDS: [(&str, Field); 54] = [
    ("A.D.", Field::Era(true)),
    ("A.M.", Field::Meridiem(true)),
    ("AD", Field::Era(false)),
    ("AM", Field::Meridiem(false)),
    ("B.C.", Field::Era(true)),
    ("BC", Field::Era(false)),
    ("CC", Field::Century),
    ("DAY", Field::DayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("DY", Field::DayShort),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("FX", Field::Exact),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::DayOfIsoYear),
    ("ID", Field::DayOfIsoWeek),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::JulianDay),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName),
    ("MON", Field::MonthShort),
    ("MS", Field::Fraction(3)),
    ("OF", Field::Offset),
    ("P.M.", Field::Meridiem(true)),
    ("PM", Field::Meridiem(false)),
    ("Q", Field::Quarter),
    ("RM", Field::RomanMonth),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHour),
    ("TZM", Field::ZoneMinute),
    ("TZ", Field::Zone),
    ("US", Field::Fraction(6)),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
];

/// Fields that have words of letters of three kinds.
const CAPITALS: [(&str, &str); 4] = [("DAY", "Day"), ("DY", "Dy"), ("MONTH", "Month"), ("MON", "Mon")];

/// The pieces of a pattern.
pub(super) fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = quoted(&rest[1..], &mut pieces);
            continue;
        }
        let modifier = ["FM", "fm", "TM", "tm"].into_iter().find(|modifier| rest.starts_with(modifier));
        rest = &rest[modifier.map_or(0, str::len)..];
        if let Some((field, word, letters)) = field(rest) {
            rest = &rest[word.len()..];
            let suffix = ["TH", "th", "SP", "sp"].into_iter().find(|suffix| rest.starts_with(suffix));
            rest = &rest[suffix.map_or(0, str::len)..];
            let ending = match suffix {
                Some("TH") => Some(Ending::Upper),
                Some("th") => Some(Ending::Lower),
                _ => None,
            };
            let fill =
                modifier.map_or(Fill::Padded, |modifier| if modifier.eq_ignore_ascii_case("FM") { Fill::Plain } else { Fill::Translated });
            pieces.push(Piece::Field { field, word, letters, fill, ending });
            continue;
        }
        // a modifier before what is no field has no effect, and nothing comes of it
        if rest.starts_with('"') {
            continue;
        }
        let mut characters = rest.chars();
        let mut character = characters.next();
        if character == Some('\\') && characters.as_str().starts_with('"') {
            character = characters.next();
        }
        pieces.extend(character.map(|character| Piece::Other(character, false)));
        rest = characters.as_str();
    }
    pieces
}

/// Takes a text in quotes, whose first is taken already; gives what is left of the pattern.
fn quoted<'a>(rest: &'a str, pieces: &mut Vec<Piece>) -> &'a str {
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => pieces.extend(characters.next().map(|character| Piece::Other(character, true))),
            character => pieces.push(Piece::Other(character, true)),
        }
    }
    characters.as_str()
}

/// The field that a text begins with.
fn field(text: &str) -> Option<(Field, &'static str, Letters)> {
    for (word, field) in &WORDS {
        let Some(head) = text.get(..word.len()) else { continue };
        let letters = if head == *word {
            Letters::Upper
        } else if head.bytes().all(|byte| !byte.is_ascii_uppercase()) && head.eq_ignore_ascii_case(word) {
            Letters::Lower
        } else if CAPITALS.iter().any(|(known, capital)| known == word && *capital == head) {
            Letters::Capital
        } else {
            continue;
        };
        return Some((*field, word, letters));
    }
    None
}
