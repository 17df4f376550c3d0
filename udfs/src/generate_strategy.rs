//! `generate_strategy(row)`: what to say to a customer, by a language model that words what the data has decided.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use futures::future::try_join_all;
use stratagem_models::language::{Completion, Engine, Finish, Sampling};
use stratagem_models::prompt::Prompt;

use crate::ask::{Asked, Literals, Manner, Memory, Question};
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::error::Error;
use crate::models::{Held, Models, Speaker};
use crate::prompt;
use crate::usage::{Meter, OnError};

mod brief;
pub mod candidates;
mod check;
mod copy;
mod customers;
mod template;

use brief::{Brief, promoting};
use check::Checker;
use copy::Copy;
use customers::{Customers, Row, judged_fields};

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
        Parameter::value(
            "prompt",
            Type::Text,
            "A prompt that CREATE PROMPT has made, which the model reads before the product and the tone, in place of the built-in advertisements. \
             Its variables are `product`, `offer`, `channel`, `goal`, `tone`, `language` and the columns of the row; NULL is the built-in one.",
        )
        .or("NULL"),
        Parameter::value("model", Type::Text, "The language model, or one that `finetune` has made of it (`'copy'`, `'copy@2'`); NULL is the installed one, `'smollm2'`.").or("NULL"),
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
        Failure { sqlstate: "42703", when: "no column of the row names what is promoted, the click model misses a feature, or the prompt a variable" },
        Failure { sqlstate: "42704", when: "the language model, the click model or the prompt does not exist" },
        Failure { sqlstate: "22023", when: "an option is out of range, or the product and the offer are too long for the channel" },
        Failure { sqlstate: "53400", when: "too many requests are waiting, or `ml.max_tokens_per_query` is used up" },
        Failure { sqlstate: "57014", when: "`ml.timeout` is over" },
        Failure { sqlstate: "XX001", when: "the files of a model are damaged" },
    ],
};

/// The name and version of the advertisements that a model goes on from where no prompt is given.
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
    /// The prompt, once it is settled for the statement.
    prompt: Option<Arc<Prompt>>,
}

impl Strategy {
    pub(crate) fn function(declaration: &'static Function, models: &Arc<Models>, signature: Signature) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self {
            declaration,
            models: Arc::clone(models),
            signature,
            memory: Arc::default(),
            judge: None,
            prompt: None,
        }))
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

    /// The place of the argument that may name a prompt.
    pub(crate) fn prompt(&self) -> Option<usize> {
        self.declaration.position("prompt")
    }

    /// The function for the calls of one statement.
    pub(crate) fn with(&self, memory: &Arc<Memory>, judge: Option<Arc<Held>>, prompt: Option<Arc<Prompt>>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { memory: Arc::clone(memory), judge, prompt, ..self.clone() }))
    }

    /// The click model that an argument names, if it names one.
    pub(crate) fn ranks_by(argument: &ScalarValue) -> Option<&str> {
        argument.try_as_str().flatten().filter(|name| *name != "likelihood")
    }

    /// The columns of a row that a call can read.
    pub(crate) fn columns<'a>(judge: Option<&'a Held>, prompt: Option<&'a Prompt>) -> Vec<&'a str> {
        let judged = judge.into_iter().flat_map(|judge| judge.intake().columns());
        let filled_in = prompt.into_iter().flat_map(|prompt| prompt.template.variables()).map(String::as_str);
        brief::COLUMNS.into_iter().chain(judged).chain(filled_in).collect()
    }

    /// The prompt that a call names, if it names one.
    fn named(&self, prompt: Option<&str>) -> Result<Option<Arc<Prompt>>, Error> {
        match (&self.prompt, prompt) {
            (Some(held), _) => Ok(Some(Arc::clone(held))),
            (None, Some(reference)) => Ok(Some(Arc::new(self.models.prompts().get(reference)?))),
            (None, None) => Ok(None),
        }
    }

    /// The click model that ranks.
    fn judge(&self, rank_by: &str) -> Result<Option<Arc<Held>>, Error> {
        if rank_by == "likelihood" {
            return Ok(None);
        }
        let judge = match &self.judge {
            Some(judge) => Arc::clone(judge),
            None => Arc::new(Held::new(&self.models, rank_by)?),
        };
        judge.intake().check_probability(judge.pinned())?;
        Ok(Some(judge))
    }

    /// What the model is asked for a brief.
    fn prompt_of(brief: &Brief, row: &Row<'_>, call: &Call<'_>) -> Result<String> {
        Ok(match call.prompt {
            Some(own) => format!("{}\n\n{}", row.filled_in(own, brief)?.trim_end(), copy::question(brief)),
            None => copy::prompt(brief),
        })
    }

    /// The drafts of a brief that hold, in the order they were drawn, and the tokens that were written for all.
    async fn drafts(&self, prompt: &str, brief: &Brief, row: &Row<'_>, call: &Call<'_>) -> Result<(Vec<Draft>, usize)> {
        let (options, banned, seed) = (call.options, row.banned(), row.seed());
        let checker = Checker::new(brief, &banned, call.prompt.map(|prompt| prompt.template.text()));
        let sampling = Sampling { temperature: TEMPERATURE, top_p: 0.95, max_tokens: options.max_tokens, ..Sampling::default() };
        let grammar = Some(copy::grammar(brief));
        let asked = Asked::from(Manner { model: options.model.clone(), sampling, grammar, chat: false });
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
                Question::new(prompt, None, seed, &asked, &object).map(|question| self.memory.answer(&self.models, question, call.meter))
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
        let asked: Arc<str> = Self::prompt_of(&brief, row, call)?.into();
        let (drafts, tokens) = self.drafts(&asked, &brief, row, call).await?;
        let count = drafts.len();
        let template = Draft { copy: template::wording(&brief), likelihood: None, answered: None };
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
            .map(|(draft, score)| Written {
                brief: brief.clone(),
                asked: Arc::clone(&asked),
                draft,
                score,
                tokens,
                rationale: rationale.clone(),
            })
            .collect();
        // The first of equals stays first.
        written.sort_by(|a, b| b.score.unwrap_or(f64::NEG_INFINITY).total_cmp(&a.score.unwrap_or(f64::NEG_INFINITY)));
        Ok(written)
    }
}

impl PartialEq for Strategy {
    fn eq(&self, other: &Self) -> bool {
        let version = |strategy: &Self| {
            let prompt = strategy.prompt.as_ref().map(ToString::to_string);
            (strategy.judge.as_ref().map(|judge| judge.pinned().clone()), prompt)
        };
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
    /// What the model wrote, word for word.
    answered: Option<String>,
}

impl Draft {
    fn read(completion: &Completion) -> Option<Self> {
        let copy = Copy::read(&completion.text).filter(|_| completion.finish == Finish::Constraint)?;
        let likelihood = Some(completion.log_probability / completion.chosen.max(1) as f64);
        Some(Self { copy, likelihood, answered: Some(completion.text.clone()) })
    }
}

/// A strategy.
#[derive(Debug)]
struct Written {
    brief: Brief,
    /// What the model was asked.
    asked: Arc<str>,
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
    prompt: Option<String>,
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
        let (model, prompt, on_error) = (literals.text("model")?, literals.text("prompt")?, literals.on_error()?);
        Ok(Self { n, budget, model, max_tokens, rank_by, prompt, on_error })
    }
}

/// What all rows of a call have in common.
struct Call<'a> {
    engine: &'a Engine,
    options: &'a Options,
    judge: Option<&'a Held>,
    prompt: Option<&'a Prompt>,
    meter: &'a Arc<Meter>,
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
fn rows_of(strategies: &[Option<Written>], model: &str, prompt: Option<&Prompt>) -> StructArray {
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
        text(&|_| Some(prompt.map_or(PROMPT.to_owned(), ToString::to_string))),
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
        let Speaker { engine, name: model, .. } = self.memory.speaker(&self.models, options.model.as_deref()).await?;
        let prompt = self.named(options.prompt.as_deref())?;
        let call = Call { engine: &engine, options: &options, judge: judge.as_deref(), prompt: prompt.as_deref(), meter };
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
            return Ok(Arc::new(candidates::lists(answers, &model, prompt.as_deref())));
        }
        let best: Vec<Option<Written>> = answers.into_iter().map(|strategies| strategies.into_iter().next()).collect();
        Ok(Arc::new(rows_of(&best, &model, prompt.as_deref())))
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
        if let Some(prompt) = self.named(options.prompt.as_deref())? {
            prompt::check(&prompt, row, &BRIEF)?;
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
