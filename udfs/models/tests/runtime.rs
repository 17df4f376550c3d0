//! Loading ONNX Runtime. A process loads one library, so the failures that come first have a process of their own.

#[path = "support/support.rs"]
mod support;

use std::path::Path;

use stratagem_models::Error;
use stratagem_models::runtime::{Device, Runtime};
use support::library;

#[test]
fn a_missing_or_foreign_library_is_named_with_the_repair_and_the_right_one_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("libonnxruntime.so");
    let text = folder.path().join("notes.so");
    std::fs::write(&text, "not a library").unwrap();
    for path in [missing.as_path(), text.as_path()] {
        let error = Runtime::load(path, Device::Auto).unwrap_err();
        assert!(matches!(error, Error::RuntimeMissing { .. }));
        let start = format!("ONNX Runtime cannot be loaded from {}: ", path.display());
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(error.hint().as_deref(), Some("run \"make setup\""));
    }

    let library = library::path();
    let runtime = Runtime::load(&library, Device::Cpu).unwrap();
    assert!(runtime.version().starts_with("1."), "{}", runtime.version());
    assert_eq!((runtime.device(), runtime.degraded()), ("cpu", None));

    // Loading it again is cheap; another file in the same process is refused with the version that is there.
    Runtime::load(&library, Device::Cpu).unwrap();
    let error = Runtime::load(&text, Device::Cpu).unwrap_err();
    assert!(error.to_string().contains(&format!("already loaded version {}", runtime.version())), "{error}");

    // A device that does not exist falls back to the CPU and says so.
    let runtime = Runtime::load(&library, Device::Cuda(99)).unwrap();
    assert_eq!(runtime.device(), "cpu");
    assert!(runtime.degraded().unwrap().starts_with("cuda:99 cannot be used, the CPU is used instead: "));
}

#[test]
fn devices_are_read_as_they_are_written() {
    for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
        assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
    }
    for text in ["", "gpu", "cuda:", "cuda:-1", "CPU"] {
        assert!(text.parse::<Device>().unwrap_err().to_string().contains("not auto, cpu or cuda:N"));
    }
    assert!(Runtime::load(Path::new(""), Device::Cpu).is_err());
}
