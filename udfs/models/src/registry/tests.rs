use std::collections::BTreeSet;
use std::sync::Barrier;

use super::*;
use crate::click::{Progress, TrainOptions};

pub(super) fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn manifest(model: &str) -> Manifest {
    Manifest {
        format: 1,
        name: name(model),
        version: 0,
        kind: Kind::Click,
        parent: None,
        created_at: "2026-01-02T03:04:05.000Z".to_owned(),
        source: Source { label: "click".to_owned(), query: "SELECT 1".to_owned(), rows: 1 },
        source_sha256: sha256(b"SELECT 1"),
        rows: 1,
        positives: 1,
        seed: 0,
        features: Vec::new(),
        transform: None,
        options: TrainOptions::default(),
        calibration: Vec::new(),
        epochs: Vec::new(),
        kept: Progress::default(),
        evaluation: None,
        runtime: "1.32.0".to_owned(),
        files: BTreeMap::new(),
    }
}

pub(super) fn publish(registry: &Registry, model: &str, bytes: &[u8]) -> u32 {
    registry.publish(manifest(model), &[("weights".to_owned(), bytes.to_vec())]).unwrap()
}

pub(super) fn resolve(registry: &Registry, reference: &str) -> Result<u32> {
    registry.resolve(&reference.parse().unwrap()).map(|(_, version)| version)
}

#[test]
fn a_version_reads_back_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path().join("a/b")).unwrap();
    assert_eq!(publish(&registry, "ctr", b"one"), 1);
    assert_eq!(publish(&registry, "ctr", b"two"), 2);
    let registry = Registry::open(registry.root()).unwrap();
    let stored = registry.read(&name("ctr"), 1).unwrap();
    assert_eq!(stored.files["weights"], b"one");
    assert_eq!((stored.manifest.version, stored.manifest.source.label.as_str()), (1, "click"));
    let list = registry.list().unwrap();
    assert_eq!(list.iter().map(|v| (v.version, v.is_default)).collect::<Vec<_>>(), [(1, false), (2, true)]);
    assert_eq!(list[0].created_at(), Some("2026-01-02T03:04:05.000Z"));
}

#[test]
fn a_changed_byte_is_found_and_the_model_named() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for _ in 0..4 {
        publish(&registry, "ctr", b"weights");
    }
    let file = |version: u32, file: &str| registry.version_directory(&name("ctr"), version).join(file);
    fs::write(file(1, "weights"), b"weightz").unwrap();
    fs::write(file(2, "weights"), b"weight").unwrap();
    let text = fs::read_to_string(file(3, MANIFEST)).unwrap();
    fs::write(file(3, MANIFEST), text.replace("\"positives\": 1", "\"positives\": 2")).unwrap();
    fs::remove_file(file(4, "weights")).unwrap();
    let expected = [
        "model \"ctr@1\" is damaged: weights does not match its SHA-256",
        "model \"ctr@2\" is damaged: weights has 6 bytes instead of 7",
        "model \"ctr@3\" is damaged: manifest.json does not match its SHA-256",
        "model \"ctr@4\" is damaged: weights: No such file",
    ];
    for (version, expected) in (1..).zip(expected) {
        let error = registry.read(&name("ctr"), version).err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().starts_with(expected), "{error}");
    }
    let damaged = registry.list().unwrap().iter().filter(|v| matches!(v.state, State::Damaged(_))).map(|v| v.version).collect::<Vec<_>>();
    assert_eq!(damaged, [3]);
}

#[test]
fn two_writers_of_one_name_get_a_version_each() {
    const WRITERS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(WRITERS);
    let versions: BTreeSet<(u32, usize)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (barrier, folder) = (&barrier, folder.path());
                scope.spawn(move || {
                    let registry = Registry::open(folder).unwrap();
                    barrier.wait();
                    (publish(&registry, "ctr", writer.to_string().as_bytes()), writer)
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    assert!(versions.iter().map(|(version, _)| *version).eq(1..=WRITERS as u32));
    let registry = Registry::open(folder.path()).unwrap();
    for (version, writer) in versions {
        assert_eq!(registry.read(&name("ctr"), version).unwrap().files["weights"], writer.to_string().as_bytes());
    }
}

#[test]
fn aliases_survive_reopening_and_default_follows_them() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    publish(&registry, "ctr", b"");
    publish(&registry, "ctr", b"");
    assert_eq!(resolve(&registry, "ctr").unwrap(), 2);
    registry.set_alias(&name("ctr"), "champion", 1).unwrap();
    registry.set_alias(&name("ctr"), DEFAULT_ALIAS, 1).unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for (reference, version) in [("ctr", 1), ("ctr@champion", 1), ("ctr@default", 1), ("ctr@latest", 2), ("ctr@2", 2)] {
        assert_eq!(resolve(&registry, reference).unwrap(), version, "{reference}");
    }
    assert_eq!(registry.list().unwrap()[0].aliases, ["champion", "default"]);
    registry.remove_alias(&name("ctr"), DEFAULT_ALIAS).unwrap();
    assert_eq!(resolve(&registry, "ctr").unwrap(), 2);
    assert!(registry.set_alias(&name("ctr"), "latest", 1).is_err());
    assert!(matches!(registry.set_alias(&name("ctr"), "next", 3), Err(Error::NoSuchVersion { latest: 2, .. })));
}

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let error = resolve(&registry, "ctr").unwrap_err();
    assert_eq!(error.hint().unwrap(), "no model has been trained yet");
    publish(&registry, "ctr", b"");
    publish(&registry, "churn", b"");
    let error = resolve(&registry, "crt").unwrap_err();
    assert_eq!((error.to_string().as_str(), error.hint().unwrap().as_str()), ("model \"crt\" does not exist", "models: churn, ctr"));
    let error = resolve(&registry, "ctr@7").unwrap_err();
    assert_eq!(error.hint().unwrap(), "the latest version is 1");
    registry.set_alias(&name("ctr"), "champion", 1).unwrap();
    let error = resolve(&registry, "ctr@chmpion").unwrap_err();
    assert_eq!(error.to_string(), "model \"ctr\" has no alias \"chmpion\"");
    assert_eq!(error.hint().unwrap(), "aliases: champion");
}

#[test]
fn folders_of_dead_writers_are_swept_but_not_those_of_living_ones() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".new-1-0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("weights"), b"half").unwrap();
    let living = Lock::take(folder.path().join(".writers"), Sharing::Shared, Duration::ZERO).unwrap();
    Registry::open(folder.path()).unwrap();
    assert!(left.exists());
    drop(living);
    let registry = Registry::open(folder.path()).unwrap();
    assert!(!left.exists());
    assert!(registry.list().unwrap().is_empty());
}
