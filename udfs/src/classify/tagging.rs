//! `ai.entities(text, model)` and `ai.tags(words, model)`: what a trained model finds in texts, as spans of characters or as tags of words.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, ListArray, ListBuilder, StringArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;
use stratagem_models::encoder::Sentence;
use stratagem_models::model::Model;
use stratagem_models::text::{Tagged, tags};

use super::{Classify, What};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::models::{Held, Models};
use crate::stop::StopOnDrop;
use crate::usage::Meter;

const MODEL: Parameter = Parameter::value(
    "model",
    Type::Text,
    "A model that `finetune(..., task => 'token_classification')` has trained: `'titles'` (its default version), `'titles@3'` or `'titles@champion'`.",
);

const ERRORS: &[Failure] = &[
    Failure { sqlstate: "42704", when: "the model does not exist" },
    Failure { sqlstate: "42809", when: "the model is no text model that gives tags" },
    Failure { sqlstate: "22023", when: "the name of the model is not a constant" },
];

/// The declaration of `ai.entities`.
pub static ENTITIES: Function = Function {
    name: "ai.entities",
    kind: Kind::Scalar,
    parameters: &[Parameter::value("text", Type::Text, "The text."), MODEL],
    returns: Returns::Value(Type::Spans),
    summary: "The spans of a text that a trained model finds, such as brands and prices in titles",
    docs: "A list of rows in the order of the text, each with `start`, the number of its first character from 1; `length` in characters, so that \
           `substr(text, start, length)` is the span; `label`; `text`, the span itself; and `probability`, that of its least certain word. `unnest` makes rows of \
           them. An empty list where there is nothing, NULL for NULL.",
    example: "SELECT product_id, (e).label, (e).text, (e).start FROM (SELECT product_id, unnest(ai.entities(title, 'titles')) AS e FROM products) AS found",
    errors: ERRORS,
};

/// The declaration of `ai.tags`.
pub static TAGS: Function = Function {
    name: "ai.tags",
    kind: Kind::Scalar,
    parameters: &[Parameter::value("words", Type::Texts, "The words of a text, in order."), MODEL],
    returns: Returns::Value(Type::Texts),
    summary: "The tag of each word by a trained model",
    docs: "One tag for each word: `O` outside of spans, `B-` and `I-` with the label of a span at its first word and at further ones. A word behind the last one \
           that the model reads is `O`. With `unnest` on both sides the tags can be judged: \
           `ml.classification_report($$SELECT unnest(tags) AS label, unnest(ai.tags(words, 'titles')) AS predicted FROM held_out$$, 'label', 'predicted')`.",
    example: "SELECT ai.tags(ARRAY['red', 'Acme', 'shoes'], 'titles')",
    errors: ERRORS,
};

/// The SQL functions over the models of a server.
pub(crate) fn functions(models: &Arc<Models>) -> [Arc<ScalarUDF>; 2] {
    [(&ENTITIES, What::Entities), (&TAGS, What::Tags)]
        .map(|(declaration, what)| Arc::new(ScalarUDF::from(Classify::new(models, declaration, what))))
}

/// The fields of a span.
fn fields() -> Fields {
    Fields::from(vec![
        Field::new("start", DataType::Int32, false),
        Field::new("length", DataType::Int32, false),
        Field::new("label", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("probability", DataType::Float64, false),
    ])
}

/// The type of the spans of a text.
pub(super) fn entities_type() -> DataType {
    DataType::new_list(DataType::Struct(fields()), true)
}

/// The tags of sentences. They are computed on other threads, which stop when nobody waits any more.
async fn tagged(held: &Arc<Held>, sentences: Vec<Sentence>, meter: &Meter) -> Result<(Arc<Model>, Vec<Sentence>, Tagged)> {
    let model = Classify::model(held).await?;
    let Model::Text(text) = &*model else { return exec_err!("{} is no text model", held.pinned()) };
    let most = text.text().tuned.as_ref().map_or(0, |tuned| tuned.max_tokens());
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(Arc::clone(&stop));
    let own = Arc::clone(&model);
    let work = move || -> Result<(Vec<Sentence>, Tagged)> {
        let Model::Text(text) = &*own else { return exec_err!("the model is no text model") };
        let tagged = text.tag(&sentences, &stop).map_err(Error::Model)?;
        Ok((sentences, tagged))
    };
    // The end of this future must not wait for the work: the flag ends it.
    let (sentences, tagged) = match tokio::task::spawn_blocking(work).await {
        Ok(done) => done?,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => return exec_err!("the server ends"),
    };
    meter.read(tagged.tokens, tagged.truncated, most);
    Ok((model, sentences, tagged))
}

/// The spans of texts (`Utf8`).
pub(super) async fn entities(held: &Arc<Held>, texts: &ArrayRef, meter: &Meter) -> Result<ArrayRef> {
    let rows: &StringArray = texts.as_string();
    let (model, sentences, tagged) = tagged(held, rows.iter().flatten().map(Sentence::of_text).collect(), meter).await?;
    let Model::Text(text) = &*model else { return exec_err!("{} is no text model", held.pinned()) };
    let classes = &text.text().classes;
    let (mut starts, mut lengths, mut labels, mut spans, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut counts = Vec::with_capacity(rows.len());
    let mut found = sentences.iter().zip(&tagged.tags);
    for row in 0..rows.len() {
        let before = starts.len();
        if let Some((sentence, own)) = rows.is_valid(row).then(|| found.next()).flatten() {
            for (first, end, label) in tags::spans(own.iter().map(|(tag, _)| classes[*tag].as_str())) {
                let (from, to) = (sentence.words[first].start, sentence.words[end - 1].end);
                let count = |part: &str| i32::try_from(part.chars().count()).unwrap_or(i32::MAX);
                starts.push(count(&sentence.text[..from]) + 1);
                lengths.push(count(&sentence.text[from..to]));
                labels.push(label.to_owned());
                spans.push(sentence.text[from..to].to_owned());
                shares.push(own[first..end].iter().map(|(_, share)| f64::from(*share)).fold(1.0, f64::min));
            }
        }
        counts.push(starts.len() - before);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(starts)),
        Arc::new(Int32Array::from(lengths)),
        Arc::new(StringArray::from(labels)),
        Arc::new(StringArray::from(spans)),
        Arc::new(Float64Array::from(shares)),
    ];
    let items = StructArray::try_new(fields(), columns, None)?;
    let nulls: NullBuffer = (0..rows.len()).map(|row| rows.is_valid(row)).collect();
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields()), true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(counts), Arc::new(items), Some(nulls))?))
}

/// The tags of lists of words.
pub(super) async fn tags(held: &Arc<Held>, words: &ArrayRef, meter: &Meter) -> Result<ArrayRef> {
    let lists = cast(words, &Type::Texts.arrow())?;
    let lists: &ListArray = lists.as_list();
    let sentence = |list: ArrayRef| Sentence::of_words(list.as_string::<i32>().iter().map(Option::unwrap_or_default));
    let (model, _, tagged) = tagged(held, lists.iter().flatten().map(sentence).collect(), meter).await?;
    let Model::Text(text) = &*model else { return exec_err!("{} is no text model", held.pinned()) };
    let classes = &text.text().classes;
    let mut found = tagged.tags.iter();
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..lists.len() {
        let own = lists.is_valid(row).then(|| found.next()).flatten();
        own.into_iter().flatten().for_each(|(tag, _)| out.values().append_value(&classes[*tag]));
        out.append(own.is_some());
    }
    Ok(Arc::new(out.finish()))
}
