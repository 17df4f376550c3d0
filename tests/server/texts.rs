//! `sql/text.sql` shows what it says, on real data.

use std::io::Write;
use std::path::Path;

use crate::clients::psql;
use crate::demo::sample_data;
use crate::running::Running;

/// The files of part 2, each with what psql says where it is absent.
const FILES: [(&str, &str); 3] = [
    ("support/intents_train.parquet", "7. left out"),
    ("support/answers_train.parquet", "8. left out"),
    ("reviews/reviews_zh_train.parquet", "9. left out"),
];

#[test]
fn psql_runs_the_texts_and_shows_how_good_the_models_are() {
    let folder = sample_data();
    let mut there = [false; 3];
    for ((file, _), there) in FILES.iter().zip(&mut there) {
        let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(file), folder.path().join(file));
        *there = from.is_file();
        if *there {
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            std::fs::copy(&from, &to).expect("copied");
        } else {
            // past the capture of test output, which hides what a passing test prints
            writeln!(std::io::stderr().lock(), "SKIPPED a part of sql/text.sql: {} is not there", from.display()).expect("open");
        }
    }
    let server = Running::over(folder.path(), &[]);
    let run = psql(&server, &["-v", "ON_ERROR_STOP=1", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/sql/text.sql")]);
    let (shown, failed) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{shown}\n{failed}");
    let rows: Vec<Vec<&str>> =
        shown.lines().filter(|line| line.contains('|')).map(|line| line.split('|').map(str::trim).collect()).collect();
    let number = |cell: &str| cell.parse::<f64>().unwrap_or_else(|_| panic!("{cell} is no number in\n{shown}"));
    let row = |first: &str, cells: usize| {
        let found = rows.iter().rfind(|row| row[0] == first && row.len() == cells);
        found.unwrap_or_else(|| panic!("no row {first} in\n{shown}"))
    };
    let stars = ["1", "2", "3", "4", "5"].map(|stars| number(row(stars, 4)[2]));
    assert!(stars[0] < -0.5 && stars[1] < stars[2] && stars[2] < stars[3] && stars[4] > 0.5, "{stars:?}");
    for lang in ["en", "de", "fr", "es"] {
        assert!(number(row(lang, 3)[2]) > 0.95, "{shown}");
    }
    assert!(shown.contains("no answer from the support | Avoid. Two e-mails to support and still no answer."), "{shown}");
    for label in ["brand", "colour"] {
        let told = row(label, 3);
        assert!(number(told[1]) > 0.8 * number(told[2]) && number(told[2]) > 40.0, "{told:?} in\n{shown}");
    }
    let after: Vec<&str> = ["101", "102", "103", "104"].iter().map(|customer| row(customer, 3)[2]).collect();
    assert!(after.iter().all(|headline| headline.starts_with("Just in")), "{after:?} in\n{shown}");
    for ((_, left_out), there) in FILES.iter().zip(there) {
        assert_eq!(shown.contains(left_out), !there, "{shown}");
    }
    if there[0] {
        assert!(number(row("macro avg", 5)[3]) > 0.97, "{shown}");
        assert_eq!(row("i want my money back", 2)[1], "get_refund");
    }
    if there[1] {
        assert!(failed.contains("no good answer") && shown.contains("refund policy"), "{shown}\n{failed}");
    }
    if there[2] {
        assert!(number(row("macro avg", 3)[1]) > 0.91, "{shown}");
    }
}
