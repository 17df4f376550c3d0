//! What the statistics of uplift share: their parameters and errors.

use stratagem_models::metrics::uplift::{Definition, Resampling};

use super::parameters::{level, size};
use crate::declaration::{Failure, Parameter, Type};
use crate::error::Error;
use crate::options::Options;

pub(super) const OUTCOME: Parameter = Parameter::value("outcome", Type::Outcome, "What the row brought: 0 or 1, or an amount.");
pub(super) const TREATED: Parameter = Parameter::value("treated", Type::Label, "Whether the row was treated: true or 1, false or 0.");
pub(super) const UPLIFT: Parameter =
    Parameter::value("uplift", Type::Number, "The uplift that was predicted for the row. Only its order matters.");
pub(super) const PROPENSITY: Parameter = Parameter::value(
    "propensity",
    Type::Number,
    "The probability with which the row was treated, above 0 and below 1. Left out, it was the same for all rows.",
)
.optional();
pub(super) const DEFINITION: Parameter =
    Parameter::value("definition", Type::Text, "`'normalized'` or `'per_head'`. A constant.").or("'normalized'");
pub(super) const SAMPLES: Parameter =
    Parameter::value("samples", Type::Integer, "The number of samples of the bootstrap, from 20 to 100000. A constant.").or("200");
pub(super) const SEED: Parameter = Parameter::value("seed", Type::BigInt, "Start of the random numbers. A constant.").or("0");

pub(super) const ERRORS: &[Failure] = &[
    Failure {
        sqlstate: "22023",
        when: "`treated` is not 0 or 1, an outcome is not finite (or, for the definition `'normalized'`, not 0 or 1), an uplift is NaN, a \
               propensity is not above 0 and below 1, or an option is not one of those listed",
    },
    Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for `outcome` and `treated`)" },
];

pub(super) fn definition(options: &Options) -> Result<Definition, Error> {
    let names = Definition::NAMES.map(|(name, _)| name);
    let word = options.word("definition", &names)?;
    Ok(Definition::NAMES.iter().find(|(name, _)| *name == word).map_or(Definition::Normalized, |(_, definition)| *definition))
}

pub(super) fn resampling(options: &Options) -> Result<Resampling, Error> {
    Ok(Resampling {
        level: level(options)?,
        samples: size(options, "samples", 20..=100_000)?,
        seed: options.whole("seed", i64::MIN..=i64::MAX)?.cast_unsigned(),
    })
}
