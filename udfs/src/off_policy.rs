//! `ml.off_policy(query, reward, target, logged)`: what another policy would have earned, by several estimators at once.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::metrics::policy::{Estimate, Estimator, Policy, Share, Weights};
use stratagem_models::metrics::statistic::{Column as Values, Invalid, Statistic};

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::gather::{GatherExec, Gathering, Kernel, numbers, without_nulls};
use crate::named;
use crate::relation::Constants;
use crate::spelling;

/// The declaration of `ml.off_policy`.
pub static DECLARATION: Function = Function {
    name: "ml.off_policy",
    kind: Kind::Table,
    parameters: &[
        Parameter::query("query", "The log: a row per shown action."),
        Parameter::value("reward", Type::Text, "The column with what the shown action earned: a click, or an amount."),
        Parameter::value("target", Type::Text, "The column with the probability with which the new policy would have shown that action."),
        Parameter::value("logged", Type::Text, "The column with the probability with which the logging policy showed it, above 0."),
        Parameter::value("q_logged", Type::Text, "The column with the reward that a model expects of the shown action.").or("NULL"),
        Parameter::value("q_new", Type::Text, "The column with the reward that the model expects under the new policy.").or("NULL"),
        Parameter::value(
            "estimators",
            Type::Text,
            "Some of `ips`, `snips`, `clipped_ips`, `dm`, `dr` and `switch_dr`, with commas between them. NULL: all that the columns \
             allow.",
        )
        .or("NULL"),
        Parameter::value("max_weight", Type::Double, "The largest weight of `clipped_ips`.").or("10"),
        Parameter::value("threshold", Type::Double, "The largest weight that `switch_dr` uses.").or("1"),
        Parameter::value("level", Type::Double, "The share of such intervals that hold the true value, from 0.5 to 0.9999.").or("0.95"),
    ],
    returns: Returns::Rows(&[
        Column::new("estimator", Type::Text, "The estimator, an aggregate of that name."),
        Column::new("value", Type::Double, "The mean reward per row that the new policy would have earned.").nullable(),
        Column::new("std_error", Type::Double, "Its standard error; NULL below two rows.").nullable(),
        Column::new("low", Type::Double, "The lower end of the interval.").nullable(),
        Column::new("high", Type::Double, "The upper end of the interval.").nullable(),
        Column::new("rows", Type::BigInt, "The rows of the log that count."),
        Column::new("ess", Type::Double, "The effective sample size, see `ess`.").nullable(),
        Column::new("max_weight", Type::Double, "The largest weight of a row.").nullable(),
    ]),
    summary: "What another policy would have earned, by several estimators, with intervals",
    docs: "A row per estimator, as the aggregates `ips_ci`, `snips_ci`, `clipped_ips_ci`, `dm_ci`, `dr_ci` and `switch_dr_ci` give it, \
           from one reading of the log. Agreement of estimators that err in different ways (`snips`, `dr`) is a better sign than a short \
           interval.\n\n\
           The client gets a warning when the effective sample size is below 1 % of the rows, or when one row has more than a tenth of \
           all weight and more than five times the mean: then compare a policy that is closer to the logging one, cut the weights \
           (`clipped_ips`, `switch_dr`), or log with more randomness.\n\n\
           Rows with a NULL in a column that is named are skipped.",
    example: "SELECT estimator, value, low, high FROM ml.off_policy(\n\
              \x20   query => $$SELECT * FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)$$,\n\
              \x20   reward => 'click', target => 'p_new', logged => 'p_logged')",
    errors: &[
        Failure { sqlstate: "42703", when: "the query has no column of a name that is given" },
        Failure { sqlstate: "42804", when: "a column has a type that is not a number (or boolean, for the reward)" },
        Failure {
            sqlstate: "22023",
            when: "a propensity is not above 0 and at most 1, a target probability is not from 0 to 1, a reward is not finite, an \
                   estimator is unknown or lacks its columns, or an argument is out of range",
        },
        Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
    ],
};

const NAMES: [&str; 6] = ["ips", "snips", "clipped_ips", "dm", "dr", "switch_dr"];

/// Plans calls of `ml.off_policy`.
#[derive(Debug)]
pub(crate) struct OffPolicy;

/// The named columns: role, accepted type, name.
fn columns(arguments: &Constants) -> Result<Vec<(&'static str, Type, &str)>, Error> {
    let mut columns = vec![
        ("reward", Type::Outcome, arguments.text("reward")?),
        ("target", Type::Number, arguments.text("target")?),
        ("logged", Type::Number, arguments.text("logged")?),
    ];
    match (arguments.optional_text("q_logged"), arguments.optional_text("q_new")) {
        (Some(q_logged), Some(q_new)) => columns.extend([("q_logged", Type::Number, q_logged), ("q_new", Type::Number, q_new)]),
        (None, None) => {}
        (given, _) => {
            let missing = if given.is_some() { "q_new" } else { "q_logged" };
            return Err(Error::InvalidValue {
                object: format!("argument {missing} of {}", DECLARATION.name),
                reason: "is missing".to_owned(),
                hint: Some("a model has both: what it expects of the shown action, and under the new policy".to_owned()),
            });
        }
    }
    Ok(columns)
}

fn needs_model(name: &str) -> bool {
    matches!(name, "dm" | "dr" | "switch_dr")
}

/// The estimators that are asked for.
fn estimators(arguments: &Constants) -> Result<Vec<(&'static str, Estimator)>, Error> {
    let modelled = columns(arguments)?.len() > 3;
    let object = || format!("argument estimators of {}", DECLARATION.name);
    let names: Vec<&'static str> = match arguments.optional_text("estimators") {
        None => NAMES.into_iter().filter(|name| modelled || !needs_model(name)).collect(),
        Some(list) => {
            let known = |given: &str| {
                NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(given)).ok_or_else(|| Error::InvalidValue {
                    object: object(),
                    reason: format!("has '{given}', but must be of {}", NAMES.join(", ")),
                    hint: spelling::closest(NAMES, given).map(|close| format!("did you mean '{close}'?")),
                })
            };
            list.split(',').map(str::trim).map(known).collect::<Result<_, _>>()?
        }
    };
    if let Some(name) = names.iter().find(|name| needs_model(name) && !modelled) {
        return Err(Error::InvalidValue {
            object: object(),
            reason: format!("has '{name}', which needs a model's expected rewards"),
            hint: Some("name their columns: q_logged => ..., q_new => ...".to_owned()),
        });
    }
    let largest = |name: &str| {
        let value = arguments.double(name)?;
        let refused =
            || Error::value(format!("argument {name} of {}", DECLARATION.name), format!("is {value}, but must be a number from 0"));
        if value >= 0.0 { Ok(value) } else { Err(refused()) }
    };
    let (max_weight, threshold) = (largest("max_weight")?, largest("threshold")?);
    let estimator = |name| match name {
        "snips" => Estimator::Snips,
        "clipped_ips" => Estimator::ClippedIps { max_weight },
        "dm" => Estimator::Dm,
        "dr" => Estimator::Dr,
        "switch_dr" => Estimator::SwitchDr { threshold },
        _ => Estimator::Ips,
    };
    Ok(names.into_iter().map(|name| (name, estimator(name))).collect())
}

fn level(arguments: &Constants) -> Result<f64, Error> {
    arguments.within("level", arguments.double("level")?, 0.5..=0.9999)
}

impl Gathering for OffPolicy {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        estimators(arguments)?;
        level(arguments)?;
        let number = |(role, accepted, name): (&str, Type, &str)| named::number(&DECLARATION, role, name, accepted, query.schema());
        let columns = columns(arguments)?.into_iter().map(number).collect::<Result<Vec<_>, Error>>()?;
        LogicalPlanBuilder::from(query).project(columns)?.build()
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let names: Arc<[String]> = columns(arguments)?.into_iter().map(|(.., name)| name.to_owned()).collect();
        let (estimators, level) = (estimators(arguments)?, level(arguments)?);
        let start = move || Log {
            names: Arc::clone(&names),
            level,
            policies: estimators.iter().map(|(name, estimator)| (*name, Policy::new(*estimator, None))).collect(),
            weights: Weights::new(Share::EffectiveRows),
        };
        Ok(GatherExec::plan(&DECLARATION, input, start))
    }
}

/// The rows of a log, by estimator.
struct Log {
    names: Arc<[String]>,
    level: f64,
    policies: Vec<(&'static str, Policy)>,
    weights: Weights,
}

impl Log {
    fn refused(&self, invalid: Invalid) -> Error {
        let Invalid { argument, value, allowed } = invalid;
        let known = ["reward", "target_probability", "logged_propensity", "q_logged", "q_new"];
        let role = known.iter().position(|known| *known == argument).unwrap_or_default();
        let (role, name) = (["reward", "target", "logged", "q_logged", "q_new"][role], &self.names[role]);
        let object = format!("column \"{name}\", the {role} of {},", DECLARATION.name);
        Error::value(object, format!("is {value}, but must be {allowed}"))
    }

    fn add(&mut self, columns: &[Values<'_>]) -> Result<(), Invalid> {
        for (name, policy) in &mut self.policies {
            policy.update(if *name == "dm" { &columns[4..] } else { columns })?;
        }
        self.weights.update(&columns[1..3])
    }
}

impl Kernel for Log {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = without_nulls(batch)?;
        let columns: Vec<Values<'_>> = (0..batch.num_columns()).map(|column| Values::Numbers(numbers(&batch, column))).collect();
        self.add(&columns).map_err(|invalid| self.refused(invalid).into())
    }

    fn merge(&mut self, other: Self) {
        self.policies.iter_mut().zip(&other.policies).for_each(|((_, policy), (_, other))| policy.append(other));
        self.weights.append(&other.weights);
    }

    fn bytes(&self) -> usize {
        self.policies.len() * size_of::<Policy>()
    }

    fn warnings(&self) -> Vec<String> {
        const WHAT_TO_DO: &str =
            "compare a policy closer to the logging one, cut the weights (clipped_ips, switch_dr), or log with more randomness";
        let (rows, effective) = (self.weights.rows(), self.weights.effective_rows());
        let (largest, total) = (self.weights.largest(), self.weights.total());
        let mut warnings = Vec::new();
        if effective < rows / 100.0 {
            warnings.push(format!(
                "the effective sample size of {} is {effective:.1} of {rows} rows, so its estimates hang on few rows: {WHAT_TO_DO}",
                DECLARATION.name
            ));
        }
        if largest > total / 10.0 && largest > 5.0 * total / rows {
            let share = 100.0 * largest / total;
            warnings
                .push(format!("one row has {share:.0} % of all weight of {}, so its estimates hang on it: {WHAT_TO_DO}", DECLARATION.name));
        }
        warnings
    }

    fn answer(self) -> Result<RecordBatch> {
        let found: Vec<Option<Estimate>> = self.policies.iter().map(|(_, policy)| policy.estimate(self.level)).collect();
        let doubles = |field: fn(&Estimate) -> Option<f64>| -> ArrayRef {
            Arc::new(found.iter().map(|estimate| estimate.as_ref().and_then(field)).collect::<Float64Array>())
        };
        let count = found.len();
        let some = self.weights.rows() > 0.0;
        let same = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![some.then_some(value); count])) };
        let columns = vec![
            Arc::new(self.policies.iter().map(|(name, _)| Some(*name)).collect::<StringArray>()) as ArrayRef,
            doubles(|estimate| Some(estimate.value)),
            doubles(|estimate| estimate.std_error),
            doubles(|estimate| estimate.interval.map(|[low, _]| low)),
            doubles(|estimate| estimate.interval.map(|[_, high]| high)),
            Arc::new(Int64Array::from(vec![self.weights.rows() as i64; count])),
            same(self.weights.effective_rows()),
            same(self.weights.largest()),
        ];
        Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
    }
}
