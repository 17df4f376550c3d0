use std::fs::File;

use super::super::tests::{name, publish, resolve};
use super::*;

/// Makes the registry remember: as if the last change were an hour ago, and someone had asked since.
fn remember(registry: &Registry) -> u32 {
    for path in [registry.root().join("ctr"), registry.root().join(ALIASES)] {
        if let Ok(file) = File::open(path) {
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }
    let version = resolve(registry, "ctr").unwrap();
    assert!(registry.known.0.lock().unwrap().contains_key(&name("ctr")));
    version
}

#[test]
fn a_reference_means_what_another_process_has_just_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (Registry::open(folder.path()).unwrap(), Registry::open(folder.path()).unwrap());
    publish(&there, "ctr", b"");
    assert_eq!(remember(&here), 1);
    publish(&there, "ctr", b"");
    assert_eq!(resolve(&here, "ctr").unwrap(), 2);
    assert_eq!(remember(&here), 2);
    there.set_alias(&name("ctr"), DEFAULT_ALIAS, 1).unwrap();
    assert_eq!(resolve(&here, "ctr").unwrap(), 1);
    assert_eq!(remember(&here), 1);
    there.remove_alias(&name("ctr"), DEFAULT_ALIAS).unwrap();
    assert_eq!(resolve(&here, "ctr").unwrap(), 2);
    assert_eq!(remember(&here), 2);
    there.remove(&name("ctr"), Some(2)).unwrap();
    assert_eq!(resolve(&here, "ctr").unwrap(), 1);
    assert_eq!(remember(&here), 1);
    there.remove(&name("ctr"), None).unwrap();
    assert!(matches!(resolve(&here, "ctr"), Err(Error::NoSuchModel { .. })));
}

#[test]
fn two_changes_within_one_tick_of_the_clock_are_both_seen() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for version in 1..=50 {
        publish(&registry, "ctr", b"");
        assert_eq!(resolve(&registry, "ctr").unwrap(), version);
        assert_eq!(resolve(&registry, "ctr@latest").unwrap(), version);
    }
}
