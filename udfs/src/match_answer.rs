//! `ai.match_answer(question, query)`: the answer to a question from a table of questions and answers.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, execute_stream};
use futures::TryStreamExt;
use stratagem_models::bm25::Bm25;
use stratagem_models::encoder::cosine;

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type, sql_type};
use crate::encoder;
use crate::error::Error;
use crate::models::Models;
use crate::notice::{self, Severity};
use crate::prepare::tokens::tokens;
use crate::relation::{Constants, Relation};
use crate::spelling;
use crate::usage::{Meter, Progress};

/// What the likeness of meaning counts; the rest is for the words in common.
const MEANING: f64 = 0.7;

/// Sentences that answer nothing. How near an encoder puts them to a question is where its likeness begins: about 0 for some, 0.76 for others.
const ELSEWHERE: [&str; 16] = [
    "The sky is clear tonight and the stars are bright.",
    "He plays the piano every morning before work.",
    "Mountains are covered with snow in winter.",
    "The committee published its annual report.",
    "Add two eggs and stir the batter slowly.",
    "The train to the coast leaves at noon.",
    "Photosynthesis turns light into chemical energy.",
    "My grandmother was born in a small village.",
    "The team won the match in the last minute.",
    "A triangle has three sides.",
    "Birds migrate south when it gets cold.",
    "The museum opens at ten on Sundays.",
    "She painted the fence green.",
    "The river flows into the sea.",
    "They discovered an ancient temple in the desert.",
    "Water boils at a hundred degrees.",
];

/// More rows than these are not searched anew for one question.
const MOST: usize = 1 << 20;

/// The declaration of `ai.match_answer`.
pub static DECLARATION: Function = Function {
    name: "ai.match_answer",
    kind: Kind::Table,
    parameters: &[
        Parameter::value("question", Type::Text, "What is asked."),
        Parameter::query("query", "The known questions with their answers, a row each."),
        Parameter::value("question_col", Type::Text, "The column of the known questions; NULL compares with the answers themselves.")
            .or("'question'"),
        Parameter::value("answer_col", Type::Text, "The column of the answers.").or("'answer'"),
        Parameter::value("top_k", Type::Integer, "The most answers, from 1 to 1000.").or("1"),
        Parameter::value("min_score", Type::Double, "Answers with a lower score are not good ones, and left out.").or("0.42"),
        Parameter::value("model", Type::Text, "The text encoder, one of `ml.encoders`; NULL is the installed one, `'minilm'`.").or("NULL"),
    ],
    returns: Returns::Rows(&[
        Column::new("rank", Type::Integer, "1 for the best answer."),
        Column::new("question", Type::Text, "The known question."),
        Column::new("answer", Type::Text, "Its answer."),
        Column::new("score", Type::Double, "0.7 `meaning` + 0.3 `words`."),
        Column::new(
            "meaning",
            Type::Double,
            "How near the two questions are: 1 for the same, and 0 for what is no nearer than sentences on anything else, whatever the encoder's cosines.",
        ),
        Column::new(
            "words",
            Type::Double,
            "What the known question has of the words that were asked for: its score by BM25 (Robertson and Zaragoza 2009) over the bound \
             that no text can reach.",
        ),
    ]),
    summary: "The answer to a question, found by words and by meaning among known ones",
    docs: "Words find names and numbers, meaning finds what is asked in other words. Where no known question is near enough there is no row, and \
           a notice says what the best score was: no answer is better than a wrong one. Rows without a question or an answer are passed over.\n\n\
           Measured with the installed encoder and four known questions for each intent: of a shop's customers (27 intents) 83 % got an answer to \
           their intent first, of a bank's (77 intents) 77 %. Of questions that belong to the other business, the default `min_score` turned away \
           nine and eight of ten, and it kept nine of ten of those that can be answered.",
    example: "SELECT answer, score FROM ai.match_answer('how can I return my order?', query => $$\n\
              VALUES ('When does my delivery come?', 'Within two days.'), ('How do I return an order?', 'With the label in the box.')$$,\n\
              question_col => 'column1', answer_col => 'column2')",
    errors: &[
        Failure { sqlstate: "42704", when: "the encoder does not exist" },
        Failure { sqlstate: "42703", when: "the query has no such column" },
        Failure { sqlstate: "42804", when: "a column is not text" },
        Failure { sqlstate: "22023", when: "`top_k` is out of range, or there are more than 1048576 rows" },
    ],
};

/// Plans calls of `ai.match_answer`.
#[derive(Debug)]
pub(crate) struct MatchAnswer(pub(crate) Arc<Models>);

/// What is asked for.
#[derive(Debug, Clone)]
struct Wanted {
    question: String,
    /// The columns of questions and answers.
    columns: [usize; 2],
    top_k: usize,
    min_score: f64,
    model: Option<String>,
}

impl Wanted {
    fn new<'a>(
        arguments: &Constants,
        fields: impl Iterator<Item = (&'a str, &'a datafusion::arrow::datatypes::DataType)>,
    ) -> Result<Self, Error> {
        let fields: Vec<_> = fields.collect();
        let column = |argument: &str, name: &str| {
            let found = fields.iter().position(|(field, _)| *field == name);
            let Some(found) = found else {
                let known = fields.iter().map(|(field, _)| *field);
                return Err(Error::NoSuchColumn {
                    what: format!("argument {argument} of {}", DECLARATION.name),
                    column: name.to_owned(),
                    detail: format!("the query has {}", known.clone().collect::<Vec<_>>().join(", ")),
                    hint: spelling::closest(known, name).map(|close| format!("did you mean \"{close}\"?")),
                });
            };
            if !Type::Text.accepts(fields[found].1) {
                return Err(Error::WrongType {
                    object: format!("column \"{name}\" of {}", DECLARATION.name),
                    actual: sql_type(fields[found].1),
                    detail: None,
                    hint: Some(format!("it takes text: {name}::text")),
                });
            }
            Ok(found)
        };
        let answers = column("answer_col", arguments.text("answer_col")?)?;
        let questions = arguments.optional_text("question_col").map_or(Ok(answers), |name| column("question_col", name))?;
        let top_k = arguments.count("top_k")?.unwrap_or(1);
        if !(1..=1000).contains(&top_k) {
            return Err(Error::InvalidValue {
                object: format!("argument top_k of {}", DECLARATION.name),
                reason: format!("is {top_k}"),
                hint: Some("it is from 1 to 1000".to_owned()),
            });
        }
        Ok(Self {
            question: arguments.text("question")?.to_owned(),
            columns: [questions, answers],
            top_k,
            min_score: arguments.double("min_score")?,
            model: arguments.optional_text("model").map(str::to_owned),
        })
    }
}

impl Relation for MatchAnswer {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn reads_only(&self) -> bool {
        true
    }

    fn check(&self, arguments: &Constants, input: &DFSchema) -> Result<(), Error> {
        let wanted = Wanted::new(arguments, input.fields().iter().map(|field| (field.name().as_str(), field.data_type())))?;
        self.0.encoder_facts(wanted.model.as_deref())?;
        Ok(())
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = input.schema();
        let wanted = Wanted::new(arguments, schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())))?;
        Ok(Arc::new(MatchExec::new(Arc::clone(&self.0), Arc::new(wanted), input)))
    }
}

/// Reads the rows of its input and yields the best answers.
#[derive(Debug)]
struct MatchExec {
    models: Arc<Models>,
    wanted: Arc<Wanted>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MatchExec {
    fn new(models: Arc<Models>, wanted: Arc<Wanted>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(DECLARATION.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { models, wanted, input, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for MatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { question, top_k, min_score, .. } = &*self.wanted;
        write!(f, "MatchExec: question={question}, top_k={top_k}, min_score={min_score}")
    }
}

impl ExecutionPlan for MatchExec {
    fn name(&self) -> &str {
        "MatchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(Arc::clone(&self.models), Arc::clone(&self.wanted), input)))
    }

    #[allow(deprecated, reason = "required by the trait until it is removed")]
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (models, wanted, input) = (Arc::clone(&self.models), Arc::clone(&self.wanted), Arc::clone(&self.input));
        let progress = Arc::new(Progress::new(DECLARATION.name.to_owned(), None, 1));
        let meter = Meter::new(&progress, &context, &self.metrics, 0);
        let answers = async move {
            let known = Known::read(&wanted, input, &context).await?;
            let found = known.search(&models, &wanted, &meter).await?;
            meter.report();
            let good = found.iter().take(wanted.top_k).take_while(|found| found.score >= wanted.min_score).count();
            if let (0, Some(best)) = (good, found.first()) {
                let message = format!("{}: no good answer, the best score is {:.3}", DECLARATION.name, best.score);
                notice::send(context.session_config(), Severity::Notice, format!("{message} and min_score {}", wanted.min_score));
            }
            known.rows(&found[..good])
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(answers))))
    }
}

/// The known questions and their answers.
#[derive(Default)]
struct Known {
    questions: Vec<Option<String>>,
    answers: Vec<String>,
}

/// A known question as an answer to what is asked.
struct Found {
    row: usize,
    score: f64,
    meaning: f64,
    words: f64,
}

impl Known {
    async fn read(wanted: &Wanted, input: Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<Self> {
        let mut known = Self::default();
        let mut batches = execute_stream(input, Arc::clone(context))?;
        while let Some(batch) = batches.try_next().await? {
            let [questions, answers] = wanted.columns.map(|column| encoder::texts(batch.column(column)));
            let (questions, answers) = (questions?, answers?);
            for (question, answer) in questions.as_string::<i32>().iter().zip(answers.as_string::<i32>()) {
                let (Some(question), Some(answer)) = (question, answer) else { continue };
                // Words alone make a question: one of spaces is near to everything.
                known.questions.push(Some(question.to_owned()).filter(|question| !question.trim().is_empty()));
                known.answers.push(answer.to_owned());
            }
            if known.answers.len() > MOST {
                return Err(Error::InvalidValue {
                    object: format!("argument query of {}", DECLARATION.name),
                    reason: format!("has more than {MOST} rows"),
                    hint: Some("choose fewer with WHERE, or keep vectors by ai.embed in a table and compare these".to_owned()),
                }
                .into());
            }
        }
        Ok(known)
    }

    /// All known questions, the best first.
    async fn search(&self, models: &Arc<Models>, wanted: &Wanted, meter: &Meter) -> Result<Vec<Found>> {
        let words = |text: &str| {
            let mut words = Vec::new();
            tokens(text, |word| words.push(word.to_owned()));
            words
        };
        let mut index = Bm25::default();
        self.questions.iter().for_each(|question| index.add(words(question.as_deref().unwrap_or_default())));
        let shares = index.shares(words(&wanted.question));
        let texts = std::iter::once(Some(wanted.question.as_str())).chain(self.questions.iter().map(Option::as_deref));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let vectors = encoder::embed(models, wanted.model.as_deref(), texts, meter).await?;
        let Some((Some(asked), known)) = vectors.split_first() else { return exec_err!("{} has no question", DECLARATION.name) };
        let elsewhere = ELSEWHERE.iter().map(|sentence| (*sentence).to_owned()).collect();
        let elsewhere = encoder::vectors(models, wanted.model.as_deref(), elsewhere).await?.vectors;
        let floor = elsewhere.iter().filter_map(|vector| cosine(asked, vector)).sum::<f64>() / ELSEWHERE.len() as f64;
        let found = known.iter().zip(shares).enumerate().filter_map(|(row, (vector, words))| {
            let meaning = ((cosine(asked, vector.as_ref()?)? - floor) / (1.0 - floor).max(f64::MIN_POSITIVE)).max(0.0);
            Some(Found { row, score: MEANING * meaning + (1.0 - MEANING) * words, meaning, words })
        });
        let mut found: Vec<Found> = found.collect();
        // The first of equals stays first.
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(found)
    }

    fn rows(&self, found: &[Found]) -> Result<RecordBatch> {
        let doubles =
            |value: fn(&Found) -> f64| -> ArrayRef { Arc::new(found.iter().map(|found| Some(value(found))).collect::<Float64Array>()) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new((1..).take(found.len()).map(Some).collect::<Int32Array>()),
            Arc::new(found.iter().map(|found| self.questions[found.row].as_deref()).collect::<StringArray>()),
            Arc::new(found.iter().map(|found| Some(self.answers[found.row].as_str())).collect::<StringArray>()),
            doubles(|found| found.score),
            doubles(|found| found.meaning),
            doubles(|found| found.words),
        ];
        Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
    }
}
