use super::super::testing::{best, logits, prepared};
use super::*;

#[test]
fn the_installed_model_answers_in_every_precision() {
    for precision in [Precision::Int8, Precision::Int4, Precision::F32] {
        let decoder = prepared(Form { precision, block: 128 });
        let tokens = decoder.tokens().unwrap();
        let chat = decoder.chat(&tokens).unwrap().unwrap();
        let prompt = chat.render(&[super::super::Message::new("user", "What is the capital of France?")], true).unwrap();
        let mut ids = tokens.encode(&prompt).unwrap();
        ids.extend(tokens.encode_data("The capital of France is").unwrap());
        let logits = logits(&decoder, &decoder.graph(), &ids);
        assert_eq!(tokens.name(best(logits.last().unwrap()) as u32), " Paris", "{precision:?}");
    }
}
