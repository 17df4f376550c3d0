//! `ai.classify(text, labels)`: the label that fits a text best, without training or by a trained text model.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::model::Model;
use stratagem_models::text::{Shares, Task, grams, numbers};

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::embed::model;
use crate::encoder;
use crate::error::Error;
use crate::intake::Intake;
use crate::models::{Held, Models};
use crate::stop::StopOnDrop;
use crate::usage::Meter;

pub mod estimate;
mod labels;
pub mod probability;
pub mod tagging;

/// The declaration of `ai.classify`.
pub static DECLARATION: Function = Function {
    name: "ai.classify",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("text", Type::Text, "The text."),
        Parameter::value("labels", Type::Texts, "The labels to choose from; NULL are the classes of a trained `model`.").or("NULL"),
        Parameter::value(
            "model",
            Type::Text,
            "With labels a text encoder, one of `ml.encoders`; NULL is the installed one, `'minilm'`. Without labels a text model that `finetune` has \
             trained: `'intent'` (its default version), `'intent@3'` (a version) or `'intent@champion'` (an alias).",
        )
        .or("NULL"),
        Parameter::value(
            "examples",
            Type::Texts,
            "With labels: a text of each label, in the same order. A label that comes more than once has several examples.",
        )
        .or("NULL"),
    ],
    returns: Returns::Value(Type::Text),
    summary: "The label of a text: the one whose meaning is nearest, without any training, or the class that a trained text model gives",
    docs: "Without `labels` the likeliest class by a model that `finetune(..., task => 'text_classification')` has trained; a reference without a \
           version is settled once per statement. Of a model that was trained on lists of labels it is a list (`text[]`): the labels with a probability of \
           one half or more, which may be none.\n\n\
           With `labels` the label whose vector by `ai.embed` is the most like that of the text. So the wording of the labels matters. With `examples` \
           it is the mean of the vectors of the label and of its examples (Snell et al. 2017). NULL for NULL, or where there is no label.\n\n\
           Measured with the installed encoder on English texts: of the questions of a shop's customers 73 % got the right one of 27 intents by \
           the names of the intents alone, 82 % with an example of each and 88 % with four; of those of a bank's customers 61 %, 70 % and 75 % the \
           right one of 77. Of reviews 79 % were told apart with `'a good review'` and `'a bad review'`, and 63 % with `'good'` and `'bad'`.",
    example: "SELECT ai.classify('my parcel never arrived', ARRAY['delivery', 'payment', 'returns'])",
    errors: &[
        Failure { sqlstate: "42704", when: "the encoder or the model does not exist" },
        Failure { sqlstate: "42809", when: "the model is no text model, or one that gives no classes" },
        Failure {
            sqlstate: "22023",
            when: "there are neither labels nor a model, the model is not a constant, or there are not as many examples as labels",
        },
        Failure { sqlstate: "42804", when: "`labels` or `examples` is no list of texts" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Classify::new(models, &DECLARATION, What::Class)))
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The likeliest class, or all labels that are likely.
    Class,
    /// The probability of a class.
    Probability,
    Number,
    /// The spans of a text.
    Entities,
    /// The tags of words.
    Tags,
}

impl What {
    /// Whether a model with this task gives it.
    fn fits(self, task: Task) -> bool {
        match self {
            Self::Class | Self::Probability => matches!(task, Task::Class | Task::Labels),
            Self::Number => matches!(task, Task::Number { .. }),
            Self::Entities | Self::Tags => task == Task::Tags,
        }
    }
}

/// `ai.classify`, and the other functions that ask a trained text model.
#[derive(Debug, Clone)]
pub(crate) struct Classify {
    declaration: &'static Function,
    what: What,
    models: Arc<Models>,
    signature: Signature,
    /// The version of the text model, once that is settled for the statement.
    held: Option<Arc<Held>>,
}

impl Classify {
    fn new(models: &Arc<Models>, declaration: &'static Function, what: What) -> Self {
        let signature = declaration.engine_signature(Volatility::Volatile);
        Self { declaration, what, models: Arc::clone(models), signature, held: None }
    }

    /// The text model among the arguments of a call, if it is to be one; the constants are given by their position.
    pub(crate) fn reference(&self, value: impl Fn(usize) -> Option<ScalarValue>) -> Result<Option<String>> {
        let Some(labels) = self.declaration.position("labels") else {
            let missing = || Error::value(format!("argument model of {}", self.declaration.name), "is NULL");
            return Ok(Some(model(self.declaration, &value)?.ok_or_else(missing)?));
        };
        let Some(labels) = value(labels).filter(ScalarValue::is_null) else { return Ok(None) };
        let name = model(&DECLARATION, &value)?;
        // A list that is NULL has been given.
        if name.is_none() && labels == ScalarValue::Null {
            return Err(Error::InvalidValue {
                object: format!("argument labels of {}", DECLARATION.name),
                reason: "is NULL".to_owned(),
                hint: Some("give labels to choose from, ARRAY['delivery', 'payment'], or a text model: model => ...".to_owned()),
            }
            .into());
        }
        Ok(name)
    }

    /// The function for calls with this version.
    pub(crate) fn with(&self, held: Arc<Held>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { held: Some(held), ..self.clone() }))
    }

    /// The version that is settled, or else the one that the name means now.
    fn held(&self, name: &str) -> Result<Arc<Held>> {
        let held = match &self.held {
            Some(held) => Arc::clone(held),
            None => Arc::new(Held::new(&self.models, name).map_err(Error::from)?),
        };
        held.intake().check_task(held.pinned(), |task| self.what.fits(task))?;
        Ok(held)
    }

    /// The model of a version, in memory.
    async fn model(held: &Arc<Held>) -> Result<Arc<Model>> {
        let loading = Arc::clone(held);
        let model = SpawnedTask::spawn_blocking(move || loading.model()).join_unwind().await;
        Ok(model.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?)
    }

    /// A trained model, and the probabilities of its classes, or its number, for each text (`Utf8`) that is not NULL.
    async fn shares(&self, held: &Arc<Held>, texts: &ArrayRef, meter: &Meter) -> Result<(Arc<Model>, Vec<f32>)> {
        let model = Self::model(held).await?;
        let Model::Text(text) = &*model else { return exec_err!("{} is no text model", held.pinned()) };
        let rows: &StringArray = texts.as_string();
        let shares = match (&text.text().tuned, &text.text().encoder) {
            (Some(tuned), _) => {
                let read = read(Arc::clone(&model), rows.iter().flatten().map(str::to_owned).collect()).await?;
                meter.read(read.tokens, read.truncated, tuned.max_tokens());
                read.values
            }
            (None, None) => text.shares(&grams(rows.iter().flatten()).0).map_err(Error::from)?,
            (None, Some(encoder)) => {
                let vectors = encoder::embed(&self.models, Some(encoder), Arc::clone(texts), meter).await?;
                text.shares(&numbers(vectors.iter().flatten().map(|vector| &**vector))).map_err(Error::from)?
            }
        };
        Ok((model, shares))
    }

    /// The likely labels, or the likeliest classes, of texts (`Utf8`) by a trained model.
    async fn trained(&self, held: &Arc<Held>, texts: &ArrayRef, meter: &Meter) -> Result<ArrayRef> {
        let (model, shares) = self.shares(held, texts, meter).await?;
        let Model::Text(text) = &*model else { return exec_err!("{} is no text model", held.pinned()) };
        let (rows, classes): (&StringArray, _) = (texts.as_string(), &text.text().classes);
        if text.text().task == Task::Labels {
            let mut lists = ListBuilder::new(StringBuilder::new());
            let mut shares = shares.chunks_exact(classes.len());
            for row in 0..rows.len() {
                let own = if rows.is_valid(row) { shares.next() } else { None };
                own.into_iter()
                    .flatten()
                    .zip(classes)
                    .filter(|(share, _)| **share >= 0.5)
                    .for_each(|(_, label)| lists.values().append_value(label));
                lists.append(own.is_some());
            }
            return Ok(Arc::new(lists.finish()));
        }
        let mut likeliest = shares.chunks_exact(classes.len()).map(|shares| {
            let best = shares.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
            best.map(|(class, _)| classes[class].as_str())
        });
        let of = |row: usize| if rows.is_valid(row) { likeliest.next().flatten() } else { None };
        Ok(Arc::new((0..rows.len()).map(of).collect::<StringArray>()))
    }
}

/// The classes of texts by a model with an encoder of its own. They are computed on other threads, which stop when nobody waits any more.
async fn read(model: Arc<Model>, texts: Vec<String>) -> Result<Shares> {
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(Arc::clone(&stop));
    let work = move || {
        let Model::Text(text) = &*model else { return exec_err!("the model is no text model") };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        text.read(&texts, &stop).map_err(|error| Error::Model(error).into())
    };
    // The end of this future must not wait for the work: the flag ends it.
    match tokio::task::spawn_blocking(work).await {
        Ok(shares) => shares,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => exec_err!("the server ends"),
    }
}

impl PartialEq for Classify {
    fn eq(&self, other: &Self) -> bool {
        let version = |classify: &Self| classify.held.as_ref().map(|held| held.pinned().clone());
        Arc::ptr_eq(&self.models, &other.models) && self.declaration.name == other.declaration.name && version(self) == version(other)
    }
}

impl Eq for Classify {}

impl Hash for Classify {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.declaration.name.hash(state);
    }
}

impl ScalarUDFImpl for Classify {
    fn name(&self) -> &str {
        self.declaration.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.what {
            What::Class => DataType::Utf8,
            What::Probability | What::Number => DataType::Float64,
            What::Entities => tagging::entities_type(),
            What::Tags => Type::Texts.arrow(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.declaration.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        if let Some(name) = self.reference(|position| args.scalar_arguments.get(position).copied().flatten().cloned())? {
            let held = self.held(&name)?;
            if let (What::Class, Intake::Text(texts)) = (self.what, held.intake())
                && texts.task == Task::Labels
            {
                return Ok(Arc::new(Field::new(self.declaration.name, Type::Texts.arrow(), true)));
            }
        }
        Ok(Arc::new(Field::new(self.declaration.name, self.return_type(&[])?, true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} is planned as a step", self.declaration.name)
    }
}

#[async_trait]
impl Work for Classify {
    fn rows(&self) -> Option<usize> {
        Some(1024)
    }

    fn calls(&self) -> usize {
        2
    }

    fn parallel(&self) -> bool {
        false
    }

    fn tells(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, meter: &Arc<Meter>) -> Result<ArrayRef> {
        let rows = arguments.number_rows;
        let constant = |position: usize| match arguments.args.get(position) {
            Some(ColumnarValue::Scalar(value)) => Some(value.clone()),
            _ => None,
        };
        let Some(texts) = arguments.args.first() else { return exec_err!("{} has no text", self.declaration.name) };
        let texts = texts.to_array(rows)?;
        let texts = if self.what == What::Tags { texts } else { encoder::texts(&texts)? };
        let Some(name) = self.reference(constant)? else { return labels::nearest(&self.models, &texts, &arguments, meter).await };
        let held = self.held(&name)?;
        match self.what {
            What::Class => self.trained(&held, &texts, meter).await,
            What::Probability => probability::of(self, &held, &texts, &arguments, meter).await,
            What::Number => estimate::of(self, &held, &texts, meter).await,
            What::Entities => tagging::entities(&held, &texts, meter).await,
            What::Tags => tagging::tags(&held, &texts, meter).await,
        }
    }
}
