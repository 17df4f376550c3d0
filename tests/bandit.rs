//! Promises about the conversion of the Open Bandit sample.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stratagem::bandit::{ConvertBanditArgs, Error, run};

const TABLES: [&str; 3] = ["impressions_bts", "impressions_random", "items"];

fn convert(from: &Path, to: &Path) -> Result<String, Error> {
    let mut out = Vec::new();
    run(&ConvertBanditArgs { from: from.to_owned(), to: to.to_owned() }, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn read(path: &Path) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// A package of two items and two impressions in each file.
fn small_package(folder: &Path) {
    let header = "timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3";
    let hash = |letter: &str| letter.repeat(32);
    for (policy, campaign) in [("random", "all"), ("random", "men"), ("bts", "all"), ("bts", "men")] {
        let folder = folder.join(policy).join(campaign);
        fs::create_dir_all(&folder).unwrap();
        let items = format!(
            ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n0,0,-0.5,{a},{b},{a}\n1,1,0.5,{b},{b},{a}\n",
            a = hash("a"),
            b = hash("b")
        );
        fs::write(folder.join("item_context.csv"), items).unwrap();
        let users = format!("{},{},{},{}", hash("0"), hash("1"), hash("2"), hash("3"));
        let rows = format!(
            ",{header},user-item_affinity_0,user-item_affinity_1\n\
             0,2019-11-24 00:00:17.004101+00:00,1,2,0,0.25,{users},0.0,3.0\n\
             1,2019-11-24 00:01:17+00:00,0,3,1,0.75,{users},1.0,0.0\n"
        );
        fs::write(folder.join(format!("{campaign}.csv")), rows).unwrap();
    }
}

/// Says so past the capture of test output, which hides what a passing test prints.
fn skipped(why: &str) {
    let mut terminal = std::io::stderr().lock();
    writeln!(terminal, "SKIPPED converted_sample_equals_the_reference: {why}").unwrap();
}

#[test]
fn converted_sample_equals_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = root.join("../shared/data/bandit");
    let cache = std::env::var_os("STRATAGEM_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).map(|base| base.join("stratagem"))
    });
    let Some(csv) = cache.map(|cache| cache.join("assets/obp")).filter(|csv| csv.join("random/all/all.csv").is_file()) else {
        return skipped("the Open Bandit CSV files are not installed, run `make setup`");
    };
    if !reference.is_dir() {
        return skipped(&format!("there is no reference at {}", reference.display()));
    }
    let folder = tempfile::tempdir().unwrap();
    convert(&csv, folder.path()).unwrap();
    for table in TABLES {
        let (made, expected) = (read(&folder.path().join(format!("{table}.parquet"))), read(&reference.join(format!("{table}.parquet"))));
        assert_eq!(made.num_rows(), expected.num_rows());
        assert_eq!(made.num_columns(), expected.num_columns());
        for field in expected.schema().fields() {
            let column = made.column_by_name(field.name()).unwrap_or_else(|| panic!("{table} has no column {}", field.name()));
            // the reference allows missing values inside its lists, we do not
            let column = cast(column, field.data_type()).unwrap();
            assert_eq!(&column, expected.column_by_name(field.name()).unwrap(), "{table}.{}", field.name());
        }
    }
}

#[test]
fn conversion_names_its_tables_and_gives_credit() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_package(from.path());
    let said = convert(from.path(), to.path()).unwrap();
    for table in TABLES {
        assert!(said.contains(&format!("{table}: 4 rows")), "{said}");
    }
    let mut names: Vec<_> = fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["README.md", "impressions_bts.parquet", "impressions_random.parquet", "items.parquet"]);
    let readme = fs::read_to_string(to.path().join("README.md")).unwrap();
    for credit in ["ZOZO", "Saito", "CC BY 4.0"] {
        assert!(readme.contains(credit), "{credit}");
    }
    for column in read(&to.path().join("impressions_bts.parquet")).schema().fields() {
        let named = readme.contains(column.name()) || column.name().starts_with("user_feature_");
        assert!(named, "the README does not explain {}", column.name());
    }
}

#[test]
fn same_files_convert_to_the_same_bytes() {
    let (from, first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_package(from.path());
    convert(from.path(), first.path()).unwrap();
    convert(from.path(), second.path()).unwrap();
    convert(from.path(), second.path()).unwrap();
    for table in TABLES {
        let bytes = |folder: &Path| fs::read(folder.join(format!("{table}.parquet"))).unwrap();
        assert!(bytes(first.path()) == bytes(second.path()), "{table}");
    }
}

#[test]
fn missing_file_is_named_with_the_repair() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_package(from.path());
    let gone = from.path().join("bts/men/men.csv");
    fs::remove_file(&gone).unwrap();
    let message = convert(from.path(), to.path()).unwrap_err().to_string();
    assert!(message.contains(gone.to_str().unwrap()) && message.contains("`make setup`"), "{message}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "nothing is published when something is missing");
}

#[test]
fn damage_is_found_and_its_line_named() {
    let damages: [(&str, &str, u64); 9] = [
        ("0,2019-11-24 00:00:17.004101+00:00,1,2", "0,yesterday,1,2", 2),
        ("17+00:00,0,3,1,0.75", "17+00:00,9,3,1,0.75", 3),
        ("17+00:00,0,3,1,0.75", "17+00:00,0,4,1,0.75", 3),
        ("17+00:00,0,3,1,0.75", "17+00:00,0,3,2,0.75", 3),
        ("17+00:00,0,3,1,0.75", "17+00:00,0,3,1,0", 3),
        ("17+00:00,0,3,1,0.75", "17+00:00,0,3,1,NaN", 3),
        (",1.0,0.0\n", ",1.0", 3),
        ("propensity_score", "p", 1),
        ("33333333,0.0,3.0", "3333333ü,0.0,oops", 2),
    ];
    for (find, put, line) in damages {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        small_package(from.path());
        let path = from.path().join("random/men/men.csv");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(find), "{find}");
        fs::write(&path, text.replace(find, put)).unwrap();
        let error = convert(from.path(), to.path()).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path: named, line: found, .. } if *named == path && *found == line), "{put}: {error}");
        assert!(error.to_string().contains("`make setup`"));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}

#[test]
fn file_cut_off_in_the_middle_is_damaged() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_package(from.path());
    let path = from.path().join("bts/all/all.csv");
    let text = fs::read(&path).unwrap();
    for length in [0, 40, text.len() / 3, text.len() - 40] {
        fs::write(&path, &text[..length]).unwrap();
        let error = convert(from.path(), to.path()).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path: named, .. } if *named == path), "{length}: {error}");
    }
}
