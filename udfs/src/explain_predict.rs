//! `ml.explain_predict(model, query)`: which words of a text speak for its class.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::encoder;
use crate::error::Error;
use crate::gather::{GatherExec, Gathering, Kernel};
use crate::models::{Error as ModelError, Held, Models};
use crate::named;
use crate::relation::Constants;

const MOST_TEXTS: usize = 1000;
const MOST_STEPS: usize = 1000;
const METHOD: &str = "integrated_gradients";

/// The declaration of `ml.explain_predict`.
pub static DECLARATION: Function = Function {
    name: "ml.explain_predict",
    kind: Kind::Table,
    parameters: &[
        Parameter::model("model", "A text model that was trained with `method => 'full'` or `'lora'`."),
        Parameter::query("query", "The texts, in a column of the name that the model was trained on; at most 1000."),
        Parameter::value("class", Type::Text, "The class to speak for; NULL is the likeliest class of each text.").or("NULL"),
        Parameter::value("method", Type::Text, "`integrated_gradients` (Sundararajan et al. 2017).").or("'integrated_gradients'"),
        Parameter::value("steps", Type::Integer, "The gradients that are averaged, from 1 to 1000: more are more exact.").or("32"),
    ],
    returns: Returns::Rows(&[
        Column::new("text", Type::Text, "The text."),
        Column::new("class", Type::Text, "The class that is spoken for."),
        Column::new("probability", Type::Double, "Its probability."),
        Column::new(
            "difference",
            Type::Double,
            "The natural logarithm of this probability, less that of the text with every token masked.",
        ),
        Column::new("position", Type::Integer, "The number of the token, from 1."),
        Column::new("token", Type::Text, "What stands there: a word, or a part of one."),
        Column::new("attribution", Type::Double, "Its part of the difference: above 0 it speaks for the class, below 0 against it."),
    ]),
    summary: "Which words of a text speak for its class, and how much",
    docs: "The text is compared with one of which every token is masked. The attributions of a text add up to the difference of the two log \
           probabilities, but for the error of the mean over `steps`; the tokens that begin and end a text have none. Texts are given by the order of \
           the query's partitions; NULL and empty texts are passed over. A text costs about as much as `steps` steps of a training with one row.",
    example: "SELECT token, attribution, bar(attribution, -1, 1, 20) FROM ml.explain_predict('intent', query => $$SELECT question FROM questions LIMIT 1$$)\n\
              ORDER BY position",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42809", when: "the model is no text model" },
        Failure { sqlstate: "42703", when: "the query has no column of the texts' name" },
        Failure {
            sqlstate: "22023",
            when: "the model has no encoder of its own or no such class, the method is another one, `steps` is out of range, or there are too many texts",
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
    steps: usize,
}

impl Options {
    fn new(arguments: &Constants) -> Result<Self, Error> {
        let method = arguments.text("method")?;
        if method != METHOD {
            return Err(Error::InvalidValue {
                object: format!("argument method of {}", DECLARATION.name),
                reason: format!("is '{method}'"),
                hint: Some(format!("write '{METHOD}', or leave it out")),
            });
        }
        let steps =
            arguments.count::<usize>("steps")?.ok_or_else(|| Error::value(format!("argument steps of {}", DECLARATION.name), "is NULL"))?;
        let steps = arguments.within("steps", steps, 1..=MOST_STEPS)?;
        Ok(Self { class: arguments.optional_text("class").map(str::to_owned), steps })
    }
}

impl Gathering for ExplainPredict {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        Options::new(arguments)?;
        let held = Held::new(&self.0, arguments.text("model")?).map_err(Error::from)?;
        held.intake().check_text(held.pinned())?;
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
        let explainer = self.models.explainer(self.held.pinned()).map_err(Error::from)?;
        let classes = &explainer.text().classes;
        let class = self.options.class.as_deref().map(|class| {
            let found = classes.binary_search_by(|known| known.as_str().cmp(class));
            found.map_err(|_| Error::no_such_class(&DECLARATION, class, &self.held.pinned().to_string(), classes))
        });
        let class = class.transpose()?;
        let (mut texts, mut named, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        let (mut positions, mut figures) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        for text in &self.texts {
            let explained = explainer.explain(text, class, self.options.steps, &self.stop);
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
