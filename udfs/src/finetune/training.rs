//! What a call of `finetune` trains, on what and how.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::Schema;
use stratagem_models::click::{Split, TrainOptions};
use stratagem_models::examples::Block;
use stratagem_models::features::{Batch, Column as RawColumn};
use stratagem_models::language::tune::{Objective, Tune as LanguageTune};
use stratagem_models::registry::ModelName;
use stratagem_models::uplift::{self, Plan};

use super::language::{self, Language};
use super::options::{options, split};
use super::texts::{self, Texts};
use super::{column, experiment, invalid, missing_label};
use crate::declaration::{Type, sql_type};
use crate::error::Error;
use crate::features::{self, Encoder, Treatments};
use crate::models::{Models, Pinned, Start};
use crate::prepare::Transform;
use crate::relation::Constants;

/// What is to be trained, checked.
#[derive(Debug)]
pub(super) struct Training {
    pub(super) name: ModelName,
    /// How the query's rows are prepared; the columns below are those of the result.
    pub(super) transform: Option<Transform>,
    /// The click, and the conversion if there is one; or outcome, treatment and perhaps propensity.
    pub(super) labels: Vec<Label>,
    /// How an uplift model is trained.
    pub(super) uplift: Option<Plan>,
    /// What a text model is trained on.
    pub(super) texts: Option<Texts>,
    /// What a language model is trained on.
    pub(super) language: Option<Language>,
    /// The column of a split by time or by column.
    pub(super) split: Option<usize>,
    /// The name of the column that marks held-out rows.
    pub(super) mark: Option<String>,
    /// The version to go on from.
    pub(super) base: Option<(Pinned, Arc<Start>)>,
    pub(super) encoder: Encoder,
    pub(super) columns: Vec<RawColumn>,
    pub(super) options: TrainOptions,
    pub(super) query: String,
}

/// A column that is no feature, but what is to be learned or what was done.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) column: usize,
    pub(super) name: String,
    /// What it is called in errors.
    pub(super) role: &'static str,
    pub(super) answer: Answer,
}

/// What the values of a label are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// 0 or 1.
    Binary,
    Number,
}

impl Label {
    /// Writes the values of a batch and returns how many are NULL.
    pub(super) fn read<'a>(&self, columns: &[ArrayRef], out: impl Iterator<Item = &'a mut f32>) -> datafusion::common::Result<usize> {
        let column = &columns[self.column];
        match self.answer {
            Answer::Binary => features::labels(column, self.role, &self.name, out),
            Answer::Number => features::outcomes(column, out),
        }
    }
}

impl Training {
    /// Takes in that there are synonyms with these columns.
    pub(super) fn with_synonyms(&mut self, arguments: &Constants, schema: &Schema) -> Result<(), Error> {
        match &mut self.texts {
            Some(texts) => texts.with_synonyms(arguments, schema),
            None => Err(texts::no_synonyms()),
        }
    }

    pub(super) fn new(models: &Models, arguments: &Constants, schema: &Schema, query: &str) -> Result<Self, Error> {
        let name = ModelName::parse(arguments.text("model")?)?;
        let task = arguments.text("task")?;
        if let Some(objective) = language::objective(task) {
            return Self::of_language(models, name, objective, arguments, schema, query);
        }
        if let Some(argument) = language::OWN.iter().find(|argument| !arguments.literal(argument).is_null()) {
            return Err(invalid(argument, "is for language models only", "write task => 'generation' or 'preference' with it"));
        }
        if texts::TASKS.contains(&task) {
            return Self::of_texts(models, name, arguments, schema, query);
        }
        if let Some(argument) = texts::OWN.iter().find(|argument| !arguments.literal(argument).is_null()) {
            return Err(invalid(argument, "is for text models only", format!("write task => '{}' with it", texts::TASKS[0])));
        }
        experiment::check_task(task)?;
        let transform = arguments.optional_text("transform").map(|select| Transform::parse(select, schema)).transpose()?;
        let prepared = transform.as_ref().map(Transform::output);
        let schema = prepared.as_deref().unwrap_or(schema);
        let wishes = arguments.optional_text("features").map(Treatments::parse).transpose()?.unwrap_or_default();
        let mut labels = vec![label(arguments.optional_text("label").ok_or_else(missing_label)?, "label", schema)?];
        let uplift = experiment::plan(arguments, &labels[0].name, &wishes, schema)?;
        if let Some(conversion) = arguments.optional_text("conversion").filter(|_| uplift.is_none()) {
            labels.push(label(conversion, "conversion", schema)?);
        }
        let options = options(arguments, labels.len(), TrainOptions::default())?;
        let uplift = uplift.map(|(plan, others)| {
            labels[0].answer = Answer::Number;
            labels.extend(others);
            plan
        });
        let split = split(arguments, &options, schema)?;
        let base = arguments.optional_text("base").map(|base| models.start(base)).transpose()?;
        let (encoder, columns) = match &base {
            Some((pinned, start)) => {
                let encoder = Encoder::for_model(&pinned.to_string(), start.features(), schema.fields())?;
                (encoder, start.columns())
            }
            None => {
                let mut without: Vec<usize> = labels.iter().map(|label| label.column).collect();
                // What marks the held-out rows is not known of other rows.
                without.extend(split.filter(|_| options.split == Split::Column));
                Encoder::for_training(schema.fields(), &without, &wishes)?
            }
        };
        let mark = split.filter(|_| options.split == Split::Column).map(|split| schema.field(split).name().clone());
        Ok(Self {
            name,
            transform,
            labels,
            uplift,
            texts: None,
            language: None,
            split,
            mark,
            base,
            encoder,
            columns,
            options,
            query: query.to_owned(),
        })
    }

    fn of_texts(models: &Models, name: ModelName, arguments: &Constants, schema: &Schema, query: &str) -> Result<Self, Error> {
        let plan = texts::Plan::new(models, arguments)?;
        let options = options(arguments, 1, plan.usual())?;
        models.check_precision(options.precision)?;
        let split = split(arguments, &options, schema)?;
        let (texts, labels, columns) = plan.columns(models, arguments, schema, split)?;
        let mark = split.filter(|_| options.split == Split::Column).map(|split| schema.field(split).name().clone());
        let encoder = Encoder::default();
        let query = query.to_owned();
        Ok(Self {
            name,
            transform: None,
            labels,
            uplift: None,
            texts: Some(texts),
            language: None,
            split,
            mark,
            base: None,
            encoder,
            columns,
            options,
            query,
        })
    }

    fn of_language(
        models: &Models,
        name: ModelName,
        objective: Objective,
        arguments: &Constants,
        schema: &Schema,
        query: &str,
    ) -> Result<Self, Error> {
        if models.is_language_model(&name)? {
            return Err(Error::InvalidValue {
                object: "argument model of finetune".to_owned(),
                reason: format!("is '{name}', which is a language model of ml.language_models"),
                hint: Some("choose another name for what is made of it".to_owned()),
            });
        }
        let options = options(arguments, 1, LanguageTune::options(objective))?;
        models.check_precision(options.precision)?;
        let split = split(arguments, &options, schema)?;
        let (language, label, columns) = Language::new(models, objective, arguments, schema, split)?;
        let mark = split.filter(|_| options.split == Split::Column).map(|split| schema.field(split).name().clone());
        Ok(Self {
            name,
            transform: None,
            labels: vec![label],
            uplift: None,
            texts: None,
            language: Some(language),
            split,
            mark,
            base: None,
            encoder: Encoder::default(),
            columns,
            options,
            query: query.to_owned(),
        })
    }

    /// Names of the columns that are no features.
    pub(super) fn except(&self) -> Vec<String> {
        let mut except: Vec<String> = self.labels.iter().map(|label| label.name.clone()).collect();
        except.extend(self.mark.clone());
        except
    }

    /// The raw columns of the rows that are trained on.
    pub(super) fn raw(&self) -> Vec<RawColumn> {
        let treatment = self.uplift.as_ref().and_then(|plan| uplift::column(plan, "boolean"));
        self.columns.iter().cloned().chain(treatment).collect()
    }

    /// Rows as they are trained on.
    pub(super) fn block(&self, batch: Batch, labels: Vec<f32>, split: Vec<f64>) -> Block {
        match &self.uplift {
            Some(plan) => uplift::rows(plan, batch, labels, split),
            None => Block { batch, labels, split },
        }
    }

    /// The nets that are trained.
    pub(super) fn nets(&self) -> u32 {
        let Self { uplift, options, .. } = self;
        uplift.as_ref().map_or(options.trials - 1 + options.ensembles, |plan| plan.nets(options))
    }

    /// The name of the label, or of both.
    pub(super) fn label(&self) -> String {
        let labels = self.labels.iter().take(if self.uplift.is_some() { 1 } else { 2 });
        labels.map(|label| label.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// A label of a click model, or an outcome.
fn label(name: &str, argument: &str, schema: &Schema) -> Result<Label, Error> {
    let position = column(name, argument, schema)?;
    let data_type = schema.field(position).data_type();
    if !Type::Label.accepts(data_type) || data_type.is_null() {
        return Err(Error::WrongType {
            object: format!("label column \"{name}\""),
            actual: sql_type(data_type),
            detail: Some("a label is boolean, or a number that is 0 or 1".to_owned()),
            hint: Some(format!("write a condition in the query, such as {name} = 'yes' AS {name}")),
        });
    }
    Ok(Label { column: position, name: name.to_owned(), role: "label", answer: Answer::Binary })
}
