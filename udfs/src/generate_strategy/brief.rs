//! What a strategy is about: decided by the data and the caller, before a language model words it.

use std::fmt;

use datafusion::arrow::datatypes::FieldRef;

use crate::declaration::sql_type;
use crate::error::{Error, Result};

/// Columns that name what is promoted: the first of them that the row has, and that is not NULL, counts. Products come before categories.
pub(super) const COLUMNS: [&str; 14] = [
    "product",
    "product_title",
    "product_name",
    "title",
    "item",
    "item_title",
    "item_name",
    "product_category",
    "category",
    "favourite_category",
    "favorite_category",
    "preferred_category",
    "top_category",
    "last_category",
];

/// The most characters of a product's name.
const PRODUCT: usize = 120;

/// The most characters of an offer.
const OFFER: usize = 80;

/// The most characters of a goal or a tone.
const WORDS: usize = 60;

/// The places of the columns of a row that can name what is promoted, in order.
pub(super) fn promoting(fields: &[FieldRef], function: &str) -> Result<Vec<usize>> {
    let place = |name: &&str| fields.iter().position(|field| field.name() == *name);
    let found: Vec<usize> = COLUMNS.iter().filter_map(place).collect();
    if let Some(wrong) = found.iter().map(|place| &fields[*place]).find(|field| !is_text(field)) {
        return Err(Error::WrongType {
            object: format!("column \"{}\" of {function}", wrong.name()),
            actual: sql_type(wrong.data_type()),
            detail: Some("it names what is promoted".to_owned()),
            hint: Some(format!("cast it to text, or leave it out and name another one: {function}(row, product => ...)")),
        });
    }
    if found.is_empty() {
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        return Err(Error::NoSuchColumn {
            what: function.to_owned(),
            column: "product".to_owned(),
            detail: format!("one of these names what is promoted: {}; the row has {}", COLUMNS.join(", "), names.join(", ")),
            hint: Some(format!("name the column in the call: {function}(row, product => ...)")),
        });
    }
    Ok(found)
}

fn is_text(field: &FieldRef) -> bool {
    field.data_type().is_null() || sql_type(field.data_type()) == "text"
}

/// Where a strategy is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Email,
    Sms,
    Push,
    Social,
    Banner,
}

impl Channel {
    const ALL: [(Self, &'static str); 5] =
        [(Self::Email, "email"), (Self::Sms, "sms"), (Self::Push, "push"), (Self::Social, "social"), (Self::Banner, "banner")];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(channel, _)| *channel)
    }

    /// The most characters of a headline and of a body. A text message is one of 160 with both; 78 is what RFC 5322 recommends for a line.
    pub(super) fn limits(self) -> (usize, usize) {
        match self {
            Self::Email => (78, 400),
            Self::Sms => (40, 119),
            Self::Push => (50, 150),
            Self::Social => (80, 280),
            Self::Banner => (40, 90),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(channel, _)| channel == self).map_or("", |(_, name)| name))
    }
}

/// The language of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Language {
    English,
    German,
    French,
    Spanish,
    Italian,
    Portuguese,
    Dutch,
    Chinese,
    Japanese,
}

impl Language {
    const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::English, "en", "English"),
        (Self::German, "de", "German"),
        (Self::French, "fr", "French"),
        (Self::Spanish, "es", "Spanish"),
        (Self::Italian, "it", "Italian"),
        (Self::Portuguese, "pt", "Portuguese"),
        (Self::Dutch, "nl", "Dutch"),
        (Self::Chinese, "zh", "Chinese"),
        (Self::Japanese, "ja", "Japanese"),
    ];

    fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(code)).map(|(language, ..)| *language)
    }

    /// ISO 639-1.
    pub(super) fn code(self) -> &'static str {
        Self::ALL.iter().find(|(language, ..)| *language == self).map_or("", |(_, code, _)| code)
    }

    /// The name in English.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(language, ..)| *language == self).map_or("", |(_, _, name)| name)
    }
}

/// What a strategy is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Brief {
    /// The product or category to promote.
    pub(super) product: String,
    /// The column that named it.
    pub(super) column: String,
    pub(super) offer: Option<String>,
    pub(super) channel: Channel,
    pub(super) goal: String,
    pub(super) tone: String,
    pub(super) language: Language,
}

/// The values of a row as they came.
pub(super) struct Given<'a> {
    pub(super) product: &'a str,
    pub(super) column: &'a str,
    pub(super) offer: Option<&'a str>,
    pub(super) channel: &'a str,
    pub(super) goal: &'a str,
    pub(super) tone: &'a str,
    pub(super) language: &'a str,
}

impl Brief {
    /// Checks what came; `function` is named in errors. No product is no brief.
    pub(super) fn new(given: &Given<'_>, function: &str) -> Result<Option<Self>> {
        let argument = |name: &str| format!("argument {name} of {function}");
        let column = format!("column \"{}\" of {function}", given.column);
        let product = plain(given.product, PRODUCT, &column)?;
        if product.is_empty() {
            return Ok(None);
        }
        let one_of = |name: &str, value: &str, known: Vec<&str>| Error::InvalidValue {
            object: argument(name),
            reason: format!("is '{value}'"),
            hint: Some(format!("it is one of {}", known.join(", "))),
        };
        let channels = || Channel::ALL.iter().map(|(_, name)| *name).collect();
        let languages = || Language::ALL.iter().map(|(_, code, _)| *code).collect();
        let offer = given.offer.map(|offer| plain(offer, OFFER, &argument("offer"))).transpose()?;
        // Shops write it so where there is none.
        let offer = offer.map(|offer| offer.trim_end_matches('.').to_owned()).filter(|offer| !offer.is_empty() && offer != "none");
        let brief = Self {
            column: given.column.to_owned(),
            channel: Channel::parse(given.channel).ok_or_else(|| one_of("channel", given.channel, channels()))?,
            language: Language::parse(given.language).ok_or_else(|| one_of("language", given.language, languages()))?,
            goal: plain(given.goal, WORDS, &argument("goal"))?,
            tone: plain(given.tone, WORDS, &argument("tone"))?,
            product,
            offer,
        };
        let (_, most) = brief.channel.limits();
        let least = brief.product.chars().count() + brief.offer.as_ref().map_or(0, |offer| offer.chars().count() + 2) + 1;
        if least > most {
            return Err(Error::InvalidValue {
                object: column,
                reason: format!("and the offer need {least} characters, and a {} has {most}", brief.channel),
                hint: Some("shorten the name, or choose another channel".to_owned()),
            });
        }
        Ok(Some(brief))
    }

    /// The offer as a sentence.
    pub(super) fn offer_sentence(&self) -> Option<String> {
        let offer = self.offer.as_ref()?;
        let mut letters = offer.chars();
        let first: String = letters.next()?.to_uppercase().collect();
        let stop = if matches!(self.language, Language::Chinese | Language::Japanese) { "。" } else { "." };
        Some(format!("{first}{}{stop}", letters.as_str()))
    }
}

/// A text on one line, without what could be mistaken for the structure of a prompt.
fn plain(text: &str, most: usize, object: &str) -> Result<String> {
    let spaced = |c: char| if c.is_control() { ' ' } else { c };
    let plain = text.chars().map(spaced).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    let length = plain.chars().count();
    if length > most {
        let (reason, hint) = (format!("has {length} characters, more than {most}"), Some("shorten it".to_owned()));
        return Err(Error::InvalidValue { object: object.to_owned(), reason, hint });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    fn given() -> Given<'static> {
        Given {
            product: "shoes",
            column: "category",
            offer: Some("10% off"),
            channel: "email",
            goal: "welcome",
            tone: "friendly",
            language: "en",
        }
    }

    #[test]
    fn a_product_is_found_before_a_category() {
        let field = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
        let fields = [field("id"), field("category"), field("title")];
        assert_eq!(promoting(&fields, "f").unwrap(), [2, 1]);
        let error = promoting(&fields[..1], "f").unwrap_err();
        assert!(error.detail().unwrap().ends_with("the row has id") && error.hint().unwrap().contains("product => "), "{error:?}");
        let number = [Arc::new(Field::new("item", DataType::Int64, true))];
        assert_eq!(promoting(&number, "f").unwrap_err().to_string(), "column \"item\" of f cannot be bigint");
    }

    #[test]
    fn a_brief_is_clean() {
        let brief = Brief::new(&Given { product: " Oak\n \"Lamp\"\u{0} ", offer: Some("Two for one."), ..given() }, "f").unwrap().unwrap();
        assert_eq!(brief.product, "Oak \"Lamp\"");
        assert_eq!(brief.offer_sentence().unwrap(), "Two for one.");
        for none in ["", "none", " "] {
            assert_eq!(Brief::new(&Given { offer: Some(none), ..given() }, "f").unwrap().unwrap().offer, None);
        }
        assert_eq!(Brief::new(&Given { product: " ", ..given() }, "f").unwrap(), None);
    }

    #[test]
    fn what_a_channel_cannot_hold_is_told() {
        let refusal = |given: Given<'_>| Brief::new(&given, "f").unwrap_err().to_string();
        assert_eq!(refusal(Given { channel: "fax", ..given() }), "argument channel of f is 'fax'");
        assert_eq!(refusal(Given { language: "xx", ..given() }), "argument language of f is 'xx'");
        let long = "x".repeat(PRODUCT + 1);
        assert_eq!(refusal(Given { product: &long, ..given() }), "column \"category\" of f has 121 characters, more than 120");
        let long = "x".repeat(85);
        let told = refusal(Given { product: &long, channel: "banner", ..given() });
        assert_eq!(told, "column \"category\" of f and the offer need 95 characters, and a banner has 90");
    }
}
