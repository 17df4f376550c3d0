use super::super::DEFAULT_ALIAS;
use super::super::tests::{name, publish, resolve};
use super::*;

fn registry(versions: u32) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    (1..=versions).for_each(|version| assert_eq!(publish(&registry, "ctr", b"weights"), version));
    (folder, registry)
}

#[test]
fn a_number_is_never_given_again() {
    let (_folder, registry) = registry(2);
    registry.remove(&name("ctr"), Some(2)).unwrap();
    assert_eq!(resolve(&registry, "ctr").unwrap(), 1);
    assert_eq!(publish(&registry, "ctr", b""), 3);
    registry.remove(&name("ctr"), None).unwrap();
    assert_eq!(publish(&Registry::open(registry.root()).unwrap(), "ctr", b""), 4);
    assert_eq!(registry.list().unwrap().iter().map(|v| v.version).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_deleted_model_is_gone_with_its_aliases_and_files() {
    let (_folder, registry) = registry(2);
    publish(&registry, "churn", b"");
    registry.set_alias(&name("ctr"), "champion", 1).unwrap();
    registry.set_alias(&name("ctr"), DEFAULT_ALIAS, 2).unwrap();
    registry.remove(&name("ctr"), None).unwrap();
    assert_eq!(resolve(&registry, "ctr").unwrap_err().hint().unwrap(), "models: churn");
    assert!(registry.read(&name("ctr"), 1).is_err());
    assert!(fs::read_dir(registry.root()).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().starts_with(".new-")));
    assert_eq!(publish(&registry, "ctr", b""), 3);
    assert!(matches!(resolve(&registry, "ctr@champion"), Err(Error::NoSuchAlias { .. })));
}

#[test]
fn a_version_with_an_alias_stays() {
    let (_folder, registry) = registry(2);
    registry.set_alias(&name("ctr"), "champion", 1).unwrap();
    registry.set_alias(&name("ctr"), "best", 1).unwrap();
    let error = registry.remove(&name("ctr"), Some(1)).unwrap_err();
    assert_eq!(error.to_string(), "version 1 of model \"ctr\" cannot be deleted: it is best, champion");
    assert!(error.hint().unwrap().contains("ALTER MODEL ctr DROP ALIAS best"));
    assert_eq!(resolve(&registry, "ctr@champion").unwrap(), 1);
    registry.set_alias(&name("ctr"), "champion", 2).unwrap();
    registry.remove_alias(&name("ctr"), "best").unwrap();
    registry.remove(&name("ctr"), Some(1)).unwrap();
    assert!(matches!(registry.set_alias(&name("ctr"), "best", 1), Err(Error::NoSuchVersion { latest: 2, .. })));
}

#[test]
fn what_is_not_there_cannot_be_deleted_and_leaves_no_trace() {
    let (_folder, registry) = registry(1);
    assert!(matches!(registry.remove(&name("crt"), None), Err(Error::NoSuchModel { .. })));
    assert!(!registry.root().join("crt").exists());
    assert!(matches!(registry.remove(&name("ctr"), Some(2)), Err(Error::NoSuchVersion { latest: 1, .. })));
    assert!(matches!(registry.remove_alias(&name("crt"), "champion"), Err(Error::NoSuchModel { .. })));
}

#[test]
fn a_damaged_version_can_be_deleted() {
    let (_folder, registry) = registry(2);
    fs::write(registry.version_directory(&name("ctr"), 1).join("manifest.json"), "{").unwrap();
    registry.remove(&name("ctr"), Some(1)).unwrap();
    assert_eq!(registry.list().unwrap().len(), 1);
}
