//! The Open Bandit sample: from the CSV files of the `obp` package to Parquet tables.
//!
//! Saito, Aihara, Matsutani, Narita: «Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy Evaluation»,
//! NeurIPS 2021 Datasets and Benchmarks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use chrono::DateTime;
use clap::Args;
use csv::StringRecord;
use datafusion::arrow::array::{
    ArrayRef, Float32Builder, Float64Array, Float64Builder, Int32Array, Int32Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use md5::{Digest, Md5};

use crate::sample::table::{self, Staging, TableWriter, Written};

/// Arguments of `stratagem convert-bandit`.
#[derive(Debug, Clone, Args)]
pub struct ConvertBanditArgs {
    /// Folder of the CSV files as the package `obp` 0.4.1 holds them under `obp/dataset/obd`: POLICY/CAMPAIGN/CAMPAIGN.csv and
    /// POLICY/CAMPAIGN/item_context.csv, with the policies `random` and `bts` and the campaigns `all` and `men`
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Folder for the tables (impressions_random, impressions_bts, items, each one Parquet file) and their README; tables of these
    /// names in it are replaced
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// Why the sample could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A CSV file cannot be opened.
    #[error("{} cannot be read ({source}), run `make setup` to fetch it again", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A CSV file is not what the package holds.
    #[error("{} is damaged at line {line} ({reason}), run `make setup` to fetch it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// What is wrong in it.
        reason: String,
    },
    /// A table cannot be written.
    #[error(transparent)]
    Write(#[from] table::Error),
}

impl Error {
    /// What the user can do about it, where the message does not say so itself.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => None,
            Self::Write(error) => Some(error.hint()),
        }
    }
}

const POLICIES: [(&str, &str); 2] = [("random", "impressions_random"), ("bts", "impressions_bts")];
const CAMPAIGNS: [&str; 2] = ["all", "men"];
const USER_FEATURES: [&str; 4] = ["user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3"];
const README: &str = include_str!("bandit/README.md");

/// Converts the CSV files in `args.from` into the tables in `args.to` and says on `out` what was written.
pub fn run(args: &ConvertBanditArgs, out: &mut dyn Write) -> Result<(), Error> {
    let staging = Staging::new(&args.to)?;
    let mut tables = vec![write_items(&args.from, staging.folder())?];
    for (policy, table) in POLICIES {
        tables.push(write_impressions(&args.from, policy, table, staging.folder())?);
    }
    let readme = staging.folder().join("README.md");
    fs::write(&readme, README).map_err(table::Error::io(&readme))?;
    staging.publish(&tables, &["README.md"])?;
    for Written { name, rows, bytes, .. } in tables {
        writeln!(out, "{name}: {rows} rows, {} KiB", bytes.div_ceil(1024)).map_err(table::Error::io(Path::new("standard output")))?;
    }
    Ok(())
}

fn write_items(from: &Path, folder: &Path) -> Result<Written, Error> {
    let features = ["item_feature_1", "item_feature_2", "item_feature_3"];
    let (mut campaigns, mut ids, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let mut hashes = [Vec::new(), Vec::new(), Vec::new()];
    for campaign in CAMPAIGNS {
        let mut csv = Csv::open(from.join("random").join(campaign).join("item_context.csv"))?;
        let (id, number) = (csv.column("item_id")?, csv.column("item_feature_0")?);
        let columns = csv.columns(&features)?;
        while csv.next()? {
            campaigns.push(campaign);
            ids.push(csv.parse::<i32>(id)?);
            numbers.push(csv.parse::<f64>(number)?);
            for (hashes, column) in hashes.iter_mut().zip(&columns) {
                hashes.push(csv.short_hash(*column)?.to_owned());
            }
        }
    }
    let mut fields =
        vec![text("campaign"), Field::new("item_id", DataType::Int32, false), Field::new("item_feature_0", DataType::Float64, false)];
    fields.extend(features.map(text));
    let mut arrays: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(campaigns)), Arc::new(Int32Array::from(ids)), Arc::new(Float64Array::from(numbers))];
    arrays.extend(hashes.into_iter().map(|hashes| Arc::new(StringArray::from(hashes)) as ArrayRef));
    let schema = Arc::new(Schema::new(fields));
    let mut table = TableWriter::new(folder, "items", schema.clone(), None);
    table.write(&batch(schema, arrays))?;
    Ok(table.finish()?)
}

fn write_impressions(from: &Path, policy: &str, name: &'static str, folder: &Path) -> Result<Written, Error> {
    let mut table = TableWriter::new(folder, name, Impressions::schema(), None);
    for campaign in CAMPAIGNS {
        let mut csv = Csv::open(from.join(policy).join(campaign).join(format!("{campaign}.csv")))?;
        let layout = Layout::of(&csv)?;
        let mut impressions = Impressions::default();
        while csv.next()? {
            impressions.push(policy, campaign, &csv, &layout)?;
        }
        table.write(&impressions.finish())?;
    }
    Ok(table.finish()?)
}

/// Where the columns of an impression file stand.
struct Layout {
    timestamp: usize,
    item_id: usize,
    position: usize,
    click: usize,
    propensity: usize,
    features: Vec<usize>,
    affinities: Vec<usize>,
}

impl Layout {
    fn of(csv: &Csv) -> Result<Self, Error> {
        let affinities: Vec<usize> =
            (0..).map_while(|item| csv.header.iter().position(|name| name == format!("user-item_affinity_{item}"))).collect();
        if affinities.is_empty() {
            return Err(csv.damaged("there is no column `user-item_affinity_0`".to_owned()));
        }
        Ok(Self {
            timestamp: csv.column("timestamp")?,
            item_id: csv.column("item_id")?,
            position: csv.column("position")?,
            click: csv.column("click")?,
            propensity: csv.column("propensity_score")?,
            features: csv.columns(&USER_FEATURES)?,
            affinities,
        })
    }
}

/// The columns of an impression table while they grow.
#[derive(Default)]
struct Impressions {
    ids: StringBuilder,
    campaigns: StringBuilder,
    ts: TimestampMicrosecondBuilder,
    items: Int32Builder,
    positions: Int32Builder,
    clicks: Int32Builder,
    propensities: Float64Builder,
    features: [StringBuilder; 4],
    segments: StringBuilder,
    shown: Float64Builder,
    affinities: ListBuilder<Float32Builder>,
}

impl Impressions {
    fn schema() -> SchemaRef {
        let mut fields = vec![
            text("impression_id"),
            text("campaign"),
            Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("item_id", DataType::Int32, false),
            Field::new("position", DataType::Int32, false),
            Field::new("click", DataType::Int32, false),
            Field::new("propensity", DataType::Float64, false),
        ];
        fields.extend(USER_FEATURES.map(text));
        fields.extend([
            text("user_segment"),
            Field::new("affinity_shown_item", DataType::Float64, false),
            Field::new("user_item_affinity", DataType::List(Arc::new(element())), false),
        ]);
        Arc::new(Schema::new(fields))
    }

    fn push(&mut self, policy: &str, campaign: &str, csv: &Csv, layout: &Layout) -> Result<(), Error> {
        let item: usize = csv.parse(layout.item_id)?;
        if item >= layout.affinities.len() {
            return Err(csv.damaged(format!("item {item} is none of the {} items", layout.affinities.len())));
        }
        self.ids.append_value(format!("{policy}-{campaign}-{}", csv.row));
        self.campaigns.append_value(campaign);
        self.ts.append_value(csv.timestamp(layout.timestamp)?);
        self.items.append_value(item as i32);
        self.positions.append_value(csv.within(layout.position, 1..=3)?);
        self.clicks.append_value(csv.within(layout.click, 0..=1)?);
        self.propensities.append_value(csv.within(layout.propensity, f64::MIN_POSITIVE..=1.0)?);
        let mut segment = Md5::new();
        for (index, (column, feature)) in layout.features.iter().zip(&mut self.features).enumerate() {
            let hash = csv.short_hash(*column)?;
            feature.append_value(hash);
            segment.update(if index == 0 { "" } else { "-" });
            segment.update(hash);
        }
        self.segments.append_value(segment.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        self.shown.append_value(csv.parse(layout.affinities[item])?);
        for column in &layout.affinities {
            self.affinities.values().append_value(csv.parse(*column)?);
        }
        self.affinities.append(true);
        Ok(())
    }

    fn finish(mut self) -> RecordBatch {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.campaigns.finish()),
            Arc::new(self.ts.finish().with_timezone("UTC")),
            Arc::new(self.items.finish()),
            Arc::new(self.positions.finish()),
            Arc::new(self.clicks.finish()),
            Arc::new(self.propensities.finish()),
        ];
        arrays.extend(self.features.iter_mut().map(|feature| Arc::new(feature.finish()) as ArrayRef));
        arrays.push(Arc::new(self.segments.finish()));
        arrays.push(Arc::new(self.shown.finish()));
        arrays.push(Arc::new(self.affinities.with_field(element()).finish()));
        batch(Self::schema(), arrays)
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn element() -> Field {
    Field::new("element", DataType::Float32, false)
}

fn batch(schema: SchemaRef, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema, arrays).expect("the arrays are built by the schema")
}

/// A CSV file of the package at one of its rows.
struct Csv {
    path: PathBuf,
    reader: csv::Reader<File>,
    header: StringRecord,
    record: StringRecord,
    /// Number of the record, from 0; -1 before the first.
    row: i64,
}

impl Csv {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|source| Error::Missing { path: path.clone(), source })?;
        let mut csv =
            Self { path, reader: csv::Reader::from_reader(file), header: StringRecord::new(), record: StringRecord::new(), row: -1 };
        csv.header = csv.reader.headers().cloned().map_err(|error| csv.unreadable(&error))?;
        Ok(csv)
    }

    /// Goes to the next record; false after the last. A file without records is damaged.
    fn next(&mut self) -> Result<bool, Error> {
        let found = self.reader.read_record(&mut self.record).map_err(|error| self.unreadable(&error))?;
        if !found && self.row < 0 {
            return Err(self.damaged("it has no rows".to_owned()));
        }
        self.row += i64::from(found);
        Ok(found)
    }

    fn column(&self, name: &str) -> Result<usize, Error> {
        self.header.iter().position(|column| column == name).ok_or_else(|| self.damaged(format!("there is no column `{name}`")))
    }

    fn columns(&self, names: &[&str]) -> Result<Vec<usize>, Error> {
        names.iter().map(|name| self.column(name)).collect()
    }

    fn parse<T: FromStr>(&self, column: usize) -> Result<T, Error> {
        self.record[column].parse().map_err(|_| self.unexpected(column))
    }

    fn within<T: FromStr + PartialOrd>(&self, column: usize, range: std::ops::RangeInclusive<T>) -> Result<T, Error> {
        let value = self.parse(column)?;
        if range.contains(&value) { Ok(value) } else { Err(self.unexpected(column)) }
    }

    /// Microseconds since 1970 in UTC.
    fn timestamp(&self, column: usize) -> Result<i64, Error> {
        let time = DateTime::parse_from_str(&self.record[column], "%Y-%m-%d %H:%M:%S%.f%:z");
        time.map(|time| time.timestamp_micros()).map_err(|_| self.unexpected(column))
    }

    /// The first twelve hex digits of a hashed category: as good as all 32 to tell categories apart, and readable.
    fn short_hash(&self, column: usize) -> Result<&str, Error> {
        let short = self.record[column].get(..12).filter(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        short.ok_or_else(|| self.unexpected(column))
    }

    fn unexpected(&self, column: usize) -> Error {
        self.damaged(format!("`{}` is `{}`", &self.header[column], &self.record[column]))
    }

    fn damaged(&self, reason: String) -> Error {
        let line = self.record.position().map_or(1, csv::Position::line);
        Error::Damaged { path: self.path.clone(), line, reason }
    }

    fn unreadable(&self, error: &csv::Error) -> Error {
        let line = error.position().map_or_else(|| self.reader.position().line(), csv::Position::line).max(1);
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} fields where {expected_len} belong"),
            csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
            csv::ErrorKind::Io(error) => error.to_string(),
            _ => "it is not CSV".to_owned(),
        };
        Error::Damaged { path: self.path.clone(), line, reason }
    }
}
