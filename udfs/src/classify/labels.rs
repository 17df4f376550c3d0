//! The label whose meaning is nearest to a text.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use stratagem_models::encoder::cosine;

use super::DECLARATION;
use crate::embed::model_of;
use crate::encoder::{self, Vector};
use crate::error::Error;
use crate::models::Models;
use crate::usage::Meter;

/// A label, and the sum of its vector and those of its examples.
type Meaning<'a> = (&'a str, Vec<f32>);

/// The nearest labels of texts (`Utf8`).
pub(super) async fn nearest(models: &Arc<Models>, texts: &ArrayRef, arguments: &ScalarFunctionArgs, meter: &Meter) -> Result<ArrayRef> {
    let rows = arguments.number_rows;
    let model = model_of(&DECLARATION, arguments)?;
    let given = |name: &str| DECLARATION.position(name).and_then(|position| arguments.args.get(position));
    let Some(labels) = given("labels") else { return exec_err!("{} has no labels", DECLARATION.name) };
    let examples = given("examples");
    // What is the same for all rows is put together once.
    let constant = [Some(labels), examples].into_iter().flatten().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let labels = lists(labels, rows)?;
    let examples = examples.map(|examples| lists(examples, rows)).transpose()?;
    let vectors = vectors(models, model.as_deref(), [Some(&labels), examples.as_ref()], meter).await?;
    let texts = encoder::embed(models, model.as_deref(), Arc::clone(texts), meter).await?;
    let listed: Vec<ArrayRef> = (0..if constant { rows.min(1) } else { rows }).map(|row| labels.value(row)).collect();
    let mut meanings: Vec<Vec<Meaning<'_>>> = Vec::with_capacity(listed.len());
    for (row, own) in listed.iter().enumerate() {
        let examples = examples.as_ref().filter(|examples| examples.is_valid(row)).map(|examples| examples.value(row));
        meanings.push(if labels.is_valid(row) {
            together(own.as_string(), examples.as_ref().map(|e| e.as_string()), &vectors)?
        } else {
            Vec::new()
        });
    }
    let best = |row: usize| -> Option<&str> {
        let text = texts[row].as_ref()?;
        let likeness =
            meanings[if constant { 0 } else { row }].iter().filter_map(|(label, meaning)| Some((*label, cosine(text, meaning)?)));
        // Of equals the first.
        likeness.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(label, _)| label)
    };
    Ok(Arc::new((0..rows).map(best).collect::<StringArray>()))
}

fn lists(value: &ColumnarValue, rows: usize) -> Result<ListArray> {
    let lists = cast(&value.to_array(rows)?, &DataType::new_list(DataType::Utf8, true))?;
    Ok(lists.as_list::<i32>().clone())
}

/// The vectors of all texts in some lists.
async fn vectors(
    models: &Arc<Models>,
    model: Option<&str>,
    lists: [Option<&ListArray>; 2],
    meter: &Meter,
) -> Result<HashMap<String, Vector>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for list in lists.into_iter().flatten() {
        let [first, .., last] = list.value_offsets() else { continue };
        let words = list.values().slice(*first as usize, (last - first) as usize);
        for word in words.as_string::<i32>().iter().flatten() {
            if !places.contains_key(word) {
                places.insert(word.to_owned(), places.len());
            }
        }
    }
    let mut distinct = vec![""; places.len()];
    places.iter().for_each(|(word, place)| distinct[*place] = word);
    let distinct: ArrayRef = Arc::new(StringArray::from(distinct));
    let vectors = encoder::embed(models, model, distinct, meter).await?;
    Ok(places.into_iter().filter_map(|(word, place)| Some((word, vectors[place].clone()?))).collect())
}

/// The meanings of labels, each by the place where it comes first.
fn together<'a>(labels: &'a StringArray, examples: Option<&StringArray>, vectors: &HashMap<String, Vector>) -> Result<Vec<Meaning<'a>>> {
    if let Some(examples) = examples.filter(|examples| examples.len() != labels.len()) {
        return Err(Error::InvalidValue {
            object: format!("argument examples of {}", DECLARATION.name),
            reason: format!("has {} texts, and labels has {}", examples.len(), labels.len()),
            hint: Some("give a text for each label; a label with two texts is named twice".to_owned()),
        }
        .into());
    }
    let mut meanings: Vec<Meaning<'a>> = Vec::new();
    for place in (0..labels.len()).filter(|place| labels.is_valid(*place)) {
        let label = labels.value(place);
        let Some(own) = vectors.get(label) else { continue };
        let at = meanings.iter().position(|(known, _)| *known == label).unwrap_or_else(|| {
            meanings.push((label, unit(own)));
            meanings.len() - 1
        });
        let example = examples.filter(|examples| examples.is_valid(place)).and_then(|examples| vectors.get(examples.value(place)));
        if let Some(example) = example {
            meanings[at].1.iter_mut().zip(unit(example)).for_each(|(sum, value)| *sum += value);
        }
    }
    Ok(meanings)
}

/// A vector of length 1, so that every text counts the same.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|value| value / length).collect()
}
