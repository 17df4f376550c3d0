use std::fs;

use super::*;

const HEADER: usize = 24;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(super::super::testing::fixture(name)).unwrap()
}

fn open(bytes: &[u8]) -> Result<Gguf> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

/// A file with these metadata entries and no tensors.
fn file(count: u64, metadata: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(metadata);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

#[test]
fn values_of_every_type_are_read() {
    let list = |kind: u32, count: u64, values: &[u8]| [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec(), values.to_vec()].concat();
    let entries = [
        (entry("a", 0, &[200]), Value::Int(200)),
        (entry("b", 1, &[200]), Value::Int(-56)),
        (entry("c", 2, &[1, 2]), Value::Int(513)),
        (entry("d", 3, &[255, 255]), Value::Int(-1)),
        (entry("e", 4, &7u32.to_le_bytes()), Value::Int(7)),
        (entry("f", 5, &(-7i32).to_le_bytes()), Value::Int(-7)),
        (entry("g", 6, &1.5f32.to_le_bytes()), Value::Float(1.5)),
        (entry("h", 7, &[1]), Value::Bool(true)),
        (entry("i", 8, &text("né")), Value::Text("né".to_owned())),
        (entry("j", 10, &u64::MAX.to_le_bytes()), Value::Int(u64::MAX.into())),
        (entry("k", 11, &i64::MIN.to_le_bytes()), Value::Int(i64::MIN.into())),
        (entry("l", 12, &2.5f64.to_le_bytes()), Value::Float(2.5)),
        (entry("m", 9, &list(5, 2, &[1, 0, 0, 0, 255, 255, 255, 255])), Value::Ints(vec![1, -1])),
        (entry("n", 9, &list(8, 1, &text("x"))), Value::Texts(vec!["x".to_owned()])),
        (entry("o", 9, &list(6, 1, &1f32.to_le_bytes())), Value::Floats(vec![1.0])),
        (entry("p", 9, &list(7, 2, &[0, 1])), Value::Bools(vec![false, true])),
        (entry("q", 9, &list(9, 1, &list(0, 1, &[3]))), Value::Lists(vec![Value::Ints(vec![3])])),
    ];
    let bytes: Vec<u8> = entries.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let read = open(&file(entries.len() as u64, &bytes)).unwrap();
    for (key, (_, value)) in ('a'..).zip(&entries) {
        assert_eq!(read.get(&key.to_string()), Some(value), "{key}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = fixture("qwen2.gguf");
    open(&whole).unwrap();
    for length in (0..whole.len()).step_by(331).chain([whole.len() - 1]) {
        assert!(matches!(open(&whole[..length]), Err(Error::Corrupt { .. })), "{length} bytes");
    }
}

#[test]
fn a_file_with_a_changed_byte_is_an_error_or_a_file_but_nothing_worse() {
    let whole = fixture("qwen2.gguf");
    for at in (0..whole.len().min(8000)).step_by(13) {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        if let Ok(file) = open(&changed) {
            let size = changed.len() as u64;
            assert!(file.tensors().all(|place| place.offset + place.length <= size));
        }
    }
}

#[test]
fn absurd_counts_are_errors_and_cost_nothing() {
    let huge = u64::MAX.to_le_bytes();
    let mut counts = fixture("qwen2.gguf");
    counts[8..16].copy_from_slice(&huge);
    assert!(matches!(open(&counts), Err(Error::Corrupt { .. })));
    counts[8..16].copy_from_slice(&0u64.to_le_bytes());
    counts[16..HEADER].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(matches!(open(&counts), Err(Error::Corrupt { .. })));
    for kind in [0u32, 8, 9] {
        let list = [kind.to_le_bytes().as_slice(), &huge].concat();
        assert!(matches!(open(&file(1, &entry("a", 9, &list))), Err(Error::Corrupt { .. })));
    }
    assert!(matches!(open(&file(1, &huge)), Err(Error::Corrupt { .. })));
}

#[test]
fn lists_nested_without_end_are_an_error() {
    let mut value = Vec::new();
    for _ in 0..1000 {
        value.extend(9u32.to_le_bytes());
        value.extend(1u64.to_le_bytes());
    }
    assert!(matches!(open(&file(1, &entry("a", 9, &value))), Err(Error::Corrupt { .. })));
}

#[test]
fn other_formats_are_named() {
    let mut pickle = fixture("qwen2.gguf");
    pickle[..2].copy_from_slice(b"\x80\x02");
    let error = open(&pickle).unwrap_err().to_string();
    assert!(error.ends_with("is damaged: it is no GGUF file"), "{error}");
    let mut big_endian = fixture("qwen2.gguf");
    big_endian[4..8].copy_from_slice(&3u32.to_be_bytes());
    let error = open(&big_endian).unwrap_err().to_string();
    assert!(error.ends_with("cannot be used: its numbers are big-endian"), "{error}");
    let mut old = fixture("qwen2.gguf");
    old[4] = 1;
    let error = open(&old).unwrap_err().to_string();
    assert!(error.ends_with("cannot be used: its GGUF version is 1, not 2 or 3"), "{error}");
}
