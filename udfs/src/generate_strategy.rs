//! `generate_strategy(row)`: what to say to a customer, by a language model that words what the data has decided.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, StringArray, StructArray, UInt32Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use futures::future::try_join_all;
use stratagem_models::language::{Completion, Engine, Finish, Sampling};

use crate::ask::{Answering, Asked, Literals, Manner, Memory, Question};
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::error::Error;
use crate::models::{Held, Models};
use crate::usage::{Meter, OnError};

mod brief;
pub mod candidates;
mod check;
mod copy;
mod template;

use brief::{Brief, Given, promoting};
use check::Checker;
use copy::Copy;

/// The declaration of `generate_strategy`.
pub static DECLARATION: Function = Function {
    name: "generate_strategy",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::row(
            "customer",
            "The row to write for: a table alias (`c` or `c.*`), `name => value` for each column, or both. Its first column of the names \
             `product`, `product_title`, `product_name`, `title`, `item`, `item_title`, `item_name`, `product_category`, `category`, \
             `favourite_category`, `favorite_category`, `preferred_category`, `top_category`, `last_category` that is not NULL is what is promoted.",
        ),
        Parameter::value(
            "goal",
            Type::Text,
            "What the strategy is for. `'purchase'`, `'repurchase'`, `'winback'`, `'welcome'` and `'cart'` have examples of their own.",
        )
        .or("'purchase'"),
        Parameter::value("channel", Type::Text, "`'email'`, `'sms'`, `'push'`, `'social'` or `'banner'`: how long the texts may be.")
            .or("'email'"),
        Parameter::value("tone", Type::Text, "The tone, such as `'friendly'`, `'plain'` or `'playful'`.").or("'friendly'"),
        Parameter::value("offer", Type::Text, "The offer, word for word; NULL or `'none'` is no offer.").or("NULL"),
        Parameter::value("language", Type::Text, "`'en'`, `'de'`, `'fr'`, `'es'`, `'it'`, `'pt'`, `'nl'`, `'zh'` or `'ja'`.").or("'en'"),
        Parameter::value("n", Type::Integer, "How many drafts that hold are compared, from 1 to 16.").or("4"),
        Parameter::value("model", Type::Text, "The language model; NULL is the installed one, `'smollm2'`.").or("NULL"),
        Parameter::value("seed", Type::BigInt, "Start of the random numbers, for each row.").or("0"),
        Parameter::value("max_tokens", Type::Integer, "The most tokens of a draft.").or("64"),
        Parameter::value("banned", Type::Text, "Words and phrases, with commas between them, that no text may have.").or("NULL"),
        Parameter::value(
            "rank_by",
            Type::Text,
            "What makes a draft the best: `'likelihood'`, or a click model (`'ctr'`, `'ctr@3'`), which is given the columns of the row with \
             `headline` and `body` of the draft, and `product`, `offer`, `channel`, `goal`, `tone` and `language` where the row has none.",
        )
        .or("'likelihood'"),
        Parameter::value(
            "on_error",
            Type::Text,
            "`'fail'` ends the statement when a row cannot be answered, `'null'` makes that row NULL, `'report'` does so with a warning; NULL is \
             the setting `ml.on_error`.",
        )
        .or("NULL"),
    ],
    returns: Returns::Struct(&[
        Column::new("product", Type::Text, "The product or category that is promoted."),
        Column::new("offer", Type::Text, "The offer.").nullable(),
        Column::new("channel", Type::Text, "Where it is read."),
        Column::new("goal", Type::Text, "What it is for."),
        Column::new("tone", Type::Text, "The tone that was asked for."),
        Column::new("language", Type::Text, "The language."),
        Column::new("headline", Type::Text, "The headline, or subject."),
        Column::new("body", Type::Text, "A sentence about the product, and the offer."),
        Column::new("rationale", Type::Text, "What decided it: the column that named the product, and how the draft was chosen."),
        Column::new("written_by", Type::Text, "`'model'`, or `'template'` where no draft held and a fixed text stands in."),
        Column::new("prompt", Type::Text, "The prompt and its version."),
        Column::new("model", Type::Text, "The language model; NULL for the template.").nullable(),
        Column::new("tokens", Type::Integer, "Tokens that were written for it, drafts that were refused with them."),
        Column::new(
            "score",
            Type::Double,
            "By likelihood the mean of the logarithms of the probabilities of its tokens, NULL for the template; by a click model its prediction.",
        )
        .nullable(),
    ]),
    summary: "A strategy for a customer: what to promote, and the words for it",
    docs: "The data decides, the language model words. What is promoted comes from the row, and goal, channel, tone, offer and language from the \
           caller; each may differ from row to row. The model then drafts a headline and a sentence in a form that leaves it no room for \
           figures or names, and each draft is checked against the facts: the product's name is in it once, and there is no figure, name, price, \
           other product or claim that the row and the offer do not hold, no banned word, the language and the length fit, and the wording is \
           whole. Drafts that fail are drawn again, twice as many and four more at most. Of those that hold the best is the answer; where \
           none holds, a fixed text stands in, and `written_by` says so. The offer is added as it was given, never reworded.\n\n\
           The checks for claims and other goods are lists of English words. For other languages the form, the facts and the language are \
           checked, and a small model will mostly end with the fixed text.\n\n\
           The result is a row: `(generate_strategy(c)).headline` is a field of it. It is NULL where the row names no product. Rows with the same facts, options and seed have the same text, which is written once per statement; \
           `seed => c.customer_id` varies it.",
    example: "SELECT c.customer_id, generate_strategy(c, goal => 'repurchase', offer => '10% off', seed => 7) FROM customers c LIMIT 5",
    errors: &[
        Failure { sqlstate: "42703", when: "no column of the row names what is promoted, or the click model misses a feature" },
        Failure { sqlstate: "42704", when: "the language model or the click model does not exist" },
        Failure { sqlstate: "22023", when: "an option is out of range, or the product and the offer are too long for the channel" },
        Failure { sqlstate: "53400", when: "too many requests are waiting, or `ml.max_tokens_per_query` is used up" },
        Failure { sqlstate: "57014", when: "`ml.timeout` is over" },
        Failure { sqlstate: "XX001", when: "the files of a model are damaged" },
    ],
};

/// The name and version of the advertisements that a model goes on from.
const PROMPT: &str = "built-in@1";

/// The most drafts that are compared.
const MOST: usize = 16;

/// Warm enough for drafts that differ; above, small models lose the thread.
const TEMPERATURE: f32 = 0.6;

/// The columns that a click model is given besides those of the row: of the draft, and of the brief where the row has none.
const COPY: [&str; 2] = ["headline", "body"];
const BRIEF: [&str; 6] = ["product", "offer", "channel", "goal", "tone", "language"];

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    // Volatile, so that no call runs while a statement is planned.
    let signature = DECLARATION.engine_signature(Volatility::Volatile);
    Strategy::function(&DECLARATION, models, signature)
}

/// A function of a row that writes strategies for it.
#[derive(Debug, Clone)]
pub(crate) struct Strategy {
    declaration: &'static Function,
    models: Arc<Models>,
    signature: Signature,
    memory: Arc<Memory>,
    /// The click model that ranks, once it is settled for the statement.
    judge: Option<Arc<Held>>,
}

impl Strategy {
    pub(crate) fn function(declaration: &'static Function, models: &Arc<Models>, signature: Signature) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { declaration, models: Arc::clone(models), signature, memory: Arc::default(), judge: None }))
    }

    /// Whether all drafts that hold are asked for, not the best alone.
    fn all(&self) -> bool {
        self.declaration.kind == Kind::Table
    }

    fn data_type(&self) -> DataType {
        if self.all() { DataType::new_list(DataType::Struct(candidates::fields()), true) } else { DataType::Struct(fields()) }
    }

    /// The place of the argument that may name a click model.
    pub(crate) fn rank_by(&self) -> Option<usize> {
        self.declaration.position("rank_by")
    }

    /// The function for the calls of one statement; the columns of the row that it reads.
    pub(crate) fn with(&self, memory: &Arc<Memory>, judge: Option<Arc<Held>>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { memory: Arc::clone(memory), judge, ..self.clone() }))
    }

    /// The click model that an argument names, if it names one.
    pub(crate) fn ranks_by(argument: &ScalarValue) -> Option<&str> {
        argument.try_as_str().flatten().filter(|name| *name != "likelihood")
    }

    /// The columns of a row that a call can read.
    pub(crate) fn columns(judge: Option<&Held>) -> Vec<&str> {
        brief::COLUMNS.into_iter().chain(judge.into_iter().flat_map(|judge| judge.intake().columns())).collect()
    }

    /// The click model that ranks.
    fn judge(&self, rank_by: &str) -> Result<Option<Arc<Held>>, Error> {
        if rank_by == "likelihood" {
            return Ok(None);
        }
        match &self.judge {
            Some(judge) => Ok(Some(Arc::clone(judge))),
            None => Ok(Some(Arc::new(Held::new(&self.models, rank_by)?))),
        }
    }

    /// The drafts of a brief that hold, in the order they were drawn, and the tokens that were written for all.
    async fn drafts(&self, brief: &Brief, banned: &[String], seed: i64, call: &Call<'_>) -> Result<(Vec<Draft>, usize)> {
        let options = call.options;
        let checker = Checker::new(brief, banned);
        let sampling = Sampling { temperature: TEMPERATURE, top_p: 0.95, max_tokens: options.max_tokens, ..Sampling::default() };
        let grammar = Some(copy::grammar(brief));
        let asked = Asked::from(Manner { model: options.model.clone(), sampling, grammar, chat: false });
        let prompt = copy::prompt(brief);
        let tokens = call.engine.tokens();
        let common = |word: &str| tokens.encode_data(&format!(" {word}")).is_ok_and(|ids| ids.len() == 1);
        let object = format!("the prompt of {}", self.declaration.name);
        let (mut kept, mut written, mut drawn) = (Vec::<Draft>::new(), 0, 0);
        let most = if self.all() { 4 } else { 2 } * options.n + 4;
        // What is under way may go beyond the budget; nothing is begun beyond it.
        while kept.len() < options.n && drawn < most && options.budget.is_none_or(|budget| written < budget) {
            let next = drawn..(drawn + options.n - kept.len()).min(most);
            drawn = next.end;
            let asked = next.map(|draft| {
                // Neighbouring seeds have nothing to do with each other.
                let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()).wrapping_add(draft as i64);
                Question::new(&prompt, None, seed, &asked, &object).map(|question| self.memory.answer(&self.models, question, call.meter))
            });
            let asked = asked.collect::<Result<Vec<_>, Error>>()?;
            for completion in try_join_all(asked).await.map_err(DataFusionError::Shared)? {
                written += completion.ids.len();
                let Some(draft) = Draft::read(&completion) else { continue };
                let new = kept.iter().all(|known| known.copy != draft.copy);
                match checker.check(&draft.copy, common) {
                    Ok(()) if new => kept.push(draft),
                    Ok(()) => {}
                    Err(fault) => tracing::debug!(?fault, headline = draft.copy.headline, sentence = draft.copy.sentence, "draft refused"),
                }
            }
        }
        Ok((kept, written))
    }

    /// The strategies of a row, the best first; none if it names no product.
    async fn strategies(&self, row: &Row<'_>, call: &Call<'_>) -> Result<Vec<Written>> {
        let Some(brief) = row.brief()? else { return Ok(Vec::new()) };
        let (drafts, tokens) = self.drafts(&brief, &row.banned(), row.seed(), call).await?;
        let count = drafts.len();
        let template = Draft { copy: template::wording(&brief), likelihood: None };
        let drafts = if drafts.is_empty() { vec![template] } else { drafts };
        let scores = match call.judge {
            Some(judge) => row.judged(judge, &brief, &drafts)?,
            None => drafts.iter().map(|draft| draft.likelihood).collect(),
        };
        let chosen = match count {
            0 => "no draft held, so a fixed text stands in".to_owned(),
            1 => "the only draft that held".to_owned(),
            _ => {
                let by = call.judge.map_or("likelihood".to_owned(), |judge| judge.pinned().to_string());
                format!("the best by {by} of {count} drafts that held")
            }
        };
        let column = brief.column.replace('_', " ");
        let offer = brief.offer.as_ref().map(|offer| format!("; offer as given: {offer}")).unwrap_or_default();
        let rationale = format!("{column}: {}{offer}; goal: {}; {chosen}", brief.product, brief.goal);
        let mut written: Vec<Written> = drafts
            .into_iter()
            .zip(scores)
            .map(|(draft, score)| Written { brief: brief.clone(), draft, score, tokens, rationale: rationale.clone() })
            .collect();
        // The first of equals stays first.
        written.sort_by(|a, b| b.score.unwrap_or(f64::NEG_INFINITY).total_cmp(&a.score.unwrap_or(f64::NEG_INFINITY)));
        Ok(written)
    }
}

impl PartialEq for Strategy {
    fn eq(&self, other: &Self) -> bool {
        let version = |strategy: &Self| strategy.judge.as_ref().map(|judge| judge.pinned().clone());
        self.declaration.name == other.declaration.name && Arc::ptr_eq(&self.models, &other.models) && version(self) == version(other)
    }
}

impl Eq for Strategy {}

impl Hash for Strategy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.declaration.name.hash(state);
    }
}

/// A wording and how likely it is to the model that wrote it.
#[derive(Debug, Clone)]
struct Draft {
    copy: Copy,
    likelihood: Option<f64>,
}

impl Draft {
    fn read(completion: &Completion) -> Option<Self> {
        let copy = Copy::read(&completion.text).filter(|_| completion.finish == Finish::Constraint)?;
        Some(Self { copy, likelihood: Some(completion.log_probability / completion.chosen.max(1) as f64) })
    }
}

/// A strategy.
#[derive(Debug)]
struct Written {
    brief: Brief,
    draft: Draft,
    score: Option<f64>,
    tokens: usize,
    rationale: String,
}

/// The arguments that hold for all rows.
#[derive(Debug, Clone)]
struct Options {
    n: usize,
    /// The most tokens of the drafts of a row.
    budget: Option<usize>,
    model: Option<String>,
    max_tokens: usize,
    rank_by: String,
    on_error: Option<OnError>,
}

impl Options {
    fn new(function: &'static Function, value: impl Fn(&str) -> Option<ScalarValue>) -> Result<Self, Error> {
        let literals = Literals { function, value: &value };
        let n = literals.count("n")?;
        if !(1..=MOST).contains(&n) {
            return Err(Error::value(literals.object("n"), format!("is not from 1 to {MOST}")));
        }
        let max_tokens = literals.count("max_tokens")?;
        Sampling { max_tokens, ..Sampling::default() }.check()?;
        let rank_by = literals.text("rank_by")?.ok_or_else(|| Error::value(literals.object("rank_by"), "is NULL"))?;
        let budget = if function.position("budget").is_some() { literals.optional_count("budget")? } else { None };
        if budget == Some(0) {
            return Err(Error::value(literals.object("budget"), "is not at least 1"));
        }
        Ok(Self { n, budget, model: literals.text("model")?, max_tokens, rank_by, on_error: literals.on_error()? })
    }
}

/// What all rows of a call have in common.
struct Call<'a> {
    engine: &'a Engine,
    options: &'a Options,
    judge: Option<&'a Held>,
    meter: &'a Arc<Meter>,
}

/// The rows of a call.
struct Customers {
    function: &'static Function,
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
    /// The columns that name what is promoted, as text.
    promoting: Vec<(String, ArrayRef)>,
    goal: ArrayRef,
    channel: ArrayRef,
    tone: ArrayRef,
    offer: ArrayRef,
    language: ArrayRef,
    banned: ArrayRef,
    seed: ArrayRef,
}

impl Customers {
    fn new(function: &'static Function, arguments: &ScalarFunctionArgs) -> Result<Self> {
        let rows = arguments.number_rows;
        let argument = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
            match function.position(name).and_then(|position| arguments.args.get(position)) {
                Some(value) => Ok(cast(&value.to_array(rows)?, data_type)?),
                None => exec_err!("{} has no argument {name}", function.name),
            }
        };
        let text = |name: &str| argument(name, &DataType::Utf8);
        let Some(row) = arguments.args.first() else { return exec_err!("{} has no row", function.name) };
        let row = row.to_array(rows)?;
        let Some(row) = row.as_struct_opt() else { return Err(no_row(function, &arguments.arg_fields[0]).into()) };
        let fields = row.fields().to_vec();
        let promoting = promoting(&fields, function.name)?;
        let promoting = promoting.into_iter().map(|place| Ok((fields[place].name().clone(), cast(row.column(place), &DataType::Utf8)?)));
        Ok(Self {
            function,
            columns: row.columns().to_vec(),
            nulls: row.nulls().cloned(),
            promoting: promoting.collect::<Result<_>>()?,
            goal: text("goal")?,
            channel: text("channel")?,
            tone: text("tone")?,
            offer: text("offer")?,
            language: text("language")?,
            banned: text("banned")?,
            seed: argument("seed", &DataType::Int64)?,
            fields,
        })
    }
}

/// A row of them.
struct Row<'a> {
    customers: &'a Customers,
    place: usize,
}

impl Row<'_> {
    fn text<'a>(&self, column: &'a ArrayRef) -> Option<&'a str> {
        let column = column.as_string::<i32>();
        column.is_valid(self.place).then(|| column.value(self.place))
    }

    fn brief(&self) -> Result<Option<Brief>, Error> {
        let customers = self.customers;
        if customers.nulls.as_ref().is_some_and(|nulls| nulls.is_null(self.place)) {
            return Ok(None);
        }
        let named = customers.promoting.iter().find_map(|(name, column)| {
            let product = self.text(column).filter(|product| !product.trim().is_empty())?;
            Some((name.as_str(), product))
        });
        let Some((column, product)) = named else { return Ok(None) };
        let needed = |name: &str, column| {
            let missing = || Error::value(format!("argument {name} of {}", customers.function.name), "is NULL");
            self.text(column).ok_or_else(missing)
        };
        let given = Given {
            product,
            column,
            offer: self.text(&customers.offer),
            channel: needed("channel", &customers.channel)?,
            goal: needed("goal", &customers.goal)?,
            tone: needed("tone", &customers.tone)?,
            language: needed("language", &customers.language)?,
        };
        Brief::new(&given, customers.function.name)
    }

    fn banned(&self) -> Vec<String> {
        let banned = self.text(&self.customers.banned).unwrap_or_default().to_lowercase();
        banned.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn seed(&self) -> i64 {
        let seeds = self.customers.seed.as_primitive::<Int64Type>();
        if seeds.is_valid(self.place) { seeds.value(self.place) } else { 0 }
    }

    /// What a click model predicts for the drafts.
    fn judged(&self, judge: &Held, brief: &Brief, drafts: &[Draft]) -> Result<Vec<Option<f64>>> {
        let rows = drafts.len();
        let fields = judged_fields(&self.customers.fields);
        let here = UInt32Array::from_value(u32::try_from(self.place).unwrap_or(u32::MAX), rows);
        let channel = brief.channel.to_string();
        let columns = fields.iter().map(|field| -> Result<ArrayRef> {
            let all = |text: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
            let own = self.customers.fields.iter().position(|own| own == field && !COPY.contains(&own.name().as_str()));
            Ok(match (own, field.name().as_str()) {
                (Some(own), _) => take(&self.customers.columns[own], &here, None)?,
                (None, "headline") => Arc::new(StringArray::from_iter_values(drafts.iter().map(|draft| &draft.copy.headline))),
                (None, "body") => Arc::new(StringArray::from_iter_values(drafts.iter().map(|draft| draft.copy.body(brief)))),
                (None, "product") => all(Some(&brief.product)),
                (None, "offer") => all(brief.offer.as_deref()),
                (None, "channel") => all(Some(&channel)),
                (None, "goal") => all(Some(&brief.goal)),
                (None, "tone") => all(Some(&brief.tone)),
                (None, _) => all(Some(brief.language.code())),
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let reader = judge.intake().bind(&judge.pinned().to_string(), &fields)?;
        let scores = judge.model().map_err(Error::from)?.predict(&reader.read(&columns, rows)?).map_err(Error::from)?;
        Ok(scores.task(0).map(|score| Some(f64::from(score)).filter(|score| !score.is_nan())).collect())
    }
}

/// The columns that a click model is given.
fn judged_fields(row: &[FieldRef]) -> Vec<FieldRef> {
    let text = |name: &&str| Arc::new(Field::new(*name, DataType::Utf8, true));
    let own = row.iter().filter(|field| !COPY.contains(&field.name().as_str())).cloned();
    let lacking = BRIEF.iter().filter(|name| row.iter().all(|field| field.name() != *name));
    own.chain(COPY.iter().map(text)).chain(lacking.map(text)).collect()
}

fn no_row(function: &Function, argument: &Field) -> Error {
    Error::WrongType {
        object: format!("argument {} of {}", function.parameters[0].name, function.name),
        actual: crate::declaration::sql_type(argument.data_type()),
        detail: Some(format!("the function is {}", function.usage())),
        hint: Some("give a table alias, or name => value for each column".to_owned()),
    }
}

fn fields() -> Fields {
    DECLARATION.columns().iter().map(|column| Field::new(column.name, column.data_type.arrow(), true)).collect()
}

/// The rows of strategies; a place without one is NULL.
fn rows_of(strategies: &[Option<Written>], model: &str) -> StructArray {
    let text = |value: &dyn Fn(&Written) -> Option<String>| -> ArrayRef {
        Arc::new(strategies.iter().map(|strategy| strategy.as_ref().and_then(value)).collect::<StringArray>())
    };
    let by_model = |strategy: &Written| strategy.draft.likelihood.is_some();
    let tokens = |strategy: &Written| i32::try_from(strategy.tokens).unwrap_or(i32::MAX);
    let columns: Vec<ArrayRef> = vec![
        text(&|strategy| Some(strategy.brief.product.clone())),
        text(&|strategy| strategy.brief.offer.clone()),
        text(&|strategy| Some(strategy.brief.channel.to_string())),
        text(&|strategy| Some(strategy.brief.goal.clone())),
        text(&|strategy| Some(strategy.brief.tone.clone())),
        text(&|strategy| Some(strategy.brief.language.code().to_owned())),
        text(&|strategy| Some(strategy.draft.copy.headline.clone())),
        text(&|strategy| Some(strategy.draft.copy.body(&strategy.brief))),
        text(&|strategy| Some(strategy.rationale.clone())),
        text(&|strategy| Some(if by_model(strategy) { "model" } else { "template" }.to_owned())),
        text(&|_| Some(PROMPT.to_owned())),
        text(&|strategy| by_model(strategy).then(|| model.to_owned())),
        Arc::new(strategies.iter().map(|strategy| strategy.as_ref().map(tokens)).collect::<Int32Array>()),
        Arc::new(strategies.iter().map(|strategy| strategy.as_ref().and_then(|strategy| strategy.score)).collect::<Float64Array>()),
    ];
    StructArray::new(fields(), columns, Some(strategies.iter().map(Option::is_some).collect()))
}

#[async_trait]
impl Work for Strategy {
    fn rows(&self) -> Option<usize> {
        Some(1)
    }

    /// With four drafts each, these keep an engine busy; more would only let the first rows wait for the drafts of the others.
    fn calls(&self) -> usize {
        12
    }

    fn parallel(&self) -> bool {
        false
    }

    fn tells(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, meter: &Arc<Meter>) -> Result<ArrayRef> {
        let argument = |name: &str| self.declaration.position(name).and_then(|position| arguments.args.get(position));
        let options = Options::new(self.declaration, |name| match argument(name) {
            Some(ColumnarValue::Scalar(value)) => Some(value.clone()),
            _ => None,
        })?;
        let customers = Customers::new(self.declaration, &arguments)?;
        let judge = self.judge(&options.rank_by)?;
        let Answering { engine, name: model } = self.memory.engine(&self.models, options.model.as_deref()).await?;
        let call = Call { engine: &engine, options: &options, judge: judge.as_deref(), meter };
        let mut answers = Vec::with_capacity(arguments.number_rows);
        for place in 0..arguments.number_rows {
            let row = Row { customers: &customers, place };
            match self.strategies(&row, &call).await {
                Ok(strategies) => answers.push(strategies),
                Err(error) => {
                    meter.excuse(error, options.on_error)?;
                    answers.push(Vec::new());
                }
            }
        }
        if self.all() {
            return Ok(Arc::new(candidates::lists(answers, &model)));
        }
        let best: Vec<Option<Written>> = answers.into_iter().map(|strategies| strategies.into_iter().next()).collect();
        Ok(Arc::new(rows_of(&best, &model)))
    }
}

impl ScalarUDFImpl for Strategy {
    fn name(&self) -> &str {
        self.declaration.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if !self.all() {
            self.declaration.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        }
        let options = Options::new(self.declaration, |name| {
            let position = self.declaration.position(name)?;
            args.scalar_arguments.get(position).copied().flatten().cloned()
        })?;
        let DataType::Struct(row) = args.arg_fields[0].data_type() else {
            return Err(no_row(self.declaration, &args.arg_fields[0]).into());
        };
        promoting(row, self.declaration.name)?;
        if let Some(judge) = self.judge(&options.rank_by)? {
            judge.intake().bind(&judge.pinned().to_string(), &judged_fields(row))?;
        }
        self.models.language_name(options.model.as_deref()).map_err(Error::from)?;
        Ok(Arc::new(Field::new(self.declaration.name, self.data_type(), true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::Unsupported {
            reason: format!("{} cannot be called in this place", self.declaration.name),
            hint: "put the call into the select list of a query".to_owned(),
        }
        .into())
    }
}
