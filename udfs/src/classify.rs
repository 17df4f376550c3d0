//! `ai.classify(text, labels)`: the label that fits a text best, without training or by a trained text model.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::encoder::cosine;
use stratagem_models::model::Model;
use stratagem_models::text::{Shares, grams, numbers};

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::embed::{model, model_of};
use crate::encoder;
use crate::error::Error;
use crate::models::{Held, Models};
use crate::stop::StopOnDrop;
use crate::usage::Meter;

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
    ],
    returns: Returns::Value(Type::Text),
    summary: "The label of a text: the one whose meaning is nearest, without any training, or the class that a trained text model gives",
    docs: "Without `labels` the likeliest class by a model that `finetune(..., task => 'text_classification')` has trained; a reference without a \
           version is settled once per statement.\n\n\
           With `labels` the label whose vector by `ai.embed` is the most like that of the text. So the wording of the labels matters. NULL for \
           NULL, or where there is no label.\n\n\
           Measured with the installed encoder on English texts: of the questions of a shop's customers 72 % got the right one of 27 intents by \
           the names of the intents alone, of those of a bank's customers 63 % the right one of 77; of reviews 79 % were told apart with \
           `'a good review'` and `'a bad review'`, and 63 % with `'good'` and `'bad'`.",
    example: "SELECT ai.classify('my parcel never arrived', ARRAY['delivery', 'payment', 'returns'])",
    errors: &[
        Failure { sqlstate: "42704", when: "the encoder or the model does not exist" },
        Failure { sqlstate: "42809", when: "the model is no text model" },
        Failure { sqlstate: "22023", when: "there are neither labels nor a model, or the model is not a constant" },
        Failure { sqlstate: "42804", when: "`labels` is no list of texts" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    let signature = DECLARATION.engine_signature(Volatility::Volatile);
    Arc::new(ScalarUDF::from(Classify { models: Arc::clone(models), signature, held: None }))
}

/// `ai.classify`.
#[derive(Debug, Clone)]
pub(crate) struct Classify {
    models: Arc<Models>,
    signature: Signature,
    /// The version of the text model, once that is settled for the statement.
    held: Option<Arc<Held>>,
}

impl Classify {
    /// The text model among the arguments of a call, if it is to be one; the constants are given by their position.
    pub(crate) fn reference(&self, value: impl Fn(usize) -> Option<ScalarValue>) -> Result<Option<String>> {
        let Some(labels) = DECLARATION.position("labels").and_then(&value).filter(ScalarValue::is_null) else { return Ok(None) };
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
        held.intake().check_text(held.pinned())?;
        Ok(held)
    }

    /// The likeliest classes of texts (`Utf8`) by a trained model.
    async fn trained(&self, held: Arc<Held>, texts: ArrayRef, meter: &Meter) -> Result<ArrayRef> {
        let loading = Arc::clone(&held);
        let model = SpawnedTask::spawn_blocking(move || loading.model()).join_unwind().await;
        let model = model.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
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
                let vectors = encoder::embed(&self.models, Some(encoder), Arc::clone(&texts), meter).await?;
                text.shares(&numbers(vectors.iter().flatten().map(|vector| &**vector))).map_err(Error::from)?
            }
        };
        let classes = &text.text().classes;
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
        Arc::ptr_eq(&self.models, &other.models) && version(self) == version(other)
    }
}

impl Eq for Classify {}

impl Hash for Classify {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for Classify {
    fn name(&self) -> &str {
        DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        if let Some(name) = self.reference(|position| args.scalar_arguments.get(position).copied().flatten().cloned())? {
            self.held(&name)?;
        }
        Ok(Arc::new(Field::new(DECLARATION.name, DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} is planned as a step", DECLARATION.name)
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
        if let (Some(name), Some(texts)) = (self.reference(constant)?, arguments.args.first()) {
            return self.trained(self.held(&name)?, encoder::texts(&texts.to_array(rows)?)?, meter).await;
        }
        let model = model_of(&DECLARATION, &arguments)?;
        let [texts, labels, ..] = arguments.args.as_slice() else { return exec_err!("{} has two arguments", DECLARATION.name) };
        let texts = encoder::texts(&texts.to_array(rows)?)?;
        let lists = cast(&labels.to_array(rows)?, &DataType::new_list(DataType::Utf8, true))?;
        let lists = lists.as_list::<i32>();
        let [first, .., last] = lists.value_offsets() else { return Ok(new_null_array(&DataType::Utf8, rows)) };
        let words = lists.values().slice(*first as usize, (last - first) as usize);
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut distinct: Vec<&str> = Vec::new();
        for word in words.as_string::<i32>().iter().flatten() {
            places.entry(word).or_insert_with(|| {
                distinct.push(word);
                distinct.len() - 1
            });
        }
        let named: ArrayRef = Arc::new(StringArray::from(distinct.clone()));
        let named = encoder::embed(&self.models, model.as_deref(), named, meter).await?;
        let vectors = encoder::embed(&self.models, model.as_deref(), texts, meter).await?;
        let best = |row: usize| -> Option<&str> {
            let (text, list) = (vectors[row].as_ref()?, lists.is_valid(row).then(|| lists.value(row))?);
            let likeness = list.as_string::<i32>().iter().flatten().filter_map(|label| {
                let place = *places.get(label)?;
                Some((place, cosine(text, named[place].as_ref()?)?))
            });
            // Of equals the first.
            let best = likeness.reduce(|best, next| if next.1 > best.1 { next } else { best });
            best.map(|(place, _)| distinct[place])
        };
        Ok(Arc::new((0..rows).map(best).collect::<StringArray>()))
    }
}
