//! `sql/evaluate.sql` shows what it says, on real data.

use std::io::Write;
use std::path::Path;

use crate::clients::psql;
use crate::demo::sample_data;
use crate::running::Running;

/// What other policies would have earned, in percent; as `evaluate.py` computes it apart from the server: campaign, policy, ips with its
/// interval; snips; effective sample size, largest weight, and what the policy did earn.
const OFF_POLICY: [([&str; 5], &str, [&str; 3]); 4] = [
    (["all", "random", "0.24", "0.07", "0.41"], "0.23", ["340", "278", "0.38"]),
    (["all", "thompson", "0.5", "0.25", "0.76"], "0.53", ["2639", "10", "0.42"]),
    (["men", "random", "0.3", "0.15", "0.45"], "0.32", ["656", "178", "0.46"]),
    (["men", "thompson", "0.57", "0.29", "0.84"], "0.57", ["2869", "7", "0.69"]),
];

/// The tests of the e-mail arms, from the same script.
const ARMS: [[&str; 8]; 4] = [
    ["Mens E-Mail", "visit", "0.1062", "0.1831", "0.0769", "0.0676", "0.0863", "0"],
    ["Womens E-Mail", "visit", "0.1062", "0.1541", "0.0479", "0.039", "0.0569", "0"],
    ["Mens E-Mail", "spend", "0.5446", "1.2736", "0.7291", "0.3681", "1.09", "8e-05"],
    ["Womens E-Mail", "spend", "0.5446", "1.1093", "0.5647", "0.2028", "0.9267", "0.00223"],
];

/// The cells of the rows that psql shows.
fn cells(shown: &str) -> Vec<Vec<&str>> {
    shown.lines().filter(|line| line.contains('|')).map(|line| line.split('|').map(str::trim).collect()).collect()
}

#[test]
fn psql_runs_the_evaluation_and_shows_the_numbers_of_other_libraries() {
    let folder = sample_data();
    let email = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/experiment/email_experiment_train.parquet");
    if email.is_file() {
        std::fs::create_dir(folder.path().join("experiment")).expect("a folder");
        std::fs::copy(&email, folder.path().join("experiment/email_experiment_train.parquet")).expect("copied");
    }
    let server = Running::over(folder.path(), &[]);
    let run = psql(&server, &["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/sql/evaluate.sql")]);
    let (shown, failed) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{shown}\n{failed}");
    let rows = cells(&shown);
    for (ips, snips, rest) in OFF_POLICY {
        let row = rows.iter().find(|row| row.starts_with(&ips));
        let row = row.unwrap_or_else(|| panic!("no row {ips:?} in\n{shown}"));
        assert_eq!((row[5], &row[8..]), (snips, &rest[..]), "{shown}");
    }
    // A model's numbers are its own: here only that every estimator answers, and that every segment is judged.
    for estimator in ["ips", "snips", "clipped_ips", "dm", "dr", "switch_dr"] {
        assert!(rows.iter().any(|row| row[..2] == ["all", estimator] && row[2].parse::<f64>().is_ok()), "no {estimator} in\n{shown}");
    }
    let segments = ["all", "men"].into_iter().flat_map(|campaign| ["1", "2", "3"].map(|position| [campaign, position]));
    for segment in segments {
        assert!(
            rows.iter().any(|row| row.starts_with(&segment) && row[5].parse::<f64>().is_ok_and(|copc| copc > 0.0)),
            "{segment:?}:\n{shown}"
        );
    }
    if !email.is_file() {
        assert!(shown.contains("Part 2 is left out"), "{shown}");
        // past the capture of test output, which hides what a passing test prints
        let mut terminal = std::io::stderr().lock();
        let why = format!("{} is not there", email.display());
        writeln!(terminal, "SKIPPED the e-mail part of sql/evaluate.sql: {why}").expect("the error stream is open");
        return;
    }
    assert!(rows.iter().any(|row| row[0] == "0.848" && row[1].contains("10777")), "the arms are as large as they should be:\n{shown}");
    for arm in ARMS {
        assert!(rows.iter().any(|row| row.starts_with(&arm)), "no row {arm:?} in\n{shown}");
    }
    // qini, its interval, auuc, what an e-mail adds, what was predicted, and what it adds among the best.
    let held = rows.iter().find(|row| row.len() == 7 && row[4] == "0.0597").unwrap_or_else(|| panic!("no e-mail adds 0.0597 in\n{shown}"));
    let number = |cell: usize| held[cell].parse::<f64>().expect("a number");
    assert!(number(0) > 0.0 && number(1) < number(0) && number(0) < number(2) && (number(5) - number(4)).abs() < 0.02, "{held:?}");
    let deciles: Vec<f64> = rows
        .iter()
        .filter(|row| row.len() == 7 && row[1].parse::<u32>().is_ok_and(|n| n > 900))
        .map(|row| row[5].parse().expect("a number"))
        .collect();
    assert_eq!(deciles.len(), 10, "{shown}");
    assert!(deciles[..5].iter().sum::<f64>() > deciles[5..].iter().sum(), "an e-mail adds more at the top: {deciles:?}");
}

#[test]
fn psql_warns_when_an_estimate_hangs_on_few_rows() {
    let server = Running::start();
    // Of 1,000 rows the first has nearly all weight.
    let asked = |logged: &str| {
        format!(
            "SELECT estimator, rows FROM ml.off_policy(query => $$SELECT value % 2 AS click, 0.5 AS p_new, {logged} AS p_logged \
             FROM generate_series(1, 1000)$$, reward => 'click', target => 'p_new', logged => 'p_logged')"
        )
    };
    let hangs = psql(&server, &["-At", "-c", &asked("CASE WHEN value = 1 THEN 0.00001 ELSE 0.5 END")]);
    let told = String::from_utf8_lossy(&hangs.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&hangs.stdout), "ips|1000\nsnips|1000\nclipped_ips|1000\n", "{told}");
    let warnings: Vec<&str> = told.lines().filter(|line| line.starts_with("WARNING:  ")).collect();
    assert_eq!(warnings.len(), 2, "{told}");
    assert!(warnings[0].contains("the effective sample size of ml.off_policy is 1.0 of 1000 rows"), "{told}");
    assert!(warnings[1].contains("one row has 98 % of all weight of ml.off_policy"), "{told}");
    let rests = psql(&server, &["-At", "-c", &asked("0.5")]);
    assert_eq!(String::from_utf8_lossy(&rests.stderr), "");
}
