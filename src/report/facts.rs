//! What the page shows, asked for in SQL.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Error, ReportArgs};
use crate::names::quoted;

/// Points of a curve: enough for its picture.
const POINTS: usize = 240;

/// Times that each column is shuffled.
const REPEATS: u32 = 5;

/// Everything on the page.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) model: Model,
    pub(super) label: String,
    pub(super) query: String,
    pub(super) group: Option<String>,
    /// When the report was made, in UTC.
    pub(super) made_at: String,
    pub(super) figures: Vec<Figure>,
    /// Threshold, false and true positive rate.
    pub(super) roc: Vec<[f64; 3]>,
    /// Threshold, precision and recall.
    pub(super) precision_recall: Vec<[f64; 3]>,
    /// Rows, predicted, observed, low and high.
    pub(super) calibration: Vec<[f64; 5]>,
    /// Share of rows, threshold, share of positives and lift.
    pub(super) gains: Vec<[f64; 4]>,
    /// Of an uplift model: share of rows, gain, and gain in a random order.
    pub(super) qini: Vec<[f64; 3]>,
    /// Of an uplift model: treated rows, other rows, their mean outcomes, and the effect, by tenths of the rows.
    pub(super) tenths: Vec<[f64; 5]>,
    /// What another policy would have earned, by estimator: value, its ends, rows, effective rows and the largest weight.
    pub(super) policy: Vec<(String, [f64; 6])>,
    pub(super) sample: u32,
    /// Columns with their importance and its standard error.
    pub(super) importance: Vec<(String, f64, f64)>,
    pub(super) training: Vec<Net>,
}

/// A version of a model.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) aliases: String,
    pub(super) model_type: String,
    /// The column that told who was treated, of an uplift model.
    pub(super) treatment: Option<String>,
    /// The labels it was trained on.
    label: String,
    pub(super) created_at: String,
    pub(super) features: String,
    pub(super) rows: Option<f64>,
    pub(super) positives: Option<f64>,
    pub(super) source_query: String,
}

/// A metric.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    pub(super) metric: String,
    pub(super) value: Option<f64>,
    pub(super) interval: Option<(f64, f64)>,
}

/// How the loss of a net fell, epoch by epoch: on the rows it was trained on and on those held out.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) name: String,
    pub(super) epochs: Vec<Epoch>,
}

/// The number of an epoch, and the losses after it.
pub(super) type Epoch = (f64, Option<f64>, Option<f64>);

/// A row as the server writes it.
type Row = Vec<Option<String>>;

impl Facts {
    pub(super) fn figure(&self, metric: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.metric == metric)
    }

    pub(super) fn value(&self, metric: &str) -> Option<f64> {
        self.figure(metric)?.value
    }

    /// The share of positive rows.
    pub(super) fn base_rate(&self) -> Option<f64> {
        Some(self.value("positives")? / self.value("rows")?)
    }

    /// Asks for everything, one statement after the other.
    pub(super) async fn ask(client: &Client, args: &ReportArgs) -> Result<Self, Error> {
        let model = Model::ask(client, &args.model).await?;
        let label = match &args.label {
            Some(label) => label.clone(),
            None => model.label.split(", ").next().unwrap_or_default().to_owned(),
        };
        let mut facts = Self {
            training: model.training(client).await?,
            model,
            label,
            query: args.query.trim().trim_end_matches(';').trim_end().to_owned(),
            group: args.group.clone(),
            sample: args.sample,
            made_at: chrono::Utc::now().format("%-d %B %Y, %H:%M UTC").to_string(),
            ..Self::default()
        };
        facts.judge(client, args).await?;
        match args.treatment.clone().or_else(|| facts.model.treatment.clone()) {
            Some(treatment) => facts.ask_experiment(client, args, &treatment).await?,
            None => facts.ask_curves(client, args).await?,
        }
        facts.ask_policy(client, args).await?;
        Ok(facts)
    }

    /// The version, as a literal: every statement is to judge the same, also when a new one is saved meanwhile.
    fn reference(&self, args: &ReportArgs) -> String {
        match self.model.version {
            0 => literal(&args.model),
            version => literal(&format!("{}@{version}", self.model.name)),
        }
    }

    /// The query in brackets, on lines of its own, so that a comment at its end hides nothing.
    fn source(&self) -> String {
        format!("(\n{}\n)", self.query)
    }

    async fn judge(&mut self, client: &Client, args: &ReportArgs) -> Result<(), Error> {
        let named = [("label", &args.label), ("group_col", &args.group), ("treatment", &args.treatment)];
        let sql = format!(
            "SELECT metric, value, low, high FROM ml.evaluate({}, query => {}{})",
            self.reference(args),
            self.source(),
            arguments(&named)
        );
        self.figures = rows(client, &sql).await?.iter().map(Figure::of).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The curves of a model that gives probabilities, and the importance of its columns.
    async fn ask_curves(&mut self, client: &Client, args: &ReportArgs) -> Result<(), Error> {
        let (reference, source) = (self.reference(args), self.source());
        let scored = format!(
            "query => (SELECT q.{} AS label, predict_ctr({reference}, q) AS score FROM {source} AS q), label => 'label', score => 'score'",
            quoted(&self.label)
        );
        let sql = |columns: &str, call: &str, options: &str| format!("SELECT {columns} FROM {call}({scored}{options})");
        let points = format!(", points => {POINTS}");
        self.roc = curve(client, &sql("threshold, false_positive_rate, true_positive_rate", "ml.roc_curve", &points)).await?;
        self.precision_recall = curve(client, &sql("threshold, precision, recall", "ml.pr_curve", &points)).await?;
        let tenths = ", bins => 10, strategy => 'quantile'";
        self.calibration = curve(client, &sql("rows, predicted, observed, low, high", "ml.calibration_curve", tenths)).await?;
        self.gains = curve(client, &sql("share_of_rows, threshold, share_of_positives, lift", "ml.lift_curve", ", points => 100")).await?;
        let importance = format!(
            "SELECT feature, importance, error FROM ml.global_explain({reference}, query => {source}{}, sample => {}, repeats => {REPEATS}, seed => {})",
            arguments(&[("label", &args.label)]),
            args.sample,
            args.seed
        );
        let column = |row: &Row| Ok((text(row, 0), number(row, 1)?.unwrap_or(f64::NAN), number(row, 2)?.unwrap_or(f64::NAN)));
        self.importance = rows(client, &importance).await?.iter().map(column).collect::<Result<_, Error>>()?;
        Ok(())
    }

    /// What an uplift model is worth on the rows of an experiment.
    async fn ask_experiment(&mut self, client: &Client, args: &ReportArgs, treatment: &str) -> Result<(), Error> {
        let scored = format!(
            "query => (SELECT q.{} AS outcome, q.{} AS treated, predict_uplift({}, q) AS uplift FROM {} AS q), \
             outcome => 'outcome', treated => 'treated', uplift => 'uplift'",
            quoted(&self.label),
            quoted(treatment),
            self.reference(args),
            self.source()
        );
        let qini = format!("SELECT share, gain, random FROM ml.qini_curve({scored}, points => {POINTS})");
        self.qini = curve(client, &qini).await?;
        let tenths = format!(
            "SELECT treated_rows, control_rows, treated_mean, control_mean, effect FROM ml.uplift_by_decile({scored}) ORDER BY decile"
        );
        self.tenths = curve(client, &tenths).await?;
        Ok(())
    }

    /// What another policy would have earned, where its columns are named.
    async fn ask_policy(&mut self, client: &Client, args: &ReportArgs) -> Result<(), Error> {
        if args.reward.is_none() {
            return Ok(());
        }
        let named = [
            ("reward", &args.reward),
            ("target", &args.target),
            ("logged", &args.logged),
            ("q_logged", &args.q_logged),
            ("q_new", &args.q_new),
        ];
        let sql = format!(
            "SELECT estimator, value, low, high, rows, ess, max_weight FROM ml.off_policy(query => {}{})",
            self.source(),
            arguments(&named)
        );
        let estimate = |row: &Row| Ok((text(row, 0), numbers(row, 1)?));
        self.policy = rows(client, &sql).await?.iter().map(estimate).collect::<Result<_, Error>>()?;
        Ok(())
    }
}

/// Named arguments with the names of columns, after a comma each.
fn arguments(named: &[(&str, &Option<String>)]) -> String {
    let given = named.iter().filter_map(|(name, column)| Some((name, column.as_deref()?)));
    given.map(|(name, column)| format!(", {name} => {}", literal(column))).collect()
}

impl Model {
    /// The version that a reference means; version 0 if there is none, for the server to say so.
    async fn ask(client: &Client, reference: &str) -> Result<Self, Error> {
        let (name, selector) = reference.split_once('@').unwrap_or((reference, ""));
        let sql = format!(
            "SELECT version, is_default, aliases, model_type, created_at, features, rows, positives, source_query, treatment, label FROM ml.models \
             WHERE name = {} ORDER BY version",
            literal(name)
        );
        let versions = rows(client, &sql).await?;
        let aliases = |row: &Row| text(row, 2).split(", ").map(str::to_owned).collect::<Vec<_>>();
        let found = match selector {
            "" => versions.iter().find(|row| text(row, 1).starts_with('t')),
            "latest" => versions.last(),
            version if version.chars().all(|c| c.is_ascii_digit()) => versions.iter().find(|row| text(row, 0) == version),
            alias => versions.iter().find(|row| aliases(row).iter().any(|other| other == alias)),
        };
        let Some(row) = found else { return Ok(Self { name: name.to_owned(), ..Self::default() }) };
        Ok(Self {
            name: name.to_owned(),
            version: text(row, 0).parse().map_err(|_| Error::Answer(format!("version {}", text(row, 0))))?,
            aliases: text(row, 2),
            model_type: text(row, 3),
            created_at: text(row, 4),
            features: text(row, 5),
            rows: number(row, 6)?,
            positives: number(row, 7)?,
            source_query: text(row, 8),
            treatment: Some(text(row, 9)).filter(|treatment| !treatment.is_empty()),
            label: text(row, 10),
        })
    }

    /// How its nets were trained, if that is known here; of an uplift model those that learn the outcome.
    async fn training(&self, client: &Client) -> Result<Vec<Net>, Error> {
        // The metrics of an uplift model begin with the stage of the training.
        let sql = format!(
            "SELECT epoch, replace(stage, '.', ' '), max(CASE WHEN what = 'trial' THEN value END), max(CASE WHEN what = 'member' THEN value END), \
             max(CASE WHEN split = 'train' AND what = 'loss' THEN value END), \
             max(CASE WHEN split = 'validation' AND what = 'logloss' THEN value END) \
             FROM (SELECT m.epoch, m.at, m.split, m.value, regexp_replace(m.metric, '^.*[.]', '') AS what, \
             regexp_replace(m.metric, '[^.]*$', '') AS stage FROM ml.training_metrics m JOIN ml.training_runs r ON r.run = m.run \
             WHERE r.model = {} AND r.version = {} AND r.trial IS NULL) AS q \
             WHERE stage IN ('', 'outcome.', 'treated.', 'control.') GROUP BY epoch, at, stage ORDER BY at, epoch",
            literal(&self.name),
            self.version
        );
        let mut nets: Vec<Net> = Vec::new();
        let mut last = None;
        for row in rows(client, &sql).await? {
            let net = (text(&row, 1), text(&row, 2), text(&row, 3));
            if last.as_ref() != Some(&net) {
                nets.push(Net { name: format!("{}net {}", net.0, net.2), epochs: Vec::new() });
                last = Some(net);
            }
            if let (Some(net), Some(epoch)) = (nets.last_mut(), number(&row, 0)?) {
                net.epochs.push((epoch, number(&row, 4)?, number(&row, 5)?));
            }
        }
        Ok(nets)
    }
}

impl Figure {
    fn of(row: &Row) -> Result<Self, Error> {
        let interval = number(row, 2)?.zip(number(row, 3)?);
        Ok(Self { metric: text(row, 0), value: number(row, 1)?, interval })
    }
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Row>, Error> {
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(client.simple_query(sql).await?.into_iter().filter_map(row).collect())
}

/// A value as text; empty for NULL.
fn text(row: &Row, column: usize) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

fn number(row: &Row, column: usize) -> Result<Option<f64>, Error> {
    let Some(Some(text)) = row.get(column) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::Answer(format!("{text:?} is no number")))
}

/// A row of numbers from this column on; NULL is NaN.
fn numbers<const N: usize>(row: &Row, first: usize) -> Result<[f64; N], Error> {
    let mut numbers = [f64::NAN; N];
    for (place, value) in numbers.iter_mut().enumerate() {
        *value = number(row, first + place)?.unwrap_or(f64::NAN);
    }
    Ok(numbers)
}

/// Rows of numbers.
async fn curve<const N: usize>(client: &Client, sql: &str) -> Result<Vec<[f64; N]>, Error> {
    let row = |row: &Row| match row.len() {
        columns if columns == N => numbers(row, 0),
        columns => Err(Error::Answer(format!("{columns} columns instead of {N}"))),
    };
    rows(client, sql).await?.iter().map(row).collect()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!((literal("it's"), quoted("a \"b\"")), ("'it''s'".to_owned(), "\"a \"\"b\"\"\"".to_owned()));
    }
}
