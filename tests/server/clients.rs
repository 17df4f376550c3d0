//! psql as a person uses it.

use std::process::{Command, Output};

use crate::running::Running;

/// Runs psql with these arguments against the server.
pub(crate) fn psql(server: &Running, arguments: &[&str]) -> Output {
    Command::new("psql")
        .args(["-X", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "test", "-d", "stratagem", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .env("PGCONNECT_TIMEOUT", "10")
        .output()
        .expect("psql is installed (Debian: apt-get install postgresql-client)")
}

/// What a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn psql_shows_rows_as_it_shows_postgresqls() {
    let server = Running::start();
    let run = psql(&server, &["-c", "SELECT id, name, price FROM items WHERE id < 3 ORDER BY id"]);
    let expected = " id |  name  | price \n----+--------+-------\n  1 | item 1 |   1.5\n  2 | item 2 |     3\n(2 rows)\n\n";
    assert_eq!(text(&run.stdout), expected, "{}", text(&run.stderr));
}

#[test]
fn psql_lists_tables_views_and_schemas() {
    let server = Running::start();
    let listed = psql(&server, &["-c", "\\dt public.*"]);
    assert!(text(&listed.stdout).contains("items"), "{}{}", text(&listed.stdout), text(&listed.stderr));
    psql(&server, &["-c", "CREATE VIEW dear AS SELECT * FROM items WHERE price > 3"]);
    let views = psql(&server, &["-c", "\\dv *.*"]);
    assert!(text(&views.stdout).contains("dear"), "{}{}", text(&views.stdout), text(&views.stderr));
    let schemas = psql(&server, &["-c", "\\dn"]);
    assert!(
        ["public", "work", "ml"].iter().all(|s| text(&schemas.stdout).contains(s)),
        "{}{}",
        text(&schemas.stdout),
        text(&schemas.stderr)
    );
}

#[test]
fn psql_describes_relations_functions_roles_and_types() {
    let server = Running::start();
    psql(&server, &["-c", "CREATE VIEW dear AS SELECT id, price FROM items WHERE price > 3"]);
    for (command, expected) in [
        ("\\d items", vec!["Table \"public.items\"", " id     | bigint ", " price  | double precision "]),
        ("\\d+ items", vec!["Table \"public.items\"", " name   | text ", "Storage"]),
        ("\\l+", vec![" stratagem | ", "UTF8", "bytes"]),
        ("\\dd", vec!["Object descriptions"]),
        ("\\dO", vec!["List of collations"]),
        ("\\dL", vec!["List of languages"]),
        ("\\dconfig", vec!["application_name  | psql"]),
        ("\\d dear", vec!["View \"work.dear\"", " id     | bigint "]),
        ("\\d+ dear", vec!["View definition:", "SELECT id, price FROM items WHERE price > 3"]),
        ("\\sv dear", vec!["CREATE OR REPLACE VIEW work.dear AS"]),
        ("\\dt+", vec![" public | items | table | test "]),
        ("\\df ml.predict", vec!["model text, query text", "TABLE("]),
        ("\\df+ predict_ctr", vec!["double precision", "model text"]),
        ("\\sf auc", vec!["CREATE OR REPLACE FUNCTION public.auc(", "RETURNS double precision"]),
        ("\\du", vec![" test "]),
        ("\\dTS int4", vec![" pg_catalog | integer "]),
    ] {
        let shown = psql(&server, &["-c", command]);
        for expected in expected {
            let (said, error) = (text(&shown.stdout), text(&shown.stderr));
            assert!(said.contains(expected), "{command}: no {expected:?} in\n{said}{error}");
        }
    }
    // what is not in the search path is not listed without its schema
    let listed = psql(&server, &["-c", "\\d"]);
    assert!(text(&listed.stdout).contains("items") && !text(&listed.stdout).contains("training_runs"), "{}", text(&listed.stdout));
}

#[test]
fn psql_draws_the_place_of_an_error() {
    let server = Running::start();
    let run = psql(&server, &["-c", "SELECT id\n  FRM items WHERE"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("LINE 2:"), "{}", text(&run.stderr));
}
