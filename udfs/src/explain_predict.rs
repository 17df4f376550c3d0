//! `ml.explain_predict(model, query)`: which words of a text speak for its class.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::text::Task;

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::encoder;
use crate::error::Error;
use crate::gather::{GatherExec, Gathering, Kernel};
use crate::models::{Error as ModelError, Held, Models};
use crate::named;
use crate::relation::Constants;

mod occlusion;

const MOST_TEXTS: usize = 1000;
const MOST_STEPS: usize = 1000;

/// How a text is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Gradients,
    Attention,
    Occlusion,
}

impl Method {
    const ALL: [(&'static str, Self); 3] =
        [("integrated_gradients", Self::Gradients), ("attention", Self::Attention), ("occlusion", Self::Occlusion)];
}

/// The declaration of `ml.explain_predict`.
pub static DECLARATION: Function = Function {
    name: "ml.explain_predict",
    kind: Kind::Table,
    parameters: &[
        Parameter::model("model", "A text model that gives classes."),
        Parameter::query("query", "The texts, in a column of the name that the model was trained on; at most 1000."),
        Parameter::value("class", Type::Text, "The class to speak for; NULL is the likeliest class of each text.").or("NULL"),
        Parameter::value(
            "method",
            Type::Text,
            "`integrated_gradients` (Sundararajan et al. 2017), also for NULL where the model has an encoder of its own; `attention`, for such a model too; \
             `occlusion` (Zeiler and Fergus 2014), also for NULL where it has none.",
        )
        .or("NULL"),
        Parameter::value("steps", Type::Integer, "For `integrated_gradients`: the gradients that are averaged, from 1 to 1000: more are more exact.").or("32"),
    ],
    returns: Returns::Rows(&[
        Column::new("text", Type::Text, "The text."),
        Column::new("class", Type::Text, "The class that is spoken for."),
        Column::new("probability", Type::Double, "Its probability."),
        Column::new(
            "difference",
            Type::Double,
            "The natural logarithm of this probability, less that of the text with every token masked; of `occlusion` less that of an empty text.",
        ),
        Column::new("position", Type::Integer, "The number of the token or word, from 1."),
        Column::new("token", Type::Text, "What stands there: a word, or a part of one."),
        Column::new("attribution", Type::Double, "Above 0 it speaks for the class, below 0 against it; of `attention` its share."),
    ]),
    summary: "Which words of a text speak for its class, and how much",
    docs: "With integrated gradients the text is compared with one of which every token is masked. The attributions of a text add up to the difference of the \
           two log probabilities, but for the error of the mean over `steps`; the tokens that begin and end a text have none.\n\n\
           `occlusion` works with every model: the attribution of a word is what the logarithm of the probability loses when the word is left out. Words that \
           say the same cover for one another, so these do not add up to anything. Of a text the first 512 words are looked at.\n\n\
           `attention` gives the share of each token in what the vector of the text attends to, through all layers (Abnar and Zuidema 2020). That is what the \
           model reads, and no explanation in the strict sense: a token that is attended to may speak for the class, against it, or not at all.\n\n\
           Texts are given by the order of \
           the query's partitions; NULL and empty texts are passed over. A text costs about as much as `steps` steps of a training with one row.",
    example: "SELECT token, attribution, bar(attribution, -1, 1, 20) FROM ml.explain_predict('intent', query => $$SELECT question FROM questions LIMIT 1$$)\n\
              ORDER BY position",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42809", when: "the model is no text model" },
        Failure { sqlstate: "42703", when: "the query has no column of the texts' name" },
        Failure {
            sqlstate: "22023",
            when: "the model has no such class, or no encoder of its own for the method, the method is another one, `steps` is out of range, or there are too many texts",
        },
    ],
};

/// Plans calls of `ml.explain_predict`.
#[derive(Debug)]
pub(crate) struct ExplainPredict(pub(crate) Arc<Models>);

/// Checked arguments.
#[derive(Debug, Clone)]
struct Options {
    class: Option<String>,
    method: Option<Method>,
    steps: usize,
}

impl Options {
    fn new(arguments: &Constants) -> Result<Self, Error> {
        let method = |name: &str| {
            let found = Method::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, method)| method);
            found.ok_or_else(|| Error::InvalidValue {
                object: format!("argument method of {}", DECLARATION.name),
                reason: format!("is '{name}'"),
                hint: Some(format!("one of: {}, or leave it out", Method::ALL.map(|(name, _)| name).join(", "))),
            })
        };
        let method = arguments.optional_text("method").map(method).transpose()?;
        let steps =
            arguments.count::<usize>("steps")?.ok_or_else(|| Error::value(format!("argument steps of {}", DECLARATION.name), "is NULL"))?;
        let steps = arguments.within("steps", steps, 1..=MOST_STEPS)?;
        Ok(Self { class: arguments.optional_text("class").map(str::to_owned), method, steps })
    }
}

impl Gathering for ExplainPredict {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        Options::new(arguments)?;
        let held = Held::new(&self.0, arguments.text("model")?).map_err(Error::from)?;
        held.intake().check_task(held.pinned(), |task| task == Task::Class)?;
        let column = held.intake().columns().first().copied().unwrap_or_default();
        // The column is named after the version that it is for.
        let text = named::column(&DECLARATION, "query", column, query.schema())?.0.alias(held.pinned().to_string());
        LogicalPlanBuilder::from(query).project([text])?.build()
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = Options::new(arguments)?;
        let held = Arc::new(Held::new(&self.0, input.schema().field(0).name()).map_err(Error::from)?);
        let models = Arc::clone(&self.0);
        let start = move || Texts {
            models: Arc::clone(&models),
            held: Arc::clone(&held),
            options: options.clone(),
            texts: Vec::new(),
            stop: Arc::default(),
        };
        Ok(GatherExec::plan(&DECLARATION, input, start))
    }
}

/// The texts to explain.
struct Texts {
    models: Arc<Models>,
    held: Arc<Held>,
    options: Options,
    texts: Vec<String>,
    stop: Arc<AtomicBool>,
}

impl Texts {
    fn check(&self) -> Result<()> {
        if self.texts.len() <= MOST_TEXTS {
            return Ok(());
        }
        Err(Error::InvalidValue {
            object: format!("argument query of {}", DECLARATION.name),
            reason: format!("has more than {MOST_TEXTS} texts"),
            hint: Some("choose fewer with WHERE or LIMIT".to_owned()),
        }
        .into())
    }
}

impl Kernel for Texts {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let texts = encoder::texts(batch.column(0))?;
        let texts = texts.as_string::<i32>().iter().flatten().filter(|text| !text.trim().is_empty());
        self.texts.extend(texts.map(str::to_owned));
        self.check()
    }

    fn merge(&mut self, other: Self) {
        self.texts.extend(other.texts);
    }

    fn bytes(&self) -> usize {
        self.texts.iter().map(String::capacity).sum()
    }

    fn watch(&mut self, stop: Arc<AtomicBool>) {
        self.stop = stop;
    }

    fn answer(self) -> Result<RecordBatch> {
        self.check()?;
        let model = self.models.text(self.held.pinned()).map_err(Error::from)?;
        let Some(model) = model else { return exec_err!("{} is no text model", self.held.pinned()) };
        let usual = if model.tuned.is_some() { Method::Gradients } else { Method::Occlusion };
        let method = self.options.method.unwrap_or(usual);
        let explainer = match method {
            Method::Occlusion => None,
            Method::Gradients | Method::Attention => Some(self.models.explainer(self.held.pinned()).map_err(Error::from)?),
        };
        let classes = &model.classes;
        let class = self.options.class.as_deref().map(|class| {
            let found = classes.binary_search_by(|known| known.as_str().cmp(class));
            found.map_err(|_| Error::no_such_class(&DECLARATION, class, &self.held.pinned().to_string(), classes))
        });
        let class = class.transpose()?;
        let (mut texts, mut named, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        let (mut positions, mut figures) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        for text in &self.texts {
            let explained = match (&explainer, method) {
                (Some(explainer), Method::Attention) => explainer.attend(text, class, &self.stop),
                (Some(explainer), _) => explainer.explain(text, class, self.options.steps, &self.stop),
                (None, _) => occlusion::explain(&self.models, &self.held, text, class, &self.stop),
            };
            let explained = explained.map_err(|error: ModelError| Error::from(error))?;
            for (position, (token, value)) in (1..).zip(explained.tokens) {
                texts.push(text.as_str());
                named.push(classes[explained.class].as_str());
                positions.push(position);
                tokens.push(token);
                figures
                    .iter_mut()
                    .zip([explained.probability, explained.difference, value])
                    .for_each(|(column, figure)| column.push(figure));
            }
        }
        let [probability, difference, attribution] = figures.map(|figures| Arc::new(Float64Array::from(figures)) as ArrayRef);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(texts)),
            Arc::new(StringArray::from(named)),
            probability,
            difference,
            Arc::new(Int32Array::from(positions)),
            Arc::new(StringArray::from(tokens)),
            attribution,
        ];
        Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
    }
}
