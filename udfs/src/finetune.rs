//! `finetune(model, query, label, ...)`: trains a click model on the rows of a query, one result row per epoch as it happens.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{DFSchema, Result};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::click::TrainOptions;
use stratagem_models::registry::ModelName;

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type, sql_type};
use crate::error::Error;
use crate::features::Encoder;
use crate::models::Models;
use crate::relation::{Constants, Relation};
use crate::spelling;

mod exec;
mod rows;

use exec::FinetuneExec;

/// The declaration of `finetune`.
pub static DECLARATION: Function = Function {
    name: "finetune",
    kind: Kind::Table,
    parameters: &[
        Parameter::value("model", Type::Text, "The name to save under: a lower-case letter, then letters, digits and underscores."),
        Parameter::query("query", "The training rows. Every column but the label is a feature."),
        Parameter::value("label", Type::Text, "The column of the query with the outcome: boolean, or 0 and 1."),
        Parameter::value("model_type", Type::Text, "The architecture: `dcnv2`, a deep and cross network (Wang et al. 2021).").or("'dcnv2'"),
        Parameter::value("epochs", Type::Integer, "Passes over the rows, at most.").or("10"),
        Parameter::value("batch_size", Type::Integer, "Rows per step. NULL chooses by the number of rows.").or("NULL"),
        Parameter::value("learning_rate", Type::Double, "The learning rate of the dense part of the net.").or("0.001"),
        Parameter::value("seed", Type::BigInt, "Seed of the split, the order of the rows and the first weights.").or("0"),
        Parameter::value("validation", Type::Double, "The share of rows held out to validate on; 0 trains on all.").or("0.1"),
        Parameter::value("early_stop", Type::Boolean, "Stop when the validation loss no longer falls.").or("true"),
    ],
    returns: Returns::Rows(&[
        Column::new("model", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The saved version; only in the last row, NULL while the training runs.").nullable(),
        Column::new("epoch", Type::Integer, "The epoch, from 1; in the last row the epoch whose weights were kept."),
        Column::new("epochs", Type::Integer, "The epochs there will be at most."),
        Column::new("rows", Type::BigInt, "The rows trained on in an epoch."),
        Column::new("train_loss", Type::Double, "Mean log loss of the epoch's steps."),
        Column::new("validation_loss", Type::Double, "Log loss of the held-out rows after the epoch.").nullable(),
        Column::new("validation_auc", Type::Double, "Area under the ROC curve of the held-out rows after the epoch.").nullable(),
        Column::new("seconds", Type::Double, "Seconds since the training began."),
        Column::new("eta_seconds", Type::Double, "Seconds until the end if no epoch is left out; 0 in the last row."),
    ]),
    summary: "Trains a click model on the rows of a query and saves it as a new version",
    docs: "Runs the query, trains, and returns a row after every epoch, at once. When the training is over the model is saved as the next \
           version of its name, and then the last row says so: its `version` is set, and its figures are those of the epoch whose weights \
           were kept (the one with the lowest validation loss). From then on `predict_ctr` with the bare name uses it.\n\n\
           The types of the query's columns decide what becomes of them: integers, text, booleans, dates and times are categories (hashed \
           into an embedding), floating-point and decimal columns are numbers, a timestamp becomes its hour and its weekday (of UTC if it \
           has a time zone). NULL is a value of its own for a category, and is replaced by the mean and flagged for a number. Rows with a \
           NULL label are refused: filter them in the query.\n\n\
           The same rows and the same seed give the same model, in whatever order the rows arrive. A statement that is canceled, times out \
           or loses its client stops the training within a step, and nothing is saved. For the same reason `LIMIT` directly on `finetune` \
           is refused. The rows are held in memory, about 8 bytes per category and 4 per number.",
    example: "SELECT epoch, train_loss, validation_auc, version\n\
              FROM finetune(model => 'ctr', query => $$SELECT user_id, item_id, price, click FROM impressions$$, label => 'click', epochs => 2)",
    errors: &[
        Failure { sqlstate: "42703", when: "the query has no column of the label's name" },
        Failure {
            sqlstate: "42804",
            when: "a column has a type that cannot be a feature (a list, a row, bytes), or the label is not boolean or numeric",
        },
        Failure { sqlstate: "22004", when: "the label is NULL in some rows" },
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, all labels are the same, there are no rows, or an option is out of range",
        },
        Failure { sqlstate: "0A000", when: "a LIMIT would end the training before the model is saved" },
        Failure { sqlstate: "53200", when: "the rows do not fit into the memory of the server" },
    ],
};

/// Plans calls of `finetune`.
#[derive(Debug)]
pub(crate) struct Finetune(pub(crate) Arc<Models>);

impl Relation for Finetune {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn check(&self, arguments: &Constants, input: &DFSchema) -> Result<(), Error> {
        Training::new(arguments, input.as_arrow(), "").map(drop)
    }

    fn plan(
        &self,
        arguments: &Constants,
        query: &str,
        input: Arc<dyn ExecutionPlan>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let training = Training::new(arguments, &input.schema(), query)?;
        Ok(Arc::new(FinetuneExec::new(Arc::clone(&self.0), Arc::new(training), input)))
    }
}

/// What is to be trained, checked.
#[derive(Debug)]
struct Training {
    name: ModelName,
    /// The label's column in the query.
    label: usize,
    label_name: String,
    encoder: Encoder,
    columns: Vec<stratagem_models::features::Column>,
    options: TrainOptions,
    query: String,
}

impl Training {
    fn new(arguments: &Constants, schema: &Schema, query: &str) -> Result<Self, Error> {
        let name = ModelName::parse(arguments.text("model")?)?;
        let label = label(arguments.text("label")?, schema)?;
        let (encoder, columns) = Encoder::for_training(schema.fields(), label)?;
        let options = options(arguments)?;
        let label_name = schema.field(label).name().clone();
        Ok(Self { name, label, label_name, encoder, columns, options, query: query.to_owned() })
    }
}

/// The position of the label's column.
fn label(name: &str, schema: &Schema) -> Result<usize, Error> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let Some(position) = names.iter().position(|other| *other == name) else {
        return Err(Error::NoSuchColumn {
            what: "finetune".to_owned(),
            column: name.to_owned(),
            detail: format!("the query has: {}", names.join(", ")),
            hint: spelling::closest(names, name).map(|close| format!("did you mean label => '{close}'?")),
        });
    };
    let data_type = schema.field(position).data_type();
    if !Type::Label.accepts(data_type) || data_type.is_null() {
        return Err(Error::WrongType {
            object: format!("label column \"{name}\""),
            actual: sql_type(data_type),
            detail: Some("a label is boolean, or a number that is 0 or 1".to_owned()),
            hint: Some(format!("write a condition in the query, such as {name} = 'yes' AS {name}")),
        });
    }
    Ok(position)
}

fn options(arguments: &Constants) -> Result<TrainOptions, Error> {
    let missing = |name: &str| Error::value(format!("argument {name} of finetune"), "is NULL");
    let options = TrainOptions {
        model_type: arguments.text("model_type")?.parse()?,
        epochs: arguments.count("epochs")?.ok_or_else(|| missing("epochs"))?,
        batch_size: arguments.count("batch_size")?,
        learning_rate: arguments.double("learning_rate")? as f32,
        // Any bigint is a seed.
        seed: arguments.whole("seed").ok_or_else(|| missing("seed"))?.cast_unsigned(),
        validation: arguments.double("validation")? as f32,
        early_stop: arguments.boolean("early_stop")?,
        ..TrainOptions::default()
    };
    options.check()?;
    Ok(options)
}
