//! What the user wants of columns: `price: log, zip: category, user_id: skip, item_id: hash(100000)`.

use super::*;

/// The wishes by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Treatments(Vec<(String, Option<Treatment>)>);

const NAMES: [&str; 8] = ["skip", "category", "hash(n)", "standard", "log", "quantile(n)", "piecewise", "ngrams"];

impl Treatments {
    /// Reads the argument `features`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut wishes = Vec::new();
        for wish in text.split(',').map(str::trim).filter(|wish| !wish.is_empty()) {
            let Some((column, treatment)) = wish.split_once(':') else {
                return Err(invalid(format!("holds \"{wish}\""), "write column: treatment, such as price: log"));
            };
            wishes.push((column.trim().trim_matches('"').to_owned(), treatment_of(treatment.trim())?));
        }
        Ok(Self(wishes))
    }

    /// Checks that every column is there.
    pub(super) fn check(&self, fields: &[FieldRef]) -> Result<()> {
        let names = || fields.iter().map(|field| field.name().as_str());
        match self.0.iter().find(|(column, _)| !names().any(|name| name == column)) {
            None => Ok(()),
            Some((column, _)) => Err(Error::NoSuchColumn {
                what: "argument features of finetune".to_owned(),
                column: column.clone(),
                detail: format!("the query has: {}", names().collect::<Vec<_>>().join(", ")),
                hint: spelling::closest(names(), column).map(|close| format!("did you mean \"{close}\"?")),
            }),
        }
    }

    pub(super) fn skips(&self, column: &str) -> bool {
        self.0.iter().any(|(name, treatment)| name == column && treatment.is_none())
    }

    pub(crate) fn of(&self, column: &str) -> Option<Treatment> {
        self.0.iter().find(|(name, _)| name == column).and_then(|(_, treatment)| *treatment)
    }

    pub(super) fn misplaced(&self, column: &str, treatment: Treatment, sql_type: &str) -> Error {
        let fits = match treatment {
            Treatment::Category | Treatment::Hash(_) => "integers, text, booleans and lists of them",
            Treatment::Ngrams => "text",
            _ => "numbers",
        };
        Error::WrongType {
            object: format!("column \"{column}\" in argument features of finetune"),
            actual: sql_type.to_owned(),
            detail: Some(format!("this treatment is for {fits}")),
            hint: None,
        }
    }
}

/// Whether a treatment is about raw columns of this kind.
pub(super) fn reads(treatment: Treatment, values: Values) -> bool {
    match treatment {
        Treatment::Category | Treatment::Hash(_) => matches!(values, Values::Id | Values::Items),
        Treatment::Standard | Treatment::Log | Treatment::Quantile(_) | Treatment::Piecewise => values == Values::Number,
        Treatment::Ngrams => values == Values::Tokens,
    }
}

fn treatment_of(text: &str) -> Result<Option<Treatment>> {
    const MOST: u32 = 1 << 24;
    let (name, count) = match text.split_once('(') {
        Some((name, count)) => (name.trim(), count.trim_end_matches(')').trim().parse::<u32>().ok().filter(|n| (2..=MOST).contains(n))),
        None => (text, None),
    };
    Ok(Some(match (name, count) {
        ("skip", None) => return Ok(None),
        ("category", None) => Treatment::Category,
        ("hash", Some(buckets)) => Treatment::Hash(buckets),
        ("standard", None) => Treatment::Standard,
        ("log", None) => Treatment::Log,
        ("quantile", Some(buckets)) => Treatment::Quantile(buckets),
        ("piecewise", None) => Treatment::Piecewise,
        ("ngrams", None) => Treatment::Ngrams,
        _ => return Err(invalid(format!("has the treatment \"{text}\""), &format!("one of: {}; n is from 2 to {MOST}", NAMES.join(", ")))),
    }))
}

fn invalid(reason: String, hint: &str) -> Error {
    Error::InvalidValue { object: "argument features of finetune".to_owned(), reason, hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_others_are_refused() {
        let wishes = Treatments::parse("price: log, \"Zip\": category,item_id:hash(1000), note : skip,").unwrap();
        assert_eq!((wishes.of("price"), wishes.of("Zip")), (Some(Treatment::Log), Some(Treatment::Category)));
        assert_eq!((wishes.of("item_id"), wishes.skips("note"), wishes.skips("price")), (Some(Treatment::Hash(1000)), true, false));
        assert!(Treatments::parse("price").unwrap_err().to_string().contains("holds \"price\""));
        assert!(Treatments::parse("price: cube").unwrap_err().to_string().contains("treatment \"cube\""));
        assert!(Treatments::parse("price: hash(1)").is_err());
    }
}
