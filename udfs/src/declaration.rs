//! The one declaration of each SQL function. The rewrite of statements, the engine's signatures, the catalog's routines, the reference and
//! the hints are all derived from it; there is no second list.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Signature, TypeSignature, Volatility};

use crate::error::{Error, Result};
use crate::metric;

mod routine;
mod types;

pub use routine::{Argument, Routine, routines};
pub use types::Type;
pub(crate) use types::sql_type;

/// What a function is to SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value per row.
    Scalar,
    /// One value per group of rows.
    Aggregate,
    /// One value per row, learned from all rows of its window.
    Window,
    /// Rows: stands in FROM.
    Table,
}

/// What an argument is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A plain value.
    Value,
    /// The columns of a row: a table alias, `alias.*`, named values, or values in the declared order.
    Row,
    /// A query in `$$...$$` or in parentheses, planned as a relation of the caller's statement.
    Query,
    /// A second query, whose rows are for another purpose than those of the first.
    Side,
    /// A model: `'ctr'`, `'ctr@3'` or `'ctr@champion'`.
    Model,
}

/// Whether an argument may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must be given.
    Required,
    /// It may be left out; the function then does without it. Only last parameters are.
    Optional,
    /// It may be left out; this SQL literal stands for it.
    Default(&'static str),
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The name, as in `name => value`.
    pub name: &'static str,
    /// Its SQL type.
    pub data_type: Type,
    /// What it is for.
    pub role: Role,
    /// Whether it may be left out.
    pub presence: Presence,
    /// Another name under which it may be given.
    pub also: Option<&'static str>,
    /// One sentence in Markdown.
    pub docs: &'static str,
}

impl Parameter {
    /// A plain value that must be given.
    pub(crate) const fn value(name: &'static str, data_type: Type, docs: &'static str) -> Self {
        Self { name, data_type, role: Role::Value, presence: Presence::Required, also: None, docs }
    }

    /// A model that must be given.
    pub(crate) const fn model(name: &'static str, docs: &'static str) -> Self {
        Self { name, data_type: Type::Text, role: Role::Model, presence: Presence::Required, also: None, docs }
    }

    /// A row of columns that must be given.
    pub(crate) const fn row(name: &'static str, docs: &'static str) -> Self {
        Self { name, data_type: Type::Row, role: Role::Row, presence: Presence::Required, also: None, docs }
    }

    /// A query that must be given.
    pub(crate) const fn query(name: &'static str, docs: &'static str) -> Self {
        Self { name, data_type: Type::Query, role: Role::Query, presence: Presence::Required, also: None, docs }
    }

    /// A second query, which may be left out.
    pub(crate) const fn side(name: &'static str, docs: &'static str) -> Self {
        Self { name, data_type: Type::Query, role: Role::Side, presence: Presence::Default("NULL"), also: None, docs }
    }

    /// The parameter with a default, as an SQL literal.
    pub(crate) const fn or(mut self, literal: &'static str) -> Self {
        self.presence = Presence::Default(literal);
        self
    }

    /// The parameter under a second name.
    pub(crate) const fn also(mut self, name: &'static str) -> Self {
        self.also = Some(name);
        self
    }

    /// The parameter as one that may be left out.
    pub(crate) const fn optional(mut self) -> Self {
        self.presence = Presence::Optional;
        self
    }
}

/// One column of a table function's result.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The column's name.
    pub name: &'static str,
    /// Its SQL type.
    pub data_type: Type,
    /// Whether it can be NULL.
    pub nullable: bool,
    /// One sentence in Markdown.
    pub docs: &'static str,
}

impl Column {
    /// A column that is never NULL.
    pub(crate) const fn new(name: &'static str, data_type: Type, docs: &'static str) -> Self {
        Self { name, data_type, nullable: false, docs }
    }

    /// The column as one that can be NULL.
    pub(crate) const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }
}

/// What a function returns.
#[derive(Debug, Clone, Copy)]
pub enum Returns {
    /// A value.
    Value(Type),
    /// A row of these fields.
    Struct(&'static [Column]),
    /// Rows of these columns.
    Rows(&'static [Column]),
    /// The rows of its query with these columns added.
    QueryRows(&'static [Column]),
}

/// A way to fail that users meet.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// The SQLSTATE the client sees.
    pub sqlstate: &'static str,
    /// When it happens.
    pub when: &'static str,
}

/// The declaration of one SQL function.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// The name, lower case, with its schema if it has one (`ml.predict`).
    pub name: &'static str,
    /// What it is to SQL.
    pub kind: Kind,
    /// Its parameters, in the order of positional arguments.
    pub parameters: &'static [Parameter],
    /// What it returns.
    pub returns: Returns,
    /// One line, without a full stop.
    pub summary: &'static str,
    /// Paragraphs in Markdown.
    pub docs: &'static str,
    /// A statement that runs.
    pub example: &'static str,
    /// The ways to fail.
    pub errors: &'static [Failure],
}

impl Function {
    /// The call as a user would write it: `auc(label boolean or 0/1, score number [, weight number])`.
    pub fn signature(&self) -> String {
        let mut text = format!("{}(", self.name);
        for (position, parameter) in self.parameters.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            let (name, data_type) = (parameter.name, parameter.data_type.sql());
            text.push_str(&match parameter.presence {
                Presence::Required => format!("{comma}{name} {data_type}"),
                Presence::Optional => format!(" [{comma}{name} {data_type}]"),
                Presence::Default(value) => format!("{comma}{name} {data_type} default {value}"),
            });
        }
        text.push(')');
        text
    }

    /// The signature, or for a function of many parameters its names only: `finetune(model, query, label [, model_type, conversion])`.
    pub fn usage(&self) -> String {
        const MANY: usize = 12;
        if self.parameters.len() <= MANY {
            return self.signature();
        }
        let names = |required: bool| {
            let named = self.parameters.iter().filter(|parameter| (parameter.presence == Presence::Required) == required);
            named.map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")
        };
        format!("{}({} [, {}])", self.name, names(true), names(false))
    }

    /// The position of a parameter, by either of its names.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|parameter| parameter.name == name || parameter.also == Some(name))
    }

    /// The parameter that takes a row, if there is one.
    pub fn row(&self) -> Option<usize> {
        self.parameters.iter().position(|parameter| parameter.role == Role::Row)
    }

    /// The engine's signature: the number of arguments. Their types are checked by [`Function::check_types`], whose errors say more.
    pub(crate) fn engine_signature(&self, volatility: Volatility) -> Signature {
        let optional = self.parameters.iter().filter(|p| p.presence == Presence::Optional).count();
        let counts = (self.parameters.len() - optional)..=self.parameters.len();
        Signature::new(TypeSignature::OneOf(counts.map(TypeSignature::Any).collect()), volatility)
    }

    /// Checks the types of positional arguments.
    pub(crate) fn check_types<'a>(&self, actual: impl IntoIterator<Item = &'a DataType>) -> Result<()> {
        for (parameter, actual) in self.parameters.iter().zip(actual) {
            if !parameter.data_type.accepts(actual) {
                return Err(Error::WrongType {
                    object: format!("argument {} of {}", parameter.name, self.name),
                    actual: sql_type(actual),
                    detail: Some(format!("the function is {}", self.usage())),
                    hint: Some(format!("it takes {}", parameter.data_type.sql())),
                });
            }
        }
        Ok(())
    }

    /// The declared columns of a table function, or fields of a function that returns a row; empty for others.
    pub fn columns(&self) -> &'static [Column] {
        match self.returns {
            Returns::Struct(columns) | Returns::Rows(columns) | Returns::QueryRows(columns) => columns,
            Returns::Value(_) => &[],
        }
    }

    /// The engine's schema of a table function's declared columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields: Vec<_> = self.columns().iter().map(|c| Field::new(c.name, c.data_type.arrow(), c.nullable)).collect();
        SchemaRef::new(Schema::new(fields))
    }
}

/// All functions, by name.
pub fn functions() -> &'static [&'static Function] {
    static SORTED: LazyLock<Vec<&'static Function>> = LazyLock::new(|| {
        let mut functions: Vec<_> = FUNCTIONS.iter().copied().chain(metric::METRICS.iter().map(|metric| metric.declaration)).collect();
        functions.sort_by_key(|function| function.name);
        functions
    });
    static FUNCTIONS: &[&Function] = &[
        &crate::classification_report::DECLARATION,
        &crate::classify::DECLARATION,
        &crate::classify::estimate::DECLARATION,
        &crate::classify::probability::DECLARATION,
        &crate::classify::tagging::ENTITIES,
        &crate::classify::tagging::TAGS,
        &crate::compare::DECLARATION,
        &crate::confusion_matrix::DECLARATION,
        &crate::count_tokens::DECLARATION,
        &crate::curve::calibration_curve::DECLARATION,
        &crate::curve::lift_curve::DECLARATION,
        &crate::curve::pr_curve::DECLARATION,
        &crate::curve::roc_curve::DECLARATION,
        &crate::drawing::bar::DECLARATION,
        &crate::drawing::sparkline::DECLARATION,
        &crate::embed::DECLARATION,
        &crate::evaluate::DECLARATION,
        &crate::explain_predict::DECLARATION,
        &crate::generate::DECLARATION,
        &crate::prompt::DECLARATION,
        &crate::global_explain::DECLARATION,
        &crate::match_answer::DECLARATION,
        &crate::sentiment::DECLARATION,
        &crate::similarity::DECLARATION,
        &crate::finetune::DECLARATION,
        &crate::generate_strategy::DECLARATION,
        &crate::prepare::bucketize::DECLARATION,
        &crate::prepare::feature_cross::DECLARATION,
        &crate::feature_info::DECLARATION,
        &crate::generate_strategy::candidates::DECLARATION,
        &crate::prepare::hash_bucketize::DECLARATION,
        &crate::prepare::impute::DECLARATION,
        &crate::prepare::one_hot::DECLARATION,
        &crate::prepare::pca::DECLARATION,
        &crate::predict::DECLARATION,
        &crate::prepare::quantile_bucketize::DECLARATION,
        &crate::prepare::split::DECLARATION,
        &crate::prepare::standard_scaler::DECLARATION,
        &crate::prepare::tf_idf::DECLARATION,
        &crate::predict_ctr::DECLARATION,
        &crate::predict_cvr::DECLARATION,
        &crate::predict_uplift::DECLARATION,
        &crate::experiment::qini_curve::DECLARATION,
        &crate::experiment::uplift_by_decile::DECLARATION,
        &crate::experiment::uplift_curve::DECLARATION,
        &crate::off_policy::DECLARATION,
        &crate::sample_size::DECLARATION,
    ];
    &SORTED
}

/// The function of this (lower-case) name.
pub fn function(name: &str) -> Option<&'static Function> {
    functions().iter().copied().find(|function| function.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_documented_and_well_formed() {
        for function in functions() {
            let name = function.name;
            assert!(!function.summary.is_empty() && !function.summary.ends_with('.'), "{name}: summary");
            assert!(function.docs.len() > 80, "{name}: docs");
            assert!(function.example.contains(name), "{name}: the example calls something else");
            assert!(!function.errors.is_empty(), "{name}: errors");
            for parameter in function.parameters {
                assert!(!parameter.docs.is_empty(), "{name}.{}: docs", parameter.name);
            }
            for column in function.columns() {
                assert!(!column.docs.is_empty(), "{name}.{}: docs", column.name);
            }
            let optional = function.parameters.iter().skip_while(|p| p.presence != Presence::Optional);
            assert!(optional.clone().all(|p| p.presence == Presence::Optional), "{name}: only last parameters may be left out");
            assert!(function.name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.' || c.is_ascii_digit()), "{name}");
        }
        let names: Vec<_> = functions().iter().map(|function| function.name).collect();
        assert!(names.is_sorted(), "functions are listed by name");
    }

    #[test]
    fn a_function_of_many_parameters_is_told_by_their_names() {
        let usage = function("finetune").unwrap().usage();
        assert!(usage.starts_with("finetune(model, query [, label, model_type, ") && usage.ends_with(", seed])"), "{usage}");
        assert_eq!(function("auc").unwrap().usage(), function("auc").unwrap().signature());
    }

    #[test]
    fn signatures_read_like_the_call() {
        assert_eq!(function("auc").unwrap().signature(), "auc(label boolean or 0/1, score number [, weight number])");
        assert!(
            function("finetune")
                .unwrap()
                .signature()
                .starts_with("finetune(model text, query query, label text default NULL, model_type text default NULL")
        );
    }
}
