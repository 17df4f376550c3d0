use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::testing::{fixture, smollm2, tiny};
use super::*;

fn from_file(file: &Gguf, pre: Option<&str>) -> Tokens {
    let mut file = Gguf::open(file.path()).unwrap();
    if let Some(pre) = pre {
        file.set("tokenizer.ggml.pre", super::super::gguf::Value::Text(pre.to_owned()));
    }
    let json = from_gguf(&file).unwrap().to_string();
    let special = special_of_gguf(&file).unwrap();
    let vocabulary = file.texts("tokenizer.ggml.tokens").unwrap().unwrap().len();
    Tokens::from_json("a file", json.as_bytes(), &special, vocabulary).unwrap()
}

#[test]
fn texts_have_the_ids_that_the_published_patterns_and_merges_give() {
    let expected: BTreeMap<String, Vec<(String, Vec<u32>)>> =
        serde_json::from_str(include_str!("../../../tests/fixtures/language/tokens.json")).unwrap();
    let file = Gguf::open(&smollm2()).unwrap();
    for (pre, texts) in expected {
        let tokens = from_file(&file, Some(&pre));
        for (text, ids) in texts {
            assert_eq!(tokens.encode_data(&text).unwrap(), ids, "{pre}: {text:?}");
            assert_eq!(tokens.count(&text).unwrap(), ids.len());
            if pre != "qwen2" && !text.contains("日") {
                assert_eq!(tokens.decode(&ids), text, "{pre}");
            }
        }
    }
}

#[derive(Deserialize)]
struct SentencePiece {
    texts: Vec<(String, Vec<u32>)>,
}

#[test]
fn a_sentence_piece_vocabulary_gives_the_ids_that_sentencepiece_gives() {
    let expected: SentencePiece = serde_json::from_str(include_str!("../../../tests/fixtures/language/sentencepiece.json")).unwrap();
    let tokens = from_file(&Gguf::open(&fixture("sentencepiece.gguf")).unwrap(), None);
    for (text, ids) in expected.texts {
        assert_eq!(tokens.encode_data(&text).unwrap(), ids, "{text:?}");
        assert_eq!(tokens.decode(&ids), text);
    }
}

#[test]
fn special_tokens_are_written_by_prompts_and_never_by_data() {
    let tokens = tiny().tokens().unwrap();
    let text = "<|im_start|>the<|im_end|>";
    assert_eq!(tokens.encode(text).unwrap().len(), 4);
    let data = tokens.encode_data(text).unwrap();
    assert!(data.iter().all(|id| !tokens.is_special(*id)));
    assert_eq!(tokens.decode(&data), text);
    assert_eq!(tokens.decode(&tokens.encode(text).unwrap()), "the");
    assert_eq!((tokens.bos(), tokens.eos()), (Some(1), &[2, 0][..]));
}

#[test]
fn a_character_of_several_tokens_comes_when_it_is_whole() {
    let tokens = tiny().tokens().unwrap();
    let text = "né 日本 👍🏽!";
    let mut stream = TextStream::default();
    let pieces: Vec<String> = tokens.encode_data(text).unwrap().into_iter().map(|id| tokens.push(&mut stream, id)).collect();
    assert!(pieces.iter().any(String::is_empty) && !pieces.concat().contains('\u{FFFD}'));
    assert_eq!(pieces.concat(), text);
    assert_eq!(stream.finish(), "");
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_the_rest_goes_on() {
    let tokens = tiny().tokens().unwrap();
    let ids = |bytes: &[u8]| bytes.iter().map(|byte| (0..300).find(|id| tokens.bytes(*id) == [*byte]).unwrap()).collect::<Vec<u32>>();
    assert_eq!(tokens.decode(&ids(b"a\xffb")), "a\u{FFFD}b");
    assert_eq!(tokens.decode(&ids(b"a\xe6\x97")), "a\u{FFFD}");
    assert_eq!(tokens.decode(&ids(b"\x97\xe6\x97\xa5")), "\u{FFFD}日");
    assert_eq!(tokens.decode(&[99_999]), "");
}

#[test]
fn an_unknown_way_to_cut_words_is_refused_by_name() {
    let mut file = Gguf::open(&fixture("qwen2.gguf")).unwrap();
    file.set("tokenizer.ggml.pre", super::super::gguf::Value::Text("tekken".to_owned()));
    let error = from_gguf(&file).unwrap_err().to_string();
    assert!(error.ends_with("cannot be used: tokenizer.ggml.pre is \"tekken\""), "{error}");
}
