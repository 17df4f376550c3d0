//! The sample shop: `stratagem sample` makes up a shop with customers, products, behaviour, copy experiments and reviews.
//!
//! A click is drawn from a probability that is put together from taste, quality, price, place, hour, device and copy, and that is kept in a
//! table of its own, so a model can be judged against the truth. The same rows and the same seed give the same bytes on every machine.

mod calendar;
mod catalogue;
mod click;
mod copy;
mod customer;
mod log;
mod people;
mod random;
mod review;
mod rows;
mod schedule;
mod session;
mod spill;
pub(crate) mod table;
mod world;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use self::click::Probabilities;
use self::spill::Spill;
pub use self::table::Error as TableError;
use self::table::{Staging, TableWriter, Written};
use self::world::World;

/// Most events that can be asked for; ids and memory are sized for them.
const MOST_ROWS: u64 = 10_000_000_000;
/// Events whose visits are sorted in memory together.
const EVENTS_PER_BUCKET: u64 = 100_000;
/// Names the folder as a sample and says how it was made.
const MARK: &str = "sample.json";

/// Arguments of `stratagem sample`.
#[derive(Debug, Clone, Args)]
pub struct SampleArgs {
    /// Rows of the table `events` (views, carts, purchases), exactly; the other tables follow: a customer for 20 events, about 1.4
    /// impressions (and rows of truth) for an event, a review for 85 events, products twice the square root. 5000, 1_000_000 and 1e8 are
    /// understood
    #[arg(long, value_name = "N", default_value = "100000", value_parser = parse_rows)]
    pub rows: u64,
    /// The same seed gives the same bytes, another seed another shop
    #[arg(long, value_name = "S", default_value_t = 7)]
    pub seed: u64,
    /// Folder for the tables; it must be new, empty or an earlier sample, which is replaced
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Write into a folder that holds other things; only files and folders with the names of the tables are replaced
    #[arg(long)]
    pub force: bool,
}

/// Why no sample was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number of rows is not possible.
    #[error("cannot make {rows} rows")]
    Rows {
        /// What was asked for.
        rows: u64,
    },
    /// The target is a file.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The target.
        path: PathBuf,
    },
    /// The target holds something that is not a sample.
    #[error("{} is not empty and not an earlier sample", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Table(#[from] table::Error),
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Rows { .. } => "--rows takes a number from 1 to 10000000000",
            Self::NotAFolder { .. } => "choose another folder with --to",
            Self::NotEmpty { .. } => "choose another folder with --to, or replace the tables in this one with --force",
            Self::Table(error) => error.hint(),
        }
    }
}

/// Makes the sample that `args` describe and says on `out` what was written.
///
/// The tables appear under their names only when all are complete. Memory does not grow with the rows: the customers are drawn in blocks, and
/// of each block only the beginnings of the visits (20 bytes each, on disk) pass to the second step, which plays them in the order of time.
pub fn run(args: &SampleArgs, out: &mut dyn Write) -> Result<(), Error> {
    if !(1..=MOST_ROWS).contains(&args.rows) {
        return Err(Error::Rows { rows: args.rows });
    }
    check_target(args)?;
    let staging = Staging::new(&args.to)?;
    let tables = write_tables(args, staging.folder(), out)?;
    let mark = staging.folder().join(MARK);
    fs::write(&mark, describe(args, &tables)).map_err(table::Error::io(&mark))?;
    staging.publish(&tables, &[MARK])?;
    for Written { name, rows, bytes, files } in tables {
        let place = if files == 1 { format!("{name}.parquet") } else { format!("{name}/ ({files} files)") };
        say(out, format_args!("{place}: {rows} rows, {}", size(bytes)))?;
    }
    Ok(())
}

fn write_tables(args: &SampleArgs, folder: &Path, out: &mut dyn Write) -> Result<Vec<Written>, Error> {
    let world = World::new(args.seed, args.rows);
    let probabilities = Probabilities::new();
    let buckets = args.rows.div_ceil(EVENTS_PER_BUCKET).min(4_096) as usize;
    let mut spill = Spill::new(&world.calendar, folder, buckets);
    let mut tables = vec![schedule::write(&world, &probabilities, &mut spill, folder)?];
    // small samples are made before one could read about them
    let talks = args.rows >= 1_000_000;
    if talks {
        say(out, format_args!("customers drawn: {}", world.customers))?;
    }
    let mut tenths = 0;
    let mut progress = |written: u64| {
        let now = written * 10 / args.rows;
        if !talks || now == tenths {
            return Ok(());
        }
        tenths = now;
        say(out, format_args!("events written: {written} of {}", args.rows))
    };
    let log = log::write(&world, &probabilities, &mut spill, folder, &mut progress)?;
    for (name, batch) in [("products", rows::products(&world, &log.ratings)), ("copy_variants", rows::copy_variants())] {
        let mut table = TableWriter::new(folder, name, batch.schema(), Some(0));
        table.write(&batch)?;
        tables.push(table.finish()?);
    }
    tables.extend(log.tables);
    Ok(tables)
}

/// Refuses a folder that holds other people's files.
fn check_target(args: &SampleArgs) -> Result<(), Error> {
    let path = args.to.clone();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(Error::NotAFolder { path }),
        Err(error) => return Err(table::Error::io(&path)(error).into()),
    };
    let mut names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    let is_empty = names.all(|name| name == Staging::NAME);
    if is_empty || args.force || path.join(MARK).is_file() { Ok(()) } else { Err(Error::NotEmpty { path }) }
}

fn describe(args: &SampleArgs, tables: &[Written]) -> String {
    let tables: serde_json::Map<_, _> = tables.iter().map(|table| (table.name.to_owned(), json!(table.rows))).collect();
    let described = json!({ "made_by": "stratagem sample", "rows": args.rows, "seed": args.seed, "tables": tables });
    format!("{described:#}\n")
}

fn say(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), table::Error> {
    writeln!(out, "{line}").map_err(table::Error::io(Path::new("standard output")))
}

fn size(bytes: u64) -> String {
    match bytes {
        ..10_485_760 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// A number of rows, as digits with or without `_`, or as `1e8`.
fn parse_rows(text: &str) -> Result<u64, String> {
    let wrong = || "not a number of rows from 1 to 10000000000, such as 5000, 1_000_000 or 1e8".to_owned();
    let digits = text.replace('_', "");
    let rows = match digits.split_once(['e', 'E']) {
        Some((factor, power)) => {
            let power = power.parse().ok().and_then(|power| 10u64.checked_pow(power));
            factor.parse::<u64>().ok().zip(power).and_then(|(factor, power)| factor.checked_mul(power))
        }
        None => digits.parse().ok(),
    };
    rows.filter(|rows| (1..=MOST_ROWS).contains(rows)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_understood_as_people_write_them() {
        assert_eq!(parse_rows("5000"), Ok(5_000));
        assert_eq!(parse_rows("10_000"), Ok(10_000));
        assert_eq!(parse_rows("1e8"), Ok(100_000_000));
        for wrong in ["0", "", "-1", "many", "1.5e3", "1e30", "99999999999", "0e3"] {
            assert!(parse_rows(wrong).is_err(), "{wrong}");
        }
    }
}
