//! The main job on real data.

use std::path::PathBuf;

use stratagem::assets::Assets;

use crate::clients::psql;
use crate::running::Running;

/// The sample data of the set-up, linked into a folder of the test's own, so that the state is the test's too.
pub(crate) fn sample_data() -> tempfile::TempDir {
    let data = Assets::locate().expect("the set-up has run (make setup)").data();
    let folder = tempfile::tempdir().expect("a folder");
    for schema in ["open_bandit", "shop"] {
        copy(&data.join(schema), &folder.path().join(schema));
    }
    folder
}

fn copy(from: &PathBuf, to: &PathBuf) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}; run make setup", from.display())) {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to) } else { std::fs::copy(&from, &to).map(|_| ()).expect("copied") }
    }
}

#[test]
fn psql_runs_the_demo_and_a_restart_predicts_the_same_bits() {
    let folder = sample_data();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/demo.sql");
    let query = "SELECT md5(string_agg(p::text, ',' ORDER BY impression_id)), count(p), min(p) > 0, max(p) < 1 \
                 FROM (SELECT b.impression_id, predict_ctr('ctr', b) AS p FROM open_bandit.impressions_bts b LIMIT 2000) s";
    let first = {
        let server = Running::over(folder.path(), &[]);
        let run = psql(&server, &["-f", script]);
        let (shown, failed) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{shown}\n{failed}");
        for word in ["impressions_random", "epoch", "auc", "logloss", "ips", "headline", "10% off."] {
            assert!(shown.contains(word), "no {word} in\n{shown}");
        }
        psql(&server, &["-At", "-c", query]).stdout
    };
    let server = Running::over(folder.path(), &[]);
    let second = psql(&server, &["-At", "-c", query]);
    assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&second.stdout), "{}", String::from_utf8_lossy(&second.stderr));
    assert!(String::from_utf8_lossy(&first).trim().ends_with("|2000|t|t"), "{}", String::from_utf8_lossy(&first));
}
