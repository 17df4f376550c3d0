//! `ml.generate_strategies(query)`: all drafts for each row of a query, to choose from in SQL.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, ListArray, StringArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Column as ColumnName, Result};
use datafusion::functions::core::{get_field, named_struct};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility, lit};
use stratagem_models::prompt::Prompt;

use super::{Strategy, Written, rows_of};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::models::Models;
use crate::relation::{Constants, Expansion};

const RANK: &str = "rank";
const STRATEGY: &str = "strategy";
const ASKED: &str = "asked";
const ANSWERED: &str = "answered";

/// The declaration of `ml.generate_strategies`.
pub static DECLARATION: Function = Function {
    name: "ml.generate_strategies",
    kind: Kind::Table,
    parameters: &[
        Parameter::query("query", "The rows to write for, as `generate_strategy` takes them."),
        Parameter::value("n", Type::Integer, "How many drafts that hold are written for each row, from 1 to 16.").or("4"),
        Parameter::value(
            "rank_by",
            Type::Text,
            "What makes a draft better: `'likelihood'`, or a click model, which then gives `score`; see `generate_strategy`.",
        )
        .or("'likelihood'"),
        Parameter::value("budget", Type::Integer, "No further draft of a row is begun after so many tokens; NULL is no limit.").or("NULL"),
        Parameter::value("goal", Type::Text, "What the strategies are for.").or("'purchase'"),
        Parameter::value("channel", Type::Text, "`'email'`, `'sms'`, `'push'`, `'social'` or `'banner'`.").or("'email'"),
        Parameter::value("tone", Type::Text, "The tone.").or("'friendly'"),
        Parameter::value("offer", Type::Text, "The offer, word for word; NULL or `'none'` is no offer.").or("NULL"),
        Parameter::value("language", Type::Text, "The language.").or("'en'"),
        Parameter::value("prompt", Type::Text, "A prompt that CREATE PROMPT has made; NULL is the built-in one.").or("NULL"),
        Parameter::value(
            "model",
            Type::Text,
            "The language model, or one that `finetune` has made of it (`'copy'`, `'copy@2'`); NULL is the installed one, `'smollm2'`.",
        )
        .or("NULL"),
        Parameter::value("seed", Type::BigInt, "Start of the random numbers.").or("0"),
        Parameter::value("max_tokens", Type::Integer, "The most tokens of a draft.").or("64"),
        Parameter::value("banned", Type::Text, "Words and phrases, with commas between them, that no text may have.").or("NULL"),
        Parameter::value("on_error", Type::Text, "`'fail'`, `'null'` or `'report'`; NULL is the setting `ml.on_error`.").or("NULL"),
    ],
    returns: Returns::QueryRows(&[
        Column::new(RANK, Type::Integer, "1 for the best draft of a row, by `rank_by`.").nullable(),
        Column::new("headline", Type::Text, "The headline, or subject.").nullable(),
        Column::new("body", Type::Text, "A sentence about the product, and the offer.").nullable(),
        Column::new("written_by", Type::Text, "`'model'`, or `'template'` where no draft held.").nullable(),
        Column::new("score", Type::Double, "The likelihood, or the prediction of the click model.").nullable(),
        Column::new(STRATEGY, Type::Row, "The strategy with all its fields, as `generate_strategy` returns it.").nullable(),
        Column::new(ASKED, Type::Text, "What the language model was asked: the prompt for `finetune`.").nullable(),
        Column::new(ANSWERED, Type::Text, "What it wrote, word for word: the completion for `finetune`; NULL where no draft held.")
            .nullable(),
    ]),
    summary: "Several strategies for each row of a query, ranked",
    docs: "Writes as `generate_strategy` does, and gives every draft that holds as a row of its own, so that the choice is made in SQL: \
           `WHERE rank = 1`, or the best score under a condition. Only different drafts count. A row that names no product comes once, without \
           a strategy.\n\n\
           `asked` and `answered` are the words between the function and the model. Train on them with `chat => false`, the good drafts for \
           `task => 'generation'`, good ones against bad ones for `'preference'`, and give the model to `generate_strategy`: `model => 'copy'`.",
    example: "SELECT customer_id, rank, headline, body, score FROM ml.generate_strategies(query => $$SELECT * FROM customers LIMIT 2$$, n => 2)",
    errors: super::DECLARATION.errors,
};

/// Plans calls of `ml.generate_strategies`: a list of drafts for each row, laid out as rows.
#[derive(Debug)]
pub(crate) struct Candidates {
    lists: Arc<ScalarUDF>,
}

impl Candidates {
    pub(crate) fn new(models: &Arc<Models>) -> Self {
        Self { lists: Strategy::function(&DECLARATION, models, DECLARATION.engine_signature(Volatility::Volatile)) }
    }
}

impl Expansion for Candidates {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn expand(&self, arguments: &Constants, input: LogicalPlan) -> Result<LogicalPlan> {
        const DRAFTS: &str = "__drafts";
        let own: Vec<Expr> = input.schema().iter().map(Expr::from).collect();
        let names: Vec<String> = input.schema().fields().iter().map(|field| field.name().clone()).collect();
        if let Some(taken) = DECLARATION.columns().iter().find(|column| names.iter().any(|name| name == column.name)) {
            let name = taken.name;
            return Err(Error::InvalidValue {
                object: "the query".to_owned(),
                reason: format!("has a column \"{name}\", which {} adds", DECLARATION.name),
                hint: Some(format!("give it another name: {name} AS ...")),
            }
            .into());
        }
        let call = |function: Arc<ScalarUDF>, args| Expr::ScalarFunction(ScalarFunction::new_udf(function, args));
        let row = names.iter().zip(&own).flat_map(|(name, column)| [lit(name.as_str()), column.clone()]).collect();
        let mut args = vec![call(named_struct(), row)];
        args.extend(DECLARATION.parameters.iter().skip(1).map(|parameter| Expr::Literal(arguments.literal(parameter.name), None)));
        let mut columns = own.clone();
        columns.push(call(Arc::clone(&self.lists), args).alias(DRAFTS));
        let drafts = LogicalPlanBuilder::from(input).project(columns)?.unnest_column(DRAFTS)?;
        let draft = || Expr::Column(ColumnName::from_name(DRAFTS));
        let field = |of: Expr, name: &str| call(get_field(), vec![of, lit(name)]);
        let added = DECLARATION.columns().iter().map(|column| match column.name {
            RANK | STRATEGY | ASKED | ANSWERED => field(draft(), column.name).alias(column.name),
            name => field(field(draft(), STRATEGY), name).alias(name),
        });
        drafts.project(own.into_iter().chain(added))?.build()
    }
}

/// A draft and its place among those of its row.
pub(super) fn fields() -> Fields {
    let text = |name| Field::new(name, DataType::Utf8, true);
    vec![
        Field::new(RANK, DataType::Int32, true),
        Field::new(STRATEGY, DataType::Struct(super::fields()), true),
        text(ASKED),
        text(ANSWERED),
    ]
    .into()
}

/// The drafts of each row; a row without any is NULL.
pub(super) fn lists(answers: Vec<Vec<Written>>, model: &str, prompt: Option<&Prompt>) -> ListArray {
    let nulls: NullBuffer = answers.iter().map(|drafts| !drafts.is_empty()).collect();
    let offsets = OffsetBuffer::from_lengths(answers.iter().map(Vec::len));
    let ranks: Int32Array = answers.iter().flat_map(|drafts| (1..).take(drafts.len()).map(Some)).collect();
    let drafts: Vec<Option<Written>> = answers.into_iter().flatten().map(Some).collect();
    let text = |value: fn(&Written) -> Option<&str>| drafts.iter().map(|draft| draft.as_ref().and_then(value)).collect::<StringArray>();
    let (asked, answered) = (text(|draft| Some(&draft.asked)), text(|draft| draft.draft.answered.as_deref()));
    let columns: Vec<ArrayRef> = vec![Arc::new(ranks), Arc::new(rows_of(&drafts, model, prompt)), Arc::new(asked), Arc::new(answered)];
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields()), true));
    ListArray::new(item, offsets, Arc::new(StructArray::new(fields(), columns, None)), Some(nulls))
}
