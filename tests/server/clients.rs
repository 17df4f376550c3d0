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

fn text(bytes: &[u8]) -> String {
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
fn psql_lists_tables_and_describes_one() {
    let server = Running::start();
    let listed = psql(&server, &["-c", "\\dt public.*"]);
    assert!(text(&listed.stdout).contains("items"), "{}{}", text(&listed.stdout), text(&listed.stderr));
    let described = psql(&server, &["-c", "\\d items"]);
    let shown = text(&described.stdout);
    assert!(["id", "name", "price", "double precision", "bigint"].iter().all(|w| shown.contains(w)), "{shown}{}", text(&described.stderr));
}

#[test]
fn psql_fetches_in_pieces_and_draws_the_place_of_an_error() {
    let server = Running::start();
    let run = psql(&server, &["-At", "-v", "FETCH_COUNT=2", "-c", "SELECT id FROM items ORDER BY id"]);
    assert_eq!(text(&run.stdout), "1\n2\n3\n4\n5\n", "{}", text(&run.stderr));
    let run = psql(&server, &["-c", "SELECT id\n  FRM items WHERE"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("LINE 2:"), "{}", text(&run.stderr));
}
