use std::fs;

use super::*;

/// A folder with one file of weights, whose header is this text.
fn with_header(header: &str, data: usize) -> Result<Folder> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    Folder::open(folder.path())
}

#[test]
fn tensors_outside_the_file_are_errors() {
    with_header(r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#, 8).unwrap();
    for header in [
        r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,12]}}"#,
        r#"{"a":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32"}}"#,
        "[]",
        "not json",
    ] {
        assert!(matches!(with_header(header, 8), Err(Error::Corrupt { .. })), "{header}");
    }
}

#[test]
fn a_header_longer_than_the_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    for bytes in
        [u64::MAX.to_le_bytes().to_vec(), (99u64 << 20).to_le_bytes().to_vec(), vec![1, 2, 3], b"\x80\x02}q\x00X\x01pickle".to_vec()]
    {
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        assert!(matches!(Folder::open(folder.path()), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "weights.bin", ".safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        assert!(matches!(Folder::open(folder.path()), Err(Error::Corrupt { .. })), "{name}");
    }
}

#[test]
fn a_folder_with_other_weights_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let error = Folder::open(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("cannot be used: it has no config.json"), "{error}");
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "pickle").unwrap();
    let error = Folder::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("neither model.safetensors nor model.safetensors.index.json"), "{error}");
    let error = with_header(r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#, 8).unwrap_err().to_string();
    assert!(error.ends_with("cannot be used: tensor a has the type F8_E4M3"), "{error}");
}
