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

/// A folder with a packed file of one vector, after a change of the file.
fn packed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Folder> {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = b"E5S1".to_vec();
    let words: [u32; 16] = [1, 32, 1, 2, 64, 5, 8, 2, 1e-12f32.to_bits(), 32, 1, 0, 2, 1, 3, 2];
    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    // One piece of two bytes: the upper half of their number, offsets, score, the piece; nothing replaced; one tensor.
    bytes.extend([0; 4]);
    bytes.extend([0; 12]);
    bytes.extend(*b"ab");
    bytes.extend([0; 8]);
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(8u16.to_le_bytes());
    bytes.extend(*b"emb.ln.b");
    bytes.push(0);
    bytes.extend(32u32.to_le_bytes());
    let offset = bytes.len() as u64 + 16;
    bytes.extend(offset.to_le_bytes());
    bytes.extend(128u64.to_le_bytes());
    (0..32u8).for_each(|value| bytes.extend(f32::from(value).to_le_bytes()));
    change(&mut bytes);
    fs::write(folder.path().join(packed::FILE), bytes).unwrap();
    Folder::open(folder.path())
}

#[test]
fn a_packed_file_is_read_under_the_names_of_bert() {
    let folder = packed(|_| {}).unwrap();
    assert_eq!(folder.config()["num_hidden_layers"], 1);
    let place = folder.tensor("embeddings.LayerNorm.bias").unwrap();
    let mut value = [0; 4];
    folder.read(place, 124, &mut value).unwrap();
    assert_eq!((place.dims.as_slice(), f32::from_le_bytes(value)), ([32].as_slice(), 31.0));
}

#[test]
fn a_damaged_packed_file_is_an_error() {
    let length = packed(|_| {}).unwrap().tensor("embeddings.LayerNorm.bias").unwrap().offset as usize;
    for cut in 4..length + 127 {
        assert!(packed(|bytes| bytes.truncate(cut)).is_err(), "{cut} bytes");
    }
    for at in 0..length {
        // Whatever is written there, it is a folder or an error.
        for value in [0, 0x7f, 0xff] {
            let _ = packed(|bytes| bytes[at] = value);
        }
    }
    assert!(matches!(packed(|bytes| bytes[4] = 2), Err(Error::Unsupported { .. })));
    assert!(matches!(packed(|bytes| bytes[0] = 0), Err(Error::Corrupt { .. })));
}
