//! A PostgreSQL of a test's own, where one is installed: what is asked of the server is asked of it, too.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A running PostgreSQL, with the database `stratagem`, the schemas `work` and `public`, and the table `items` in it.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Postgres {
    /// Starts one. None where it is not installed, which is said loudly.
    pub(crate) fn start() -> Option<Self> {
        let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        found.sort();
        let Some(programs) = found.pop() else {
            // past the capture of test output, which hides what a passing test prints
            let mut terminal = std::io::stderr().lock();
            writeln!(terminal, "SKIPPED: no PostgreSQL is installed to compare with (Debian: apt-get install postgresql)")
                .expect("the error stream is open");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        // a port that is free now
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port").port();
        let postgres = Self { programs, folder, port };
        let data = postgres.data();
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(postgres.folder.path()).status().expect("chown runs");
            assert!(owned.success());
        }
        postgres.run("initdb", &["-D", &data, "-U", "test", "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8"]);
        let folder = postgres.folder.path().display();
        let options = format!("-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c TimeZone=UTC");
        postgres.run("pg_ctl", &["-D", &data, "-w", "-o", &options, "-l", &format!("{folder}/log"), "start"]);
        postgres.psql("postgres", "CREATE DATABASE stratagem");
        postgres.psql(
            "stratagem",
            "ALTER DATABASE stratagem SET search_path = work, public; ALTER DATABASE stratagem SET statement_timeout = '5min'",
        );
        postgres.empty();
        Some(postgres)
    }

    /// Makes the schemas anew.
    pub(crate) fn empty(&self) {
        let text = "DROP SCHEMA IF EXISTS work CASCADE; DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA work; CREATE SCHEMA public;
            CREATE TABLE public.items AS SELECT n::bigint AS id, 'item ' || n AS name, n * 1.5::float8 AS price FROM generate_series(1, 5) n";
        self.psql("stratagem", text);
    }

    fn psql(&self, database: &str, text: &str) {
        self.run(
            "psql",
            &[
                "-X",
                "-q",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "test",
                "-d",
                database,
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                text,
            ],
        );
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// Runs a program of PostgreSQL, which does not run as root.
    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = is_root().then(|| account("postgres")).flatten() {
            command.uid(user).gid(group);
        }
        let status = command.status().expect("the program starts");
        assert!(status.success(), "{program} {arguments:?}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|itself| itself.uid() == 0)
}

/// The numbers of a user and its group.
fn account(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let fields: Vec<&str> = users.lines().find(|line| line.starts_with(&format!("{name}:")))?.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
