//! Where the tests find ONNX Runtime.

use std::path::PathBuf;

/// The installed library: `ORT_DYLIB_PATH`, else the newest one in the cache folder.
pub(crate) fn path() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let folder = cache().join("assets/onnxruntime/lib");
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut libraries: Vec<PathBuf> =
        files.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so"))).collect();
    libraries.sort();
    libraries.pop().unwrap_or_else(|| panic!("no ONNX Runtime in {}: run \"make setup\"", folder.display()))
}

/// The folder with all that the set-up installed.
pub(crate) fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("STRATAGEM_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("stratagem")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/stratagem")))
        .unwrap_or_default()
}
