use super::*;

fn llama() -> Json {
    serde_json::json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    })
}

fn read(changes: Json) -> Result<Config> {
    let mut json = llama();
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    from_json("config.json", json.as_object().unwrap())
}

#[test]
fn what_is_not_done_here_is_refused_by_the_name_of_its_field() {
    let cases = [
        (serde_json::json!({"model_type": "gemma2"}), "model_type is \"gemma2\""),
        (serde_json::json!({"hidden_act": "gelu"}), "hidden_act is \"gelu\""),
        (serde_json::json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "rope_type is \"yarn\""),
        (serde_json::json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}}), "rope_type is \"dynamic\""),
        (serde_json::json!({"model_type": "mistral", "sliding_window": 4096}), "sliding_window is set"),
        (serde_json::json!({"model_type": "qwen2", "use_sliding_window": true}), "sliding_window is set"),
        (serde_json::json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
        (serde_json::json!({"head_dim": 20}), "heads have 20 values, not a multiple of 8 up to 512"),
        (serde_json::json!({"quantization_config": {"bits": 4}}), "quantization_config is set: use the model in float16, or a GGUF file"),
    ];
    for (changes, reason) in cases {
        match read(changes) {
            Err(Error::Unsupported { reason: found, .. }) => assert_eq!(found, reason),
            other => panic!("{other:?} instead of {reason}"),
        }
    }
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    for changes in [
        serde_json::json!({"hidden_size": 0}),
        serde_json::json!({"hidden_size": 1u64 << 40}),
        serde_json::json!({"num_hidden_layers": -1}),
        serde_json::json!({"num_attention_heads": null}),
        serde_json::json!({"num_key_value_heads": 3}),
        serde_json::json!({"rms_norm_eps": 2.0}),
        serde_json::json!({"rope_theta": -1.0}),
        serde_json::json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}),
    ] {
        assert!(matches!(read(changes.clone()), Err(Error::Corrupt { .. })), "{changes}");
    }
}

#[test]
fn rotary_scaling_is_read_in_the_old_and_the_new_place() {
    let plain = read(serde_json::json!({})).unwrap().frequencies();
    assert_eq!((plain.len(), plain[0]), (8, 1.0));
    for key in ["rope_scaling", "rope_parameters"] {
        let linear = read(serde_json::json!({key: {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}})).unwrap().frequencies();
        assert!(linear.iter().zip(&plain).all(|(linear, plain)| (linear * 4.0 - plain).abs() < 1e-12), "{key}");
    }
}

#[test]
fn very_long_contexts_are_cut() {
    assert_eq!(read(serde_json::json!({"max_position_embeddings": 1_000_000})).unwrap().max_positions, 32_768);
}

#[test]
fn a_gguf_file_is_refused_by_the_name_of_its_field() {
    use super::super::gguf::Value;
    let open = |key: &str, value: Value| {
        let mut file = Gguf::open(&super::super::testing::fixture("qwen2.gguf")).unwrap();
        file.set(key, value);
        from_gguf(&file)
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let cases = [
        ("general.architecture", text("gemma2"), "general.architecture is \"gemma2\""),
        ("qwen2.rope.scaling.type", text("yarn"), "qwen2.rope.scaling.type is \"yarn\""),
        ("qwen2.expert_count", Value::Int(8), "qwen2.expert_count is 8"),
        ("qwen2.attention.sliding_window", Value::Int(4096), "qwen2.attention.sliding_window is 4096"),
        ("qwen2.rope.dimension_count", Value::Int(8), "qwen2.rope.dimension_count is 8, heads have 16 values"),
        ("split.count", Value::Int(3), "split.count is 3: join the parts first"),
    ];
    for (key, value, reason) in cases {
        match open(key, value) {
            Err(Error::Unsupported { reason: found, .. }) => assert_eq!(found, reason),
            other => panic!("{other:?} instead of {reason}"),
        }
    }
    for (key, value) in [
        ("qwen2.block_count", Value::Int(1 << 40)),
        ("qwen2.embedding_length", text("wide")),
        ("qwen2.attention.head_count", Value::Int(0)),
        ("qwen2.context_length", Value::Int(-1)),
    ] {
        assert!(matches!(open(key, value), Err(Error::Corrupt { .. })), "{key}");
    }
    open("qwen2.rope.scaling.type", text("linear")).unwrap();
}
