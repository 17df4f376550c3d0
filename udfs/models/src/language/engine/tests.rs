use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver};

use serde::Deserialize;

use super::super::testing::{prepare_tiny, prepared};
use super::super::{Form, Precision};
use super::*;

fn engine(limits: Limits) -> Arc<Engine> {
    Engine::start(&crate::testing::runtime(), &prepared(Form::default()), limits).unwrap()
}

fn request(prompt: &[u32], sampling: &Sampling) -> Request {
    Request { prompt: prompt.to_vec(), shared: 0, sampling: sampling.clone(), constraint: None, adapter: None }
}

fn greedy(max_tokens: usize) -> Sampling {
    Sampling { max_tokens, ..Sampling::default() }
}

fn encode(engine: &Engine, text: &str) -> Vec<u32> {
    engine.tokens().encode(text).unwrap()
}

/// Submits a request; its answer comes through the channel, which closes without one when the request is cancelled.
fn submit(engine: &Engine, request: Request) -> Result<(Ticket, Receiver<Result<Completion>>)> {
    let (sender, receiver) = mpsc::channel();
    let ticket = engine.submit(request, move |result| drop(sender.send(result)))?;
    Ok((ticket, receiver))
}

/// Submits all requests, then waits for all answers, in the order of the requests.
fn complete(engine: &Engine, requests: impl IntoIterator<Item = Request>) -> Vec<Completion> {
    let answers: Vec<_> = requests.into_iter().map(|request| submit(engine, request).unwrap()).collect();
    answers.into_iter().map(|(_ticket, receiver)| receiver.recv().unwrap().unwrap()).collect()
}

/// A greedy text by the second implementation, `tests/fixtures/greedy.py`.
#[derive(Debug, Deserialize)]
struct Expected {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    log_probability: f64,
    margin: f64,
}

fn expected() -> Vec<Expected> {
    serde_json::from_str(include_str!("../../../tests/fixtures/greedy.json")).unwrap()
}

#[test]
fn greedy_texts_are_those_of_a_second_implementation() {
    let decoder = prepared(Form { precision: Precision::F32, ..Form::default() });
    let engine = Engine::start(&crate::testing::runtime(), &decoder, Limits::default()).unwrap();
    let expected = expected();
    let texts = complete(&engine, expected.iter().map(|row| request(&row.prompt, &greedy(48))));
    for (text, expected) in texts.iter().zip(&expected) {
        // Both compute in single precision; no step of these texts is closer than what that leaves open.
        assert!(expected.margin > 1e-3, "{}", expected.margin);
        assert_eq!(text.ids, expected.ids);
        assert!((text.log_probability - expected.log_probability).abs() < 5e-3, "{} {}", text.log_probability, expected.log_probability);
        assert_eq!((text.prompt_tokens, text.chosen), (expected.prompt.len(), text.ids.len()));
        let ended = text.finish == Finish::End;
        assert_eq!(ended, expected.ids.len() < 48);
        assert_eq!(text.text, engine.tokens().decode(&text.ids));
    }
}

#[test]
fn a_text_depends_on_its_own_request_only() {
    let prompts: Vec<Vec<u32>> = expected().into_iter().map(|row| row.prompt).collect();
    let requests = |shared: usize| -> Vec<Request> {
        let sampling = |seed: u64| {
            let temperature = if seed == 0 { 0.0 } else { 0.9 };
            Sampling { max_tokens: 6, temperature, top_k: 40, top_p: 0.95, repetition_penalty: 1.1, seed, ..Sampling::default() }
        };
        (0..2).flat_map(|seed| prompts.iter().map(move |prompt| Request { shared, ..request(prompt, &sampling(seed)) })).collect()
    };
    // One after another; all at once; with other neighbours, and the start of the prompt from memory.
    let alone = complete(&engine(Limits { slots: 1, threads: 1, ..Limits::default() }), requests(0));
    let together = engine(Limits { slots: 32, ..Limits::default() });
    let many = complete(&together, requests(0));
    let mut mixed = complete(&together, requests(60).into_iter().rev());
    mixed.reverse();
    assert!(mixed.iter().any(|text| text.shared_tokens == 60));
    assert!(alone.iter().map(|text| &text.text).collect::<HashSet<_>>().len() > prompts.len());
    for ((alone, many), mixed) in alone.iter().zip(&many).zip(&mixed) {
        for other in [many, mixed] {
            assert_eq!((&other.text, &other.ids, other.finish), (&alone.text, &alone.ids, alone.finish));
            assert_eq!(other.log_probability.to_bits(), alone.log_probability.to_bits());
        }
    }
}

#[test]
fn a_shared_start_is_computed_once_and_counted() {
    let engine = engine(Limits::default());
    let prompts: Vec<Vec<u32>> = expected().into_iter().map(|row| row.prompt).filter(|prompt| prompt.len() > 70).collect();
    let shared = prompts[0].iter().zip(&prompts[1]).take_while(|(a, b)| a == b).count();
    assert!(shared > 60);
    let with_start = |prompt: &Vec<u32>| Request { shared, ..request(prompt, &greedy(1)) };
    let first = complete(&engine, [with_start(&prompts[0])]);
    let others = complete(&engine, [with_start(&prompts[1]), with_start(&prompts[0])]);
    assert_eq!((first[0].shared_tokens, others[0].shared_tokens, others[1].shared_tokens), (0, shared, shared));
    let usage = engine.usage();
    assert_eq!((usage.prefix_hits, usage.shared_tokens), (2, 2 * shared as u64));
    assert_eq!(usage.prompt_tokens, (prompts[0].len() * 2 + prompts[1].len() - 2 * shared) as u64);
    assert_eq!((usage.completed, usage.generated_tokens, usage.active, usage.waiting), (3, 3, 0, 0));
    assert!(others.iter().all(|text| text.device > Duration::ZERO));
}

#[test]
fn a_dropped_ticket_ends_its_request_and_nobody_elses() {
    let engine = engine(Limits { slots: 1, ..Limits::default() });
    let prompt = encode(&engine, "Once upon a time");
    let (running, running_answer) = submit(&engine, request(&prompt, &greedy(1024))).unwrap();
    let (waiting, waiting_answer) = submit(&engine, request(&prompt, &greedy(1024))).unwrap();
    let (_ticket, answer) = submit(&engine, request(&prompt, &greedy(2))).unwrap();
    while engine.usage().active == 0 {
        std::thread::yield_now();
    }
    drop((running, waiting));
    assert_eq!(answer.recv().unwrap().unwrap().ids.len(), 2);
    assert!(running_answer.recv().is_err());
    assert!(waiting_answer.recv().is_err());
    assert_eq!(engine.usage().generated_tokens, 2);
}

#[test]
fn a_full_queue_refuses_at_once_and_recovers() {
    let engine = engine(Limits { slots: 1, queue: 2, ..Limits::default() });
    let prompt = encode(&engine, "Once upon a time");
    let answers: Vec<_> = (0..4).map(|_| submit(&engine, request(&prompt, &greedy(1024)))).collect();
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err()).collect::<Vec<_>>();
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|error| error.to_string() == "the language model is busy: 2 requests are waiting"));
    drop(answers);
    assert_eq!(complete(&engine, [request(&prompt, &greedy(1))]).len(), 1);
}

#[test]
fn requests_of_many_threads_are_all_answered() {
    let engine = engine(Limits { slots: 16, ..Limits::default() });
    let prompt = encode(&engine, "The capital of France is");
    let texts: Vec<String> = std::thread::scope(|scope| {
        let asker =
            || complete(&engine, (1..=8).map(|tokens| request(&prompt[..tokens.min(5)], &greedy(1 + tokens % 3)))).pop().unwrap().text;
        let askers: Vec<_> = (0..8).map(|_| scope.spawn(asker)).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert_eq!(texts, vec![" Paris.\n"; 8]);
    assert_eq!((engine.usage().completed, engine.usage().failed), (64, 0));
}

#[test]
fn memory_is_limited_and_what_cannot_fit_is_told_with_numbers() {
    // 46 080 bytes a token; a row needs prompt, text and a little room for padding, and rows come in pairs with some block sizes.
    let engine = engine(Limits { slots: 8, cache_bytes: 46_080 * 64, ..Limits::default() });
    let prompt = encode(&engine, "The capital of France is");
    let error = submit(&engine, request(&prompt, &greedy(100))).unwrap_err();
    assert!(matches!(error, Error::CacheMemory { needed, limit: 2_949_120 } if needed > 2_949_120), "{error}");
    // Eight rows of 12 tokens do not fit at once.
    let texts = complete(&engine, (0..8).map(|_| request(&prompt, &greedy(5))));
    assert!(texts.iter().all(|text| text.text == texts[0].text));
    assert!(engine.usage().cache_bytes <= 46_080 * 64);
    // A longer request gets longer rows while shorter ones run.
    let lengths = complete(&engine, [2, 20, 3, 24].map(|tokens| request(&prompt, &greedy(tokens))))
        .iter()
        .map(|text| text.ids.len())
        .collect::<Vec<_>>();
    assert_eq!(lengths, [2, 20, 3, 24]);
}

fn wait_until_unloaded(engine: &Engine) {
    while engine.usage().loaded {
        std::thread::yield_now();
    }
}

#[test]
fn an_idle_engine_gives_its_memory_back_and_answers_the_next_request_alike() {
    let engine = engine(Limits { idle: Duration::from_millis(5), ..Limits::default() });
    let prompt = encode(&engine, "One, two, three, four, five, six, seven, eight, nine");
    let constraint = engine.constraint(&Grammar::Choices(vec![" ten".to_owned()])).unwrap();
    let ask = || [None, Some(constraint.clone())].map(|constraint| Request { shared: 10, constraint, ..request(&prompt, &greedy(6)) });
    let first = complete(&engine, ask());
    wait_until_unloaded(&engine);
    let usage = engine.usage();
    assert_eq!((usage.cache_bytes, usage.active, usage.completed), (0, 0, 2));
    let again = complete(&engine, ask());
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((&first.text, &first.ids), (&again.text, &again.ids));
        assert_eq!(first.log_probability.to_bits(), again.log_probability.to_bits());
    }
    assert_eq!(again.iter().map(|text| text.shared_tokens).min(), Some(0), "the start is computed anew");
}

#[test]
fn requests_under_way_keep_the_model_however_short_the_idle_time() {
    let engine = engine(Limits { slots: 2, idle: Duration::ZERO, ..Limits::default() });
    let prompt = encode(&engine, "Once upon a time");
    wait_until_unloaded(&engine);
    assert_eq!(engine.usage().loads, 1);
    // All are in the queue before the first can be done, and more than two take turns.
    let texts = complete(&engine, (20..25).map(|tokens| request(&prompt, &greedy(tokens))));
    assert!(texts.iter().all(|text| texts[4].text.starts_with(&text.text)));
    assert_eq!(engine.usage().loads, 2);
}

#[test]
fn a_model_that_cannot_be_loaded_again_is_an_error_of_the_request_and_no_more() {
    let (_cache, decoder) = prepare_tiny("qwen2.gguf", Form::default());
    let engine = Engine::start(&crate::testing::runtime(), &decoder, Limits { idle: Duration::ZERO, ..Limits::default() }).unwrap();
    wait_until_unloaded(&engine);
    let away = decoder.folder().with_extension("away");
    std::fs::rename(decoder.folder(), &away).unwrap();
    let (_ticket, answer) = submit(&engine, request(&[5, 6, 7], &greedy(3))).unwrap();
    let error = answer.recv().unwrap().unwrap_err().to_string();
    assert!(error.contains(&decoder.graph().display().to_string()), "{error}");
    std::fs::rename(&away, decoder.folder()).unwrap();
    assert!(!complete(&engine, [request(&[5, 6, 7], &greedy(3))])[0].ids.is_empty());
}

#[test]
fn a_text_ends_before_its_stop_string() {
    let engine = engine(Limits::default());
    let prompt = encode(&engine, "The capital of France is");
    let stop = |stop: &[&str]| Sampling { stop: stop.iter().map(|s| (*s).to_owned()).collect(), ..greedy(20) };
    let texts = complete(&engine, [stop(&["zzz", "."]), stop(&["is.", "Par"]), stop(&["zzz"])].map(|sampling| request(&prompt, &sampling)));
    assert_eq!((texts[0].text.as_str(), texts[0].finish), (" Paris", Finish::Stop));
    assert_eq!((texts[1].text.as_str(), texts[1].finish), (" ", Finish::Stop));
    assert_eq!((texts[2].ids.len(), texts[2].finish), (20, Finish::Length));
}

#[test]
fn a_text_never_ends_within_a_character() {
    let engine = engine(Limits::default());
    let prompt = encode(&engine, "😀 彩虹 😀 彩虹 😀 彩虹 😀 彩虹 😀");
    let texts = complete(&engine, (1..=16).map(|tokens| request(&prompt, &greedy(tokens))));
    let whole = &texts[15].text;
    assert!(whole.contains('彩') && whole.contains('😀'), "{whole}");
    for text in &texts {
        assert!(whole.starts_with(&text.text) && !text.text.contains('\u{fffd}'), "{text:?}");
    }
}

#[test]
fn dropping_the_engine_answers_everything() {
    let engine = engine(Limits { slots: 2, ..Limits::default() });
    let prompt = encode(&engine, "Once upon a time");
    let answers: Vec<_> = (0..5).map(|_| submit(&engine, request(&prompt, &greedy(1024))).unwrap()).collect();
    drop(engine);
    for (_ticket, answer) in answers {
        assert!(matches!(answer.recv().unwrap(), Err(Error::Stopped)));
        assert!(answer.recv().is_err());
    }
}

#[test]
fn a_panic_of_a_receiver_leaves_the_engine_alive_and_the_last_owner_may_be_a_receiver() {
    let engine = engine(Limits::default());
    let prompt = encode(&engine, "The capital of France is");
    let _ticket = engine.submit(request(&prompt, &greedy(1)), |_| panic!("a receiver's own fault")).unwrap();
    assert_eq!(complete(&engine, [request(&prompt, &greedy(1))])[0].text, " Paris");
    let (sender, receiver) = mpsc::channel();
    let owner = Arc::clone(&engine);
    let (go, wait) = mpsc::channel::<()>();
    let _ticket = engine.submit(request(&prompt, &greedy(1)), move |result| {
        let _ = wait.recv();
        drop(owner);
        drop(sender.send(result));
    });
    drop(engine);
    drop(go);
    assert_eq!(receiver.recv().unwrap().unwrap().text, " Paris");
}

#[test]
fn impossible_requests_are_refused_before_they_wait() {
    let engine = engine(Limits { max_prompt: 10, max_tokens: 50, ..Limits::default() });
    let refusal = |prompt: &[u32], sampling: Sampling| submit(&engine, request(prompt, &sampling)).unwrap_err().to_string();
    assert_eq!(refusal(&[], greedy(1)), "the prompt is empty");
    assert_eq!(refusal(&[49_152], greedy(1)), "the prompt has token 49152, and the model knows 49152 tokens");
    assert_eq!(refusal(&[5; 11], greedy(1)), "the prompt of 11 tokens is longer than the 10 tokens that fit");
    assert_eq!(refusal(&[5], greedy(51)), "invalid value for option \"max_tokens\": it must be at most 50");
    assert!(refusal(&[5], Sampling { top_p: 2.0, ..greedy(1) }).contains("\"top_p\""));
    let wrong = Limits { slots: 0, ..Limits::default() };
    let error = Engine::start(&crate::testing::runtime(), &prepared(Form::default()), wrong).unwrap_err();
    assert_eq!(error.to_string(), "invalid value for option \"slots\": it must be at least 1");
}

#[test]
fn constrained_texts_fit_their_constraint() {
    let engine = engine(Limits::default());
    let prompt = encode(&engine, "<|im_start|>user\nWrite an advertisement for running shoes.<|im_end|>\n<|im_start|>assistant\n");
    let schema = r#"{"type": "object", "additionalProperties": false, "required": ["headline", "channel", "discount"], "properties": {
        "headline": {"type": "string", "maxLength": 40},
        "channel": {"enum": ["email", "push", "sms"]},
        "discount": {"type": "integer", "minimum": 0, "maximum": 50}}}"#;
    let constraint = |grammar: Grammar| engine.constraint(&grammar).unwrap();
    let json = constraint(Grammar::JsonSchema(schema.to_owned()));
    let regex = constraint(Grammar::Regex("[A-Z][a-z ]{5,30} running shoes, 10% off[.!]".to_owned()));
    let choices = ["no", "not now", "yes (please)", "はい"];
    let choice = constraint(Grammar::Choices(choices.map(str::to_owned).to_vec()));
    let sampled = |seed| Sampling { temperature: 1.0, top_p: 0.95, seed, ..greedy(96) };
    let ask = |constraint: &Constraint, sampling: Sampling| Request { constraint: Some(constraint.clone()), ..request(&prompt, &sampling) };
    let requests = (0..4).flat_map(|seed| [&json, &regex, &choice].map(|constraint| ask(constraint, sampled(seed))));
    let texts = complete(&engine, requests);
    for texts in texts.chunks(3) {
        let [json, regex, choice] = texts else { panic!("three texts for each seed") };
        let value: serde_json::Value = serde_json::from_str(&json.text).unwrap_or_else(|e| panic!("{e}: {}", json.text));
        assert!(value["headline"].as_str().unwrap().chars().count() <= 40);
        assert!(["email", "push", "sms"].contains(&value["channel"].as_str().unwrap()));
        assert!((0..=50).contains(&value["discount"].as_i64().unwrap()));
        assert!(regex.text.ends_with(" running shoes, 10% off.") || regex.text.ends_with(" running shoes, 10% off!"), "{}", regex.text);
        assert!(choices.contains(&choice.text.as_str()), "{}", choice.text);
        assert!(texts.iter().all(|text| text.finish == Finish::Constraint));
        // What leaves no choice is not asked for.
        assert!(json.chosen < json.ids.len());
    }
    // Equal alone and among others.
    let alone = complete(&engine, [ask(&json, sampled(2))]);
    assert_eq!((&alone[0].text, alone[0].log_probability), (&texts[6].text, texts[6].log_probability));
    let short = complete(&engine, [ask(&json, greedy(5))]);
    assert_eq!((short[0].finish, short[0].ids.len()), (Finish::Length, 5));
}

#[test]
fn a_wrong_constraint_is_told_with_its_kind() {
    let engine = engine(Limits::default());
    let refusal = |grammar: Grammar| engine.constraint(&grammar).unwrap_err().to_string();
    let regex = refusal(Grammar::Regex("[a-z".to_owned()));
    assert!(regex.starts_with("regular expression: "), "{regex}");
    let json = refusal(Grammar::JsonSchema("{".to_owned()));
    assert!(json.starts_with("JSON schema: it is not JSON: "), "{json}");
    let json = refusal(Grammar::JsonSchema(r#"{"type": "objekt"}"#.to_owned()));
    assert!(json.starts_with("JSON schema: ") && json.contains("objekt"), "{json}");
    assert_eq!(refusal(Grammar::Choices(Vec::new())), "choices: there must be at least one, and none may be empty");
}
