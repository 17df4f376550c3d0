//! Drivers and tools as their users have them: the programs of tests/clients say of this server what they say of PostgreSQL.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::running::Running;

/// Where what a program needs can't be installed.
const NOT_INSTALLED: i32 = 77;

fn say_the_same(names: &[&str]) {
    let server = Running::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/run.py");
    let url = format!("postgresql://test@127.0.0.1:{}/stratagem", server.port);
    let run = Command::new("python3").arg(script).arg(url).args(names).output();
    let run = run.expect("python3 is installed");
    let (said, complaints) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if run.status.code() == Some(NOT_INSTALLED) {
        // past the capture of test output, which hides what a passing test prints
        let mut terminal = std::io::stderr().lock();
        writeln!(terminal, "SKIPPED the clients {names:?}: {said}").expect("the error stream is open");
        return;
    }
    assert!(run.status.success(), "{said}\n{complaints}");
}

#[test]
fn drivers_of_python_get_the_answers_of_postgresql() {
    say_the_same(&["adbc", "asyncpg", "connectorx", "pg8000", "pgcli", "polars", "psycopg", "psycopg2", "sqlalchemy", "superset"]);
}

#[test]
fn psql_at_a_terminal_shows_what_it_shows_of_postgresql() {
    say_the_same(&["psql"]);
}

#[test]
fn duckdb_attaches_the_database() {
    say_the_same(&["duckdb"]);
}

#[test]
fn drivers_of_node_get_the_answers_of_postgresql() {
    say_the_same(&["node"]);
}

#[test]
fn pgjdbc_gets_the_answers_of_postgresql() {
    say_the_same(&["jdbc"]);
}

#[test]
fn psqlodbc_gets_the_answers_of_postgresql() {
    say_the_same(&["odbc"]);
}

#[test]
fn postgres_fdw_imports_tables_and_pushes_conditions_down() {
    say_the_same(&["fdw"]);
}

#[test]
fn pgbench_runs_its_scripts_in_every_protocol() {
    say_the_same(&["pgbench"]);
}

#[test]
fn dbt_builds_a_project_as_on_postgresql() {
    say_the_same(&["dbt"]);
}
