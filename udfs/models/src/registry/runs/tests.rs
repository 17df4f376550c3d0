use super::*;

fn info(model: &str) -> RunInfo {
    let options = serde_json::json!({ "epochs": 2, "learning_rate": 0.001 });
    RunInfo { model: ModelName::parse(model).unwrap(), rows: 900, options, seed: u64::MAX, trial: Some(2), parent: Some(1) }
}

fn open(folder: &tempfile::TempDir) -> Runs {
    Runs::open(folder.path().join(".runs")).unwrap()
}

fn only(runs: &Runs) -> RunRecord {
    let mut list = runs.list().unwrap();
    assert_eq!(list.len(), 1);
    list.remove(0)
}

#[test]
fn a_run_is_seen_while_it_goes_on_and_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(&folder);
    let mut run = runs.begin(info("ctr")).unwrap();
    assert_eq!((run.id(), only(&runs).status), (1, Status::Running));
    run.metric(1, "train", "loss", 0.5).unwrap();
    run.metrics(2, Some(64), &[("validation", "loss", 0.4), ("validation", "auc", f64::NAN)]).unwrap();
    let seen: Vec<_> = only(&runs).metrics.into_iter().map(|m| (m.epoch, m.step, m.split, m.metric, m.value)).collect();
    let metric = |epoch, step, split: &str, metric: &str, value| (epoch, step, split.to_owned(), metric.to_owned(), value);
    assert_eq!(
        seen,
        [
            metric(1, None, "train", "loss", Some(0.5)),
            metric(2, Some(64), "validation", "loss", Some(0.4)),
            metric(2, Some(64), "validation", "auc", None)
        ]
    );
    let evaluation = Evaluation { split: "validation".to_owned(), metric: "auc".to_owned(), value: Some(0.7), rows: 90 };
    run.finish(Outcome::Succeeded { version: Some(3), evaluations: vec![evaluation.clone()] }).unwrap();
    let record = only(&open(&folder));
    assert_eq!((record.status, record.version, record.error.as_deref()), (Status::Succeeded, Some(3), None));
    assert_eq!((record.info, record.evaluations), (info("ctr"), vec![evaluation]));
    assert!(record.ended_at >= Some(record.started_at));
}

#[test]
fn every_end_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(&folder);
    runs.begin(info("a")).unwrap().finish(Outcome::Canceled).unwrap();
    runs.begin(info("b")).unwrap().finish(Outcome::Failed("no rows".to_owned())).unwrap();
    drop(runs.begin(info("c")).unwrap());
    let ends: Vec<_> = runs.list().unwrap().into_iter().map(|r| (r.id, r.status, r.error, r.ended_at.is_some())).collect();
    let failed = |reason: &str| Some(reason.to_owned());
    assert_eq!(
        ends,
        [
            (1, Status::Canceled, None, true),
            (2, Status::Failed, failed("no rows"), true),
            (3, Status::Failed, failed("it ended without a result"), true)
        ]
    );
}

#[test]
fn a_run_of_a_dead_process_has_failed_and_one_of_a_living_process_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(&folder);
    let living = runs.begin(info("living")).unwrap();
    runs.begin(info("dead")).unwrap().finish(Outcome::Canceled).unwrap();
    // A process that dies leaves its record as it was and a lock file that nobody holds.
    let mut dead = runs.read(2).unwrap().unwrap();
    (dead.status, dead.ended_at) = (Status::Running, None);
    runs.write(&dead).unwrap();
    fs::write(runs.path(2, LOCK), "").unwrap();
    // One died before its first record.
    fs::write(runs.path(7, LOCK), "").unwrap();
    let list = open(&folder).list().unwrap();
    assert_eq!(list.iter().map(|r| (r.id, r.status)).collect::<Vec<_>>(), [(1, Status::Running), (2, Status::Failed)]);
    assert_eq!(list[1].error.as_deref(), Some("the server stopped"));
    living.finish(Outcome::Canceled).unwrap();
    assert!(runs.ids(LOCK).unwrap().is_empty());
    assert_eq!(runs.begin(info("next")).unwrap().id(), 3);
}

#[test]
fn the_oldest_records_give_way_but_no_run_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(&folder);
    let _first = runs.begin(info("ctr")).unwrap();
    for _ in 0..4 {
        runs.begin(info("ctr")).unwrap().finish(Outcome::Canceled).unwrap();
    }
    runs.prune(3).unwrap();
    assert_eq!(runs.list().unwrap().iter().map(|r| r.id).collect::<Vec<_>>(), [1, 4, 5]);
    assert_eq!(runs.begin(info("ctr")).unwrap().id(), 6);
}

#[test]
fn a_damaged_record_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(&folder);
    runs.begin(info("a")).unwrap().finish(Outcome::Canceled).unwrap();
    runs.begin(info("b")).unwrap().finish(Outcome::Canceled).unwrap();
    fs::write(runs.path(1, RECORD), "{").unwrap();
    assert_eq!(only(&runs).id, 2);
}

#[test]
fn two_runs_at_once_have_a_number_each() {
    let folder = tempfile::tempdir().unwrap();
    let ids: BTreeSet<u64> = std::thread::scope(|scope| {
        let begin = || {
            let run = open(&folder).begin(info("ctr")).unwrap();
            run.id()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.into_iter().eq(1..=8));
}
