//! The columns of the tables.
//!
//! Times are `timestamp with time zone` in UTC, money is numeric with two digits in euros, flags that are averaged are integers.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::catalogue::CATEGORIES;
use super::click::Effects;
use super::copy::{self, VARIANTS};
use super::customer::{AGE_BANDS, CHANNELS, Customer, DEVICES, Profile};
use super::people::COUNTRIES;
use super::review::Words;
use super::schedule::History;
use super::session::{Event, Impression, Review};
use super::world::{World, brand_name};

/// A row of the log with what all rows of a visit share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<T> {
    pub(crate) customer: u64,
    pub(crate) session: u64,
    pub(crate) what: T,
}

/// A customer with name and history.
#[derive(Debug)]
pub(crate) struct CustomerRow {
    pub(crate) customer: Customer,
    pub(crate) profile: Profile,
    pub(crate) history: History,
}

/// Stars that a product got, summed up and counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rating {
    pub(crate) stars: i64,
    pub(crate) reviews: i32,
}

/// Columns as they are named and built; a column with a missing value in any batch must be declared nullable.
#[derive(Debug)]
struct Columns {
    schema: SchemaRef,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn new(schema: SchemaRef) -> Self {
        Self { schema, arrays: Vec::new() }
    }

    fn long(self, values: impl Iterator<Item = i64>) -> Self {
        self.array(Int64Array::from_iter_values(values))
    }

    fn int(self, values: impl Iterator<Item = i32>) -> Self {
        self.array(Int32Array::from_iter_values(values))
    }

    fn double(self, values: impl Iterator<Item = f64>) -> Self {
        self.array(Float64Array::from_iter_values(values))
    }

    fn text<S: AsRef<str>>(self, values: impl Iterator<Item = S>) -> Self {
        self.array(StringArray::from_iter_values(values))
    }

    fn time(self, values: impl Iterator<Item = Option<i64>>) -> Self {
        self.array(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    }

    fn money(self, cents: impl Iterator<Item = i64>) -> Self {
        let array = Decimal128Array::from_iter_values(cents.map(i128::from)).with_data_type(MONEY);
        self.array(array)
    }

    fn array(mut self, array: impl datafusion::arrow::array::Array + 'static) -> Self {
        self.arrays.push(Arc::new(array));
        self
    }

    fn finish(self) -> RecordBatch {
        RecordBatch::try_new(self.schema, self.arrays).expect("the arrays are built by the schema")
    }
}

const MONEY: DataType = DataType::Decimal128(12, 2);

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A schema from names and types; names that end in `?` are nullable.
fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, kind): &(&str, DataType)| match name.strip_suffix('?') {
        Some(name) => Field::new(name, kind.clone(), true),
        None => Field::new(*name, kind.clone(), false),
    };
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

pub(crate) fn customers_schema() -> SchemaRef {
    schema(&[
        ("customer_id", DataType::Int64),
        ("first_name", DataType::Utf8),
        ("last_name", DataType::Utf8),
        ("country", DataType::Utf8),
        ("city", DataType::Utf8),
        ("age_band", DataType::Utf8),
        ("segment", DataType::Utf8),
        ("channel", DataType::Utf8),
        ("email_opt_in", DataType::Boolean),
        ("favourite_category", DataType::Utf8),
        ("signup_at", time()),
        ("sessions", DataType::Int32),
        ("lifetime_orders", DataType::Int32),
        ("lifetime_spend", MONEY),
        ("first_order_at?", time()),
        ("last_order_at?", time()),
        ("last_seen_at?", time()),
    ])
}

pub(crate) fn customers(rows: &[CustomerRow]) -> RecordBatch {
    let people = || rows.iter().map(|row| &row.customer);
    let histories = || rows.iter().map(|row| &row.history);
    Columns::new(customers_schema())
        .long(people().map(|customer| customer.id as i64))
        .text(rows.iter().map(|row| row.profile.first_name))
        .text(rows.iter().map(|row| row.profile.last_name))
        .text(people().map(|customer| COUNTRIES[customer.country].code))
        .text(rows.iter().map(|row| row.profile.city))
        .text(people().map(|customer| AGE_BANDS[customer.age]))
        .text(people().map(|customer| customer.segment.name()))
        .text(people().map(|customer| CHANNELS[customer.channel]))
        .array(people().map(|customer| Some(customer.email_opt_in)).collect::<BooleanArray>())
        .text(people().map(|customer| CATEGORIES[customer.favourite].name))
        .time(people().map(|customer| Some(customer.signup)))
        .int(histories().map(|history| history.visits as i32))
        .int(histories().map(|history| history.orders))
        .money(histories().map(|history| history.spend))
        .time(histories().map(|history| history.first_order))
        .time(histories().map(|history| history.last_order))
        .time(histories().map(|history| history.last_seen))
        .finish()
}

pub(crate) fn products(world: &World, ratings: &[Rating]) -> RecordBatch {
    let schema = schema(&[
        ("product_id", DataType::Int32),
        ("title", DataType::Utf8),
        ("category", DataType::Utf8),
        ("brand", DataType::Utf8),
        ("price", MONEY),
        ("launched_at", time()),
        ("rating?", DataType::Float64),
        ("reviews", DataType::Int32),
    ]);
    let products = || world.products.iter();
    let mean = |rating: &Rating| (rating.reviews > 0).then(|| (rating.stars as f64 * 100.0 / f64::from(rating.reviews)).round() / 100.0);
    Columns::new(schema)
        .int((0..world.products.len()).map(product_id))
        .text(products().map(|product| &product.title))
        .text(products().map(|product| CATEGORIES[product.category].name))
        .text(products().map(brand_name))
        .money(products().map(|product| product.price))
        .time(products().map(|product| Some(product.launched)))
        .array(ratings.iter().map(mean).collect::<Float64Array>())
        .int(ratings.iter().map(|rating| rating.reviews))
        .finish()
}

pub(crate) fn copy_variants() -> RecordBatch {
    let schema = schema(&[
        ("copy_id", DataType::Int32),
        ("category", DataType::Utf8),
        ("tone", DataType::Utf8),
        ("offer", DataType::Utf8),
        ("headline", DataType::Utf8),
        ("body", DataType::Utf8),
    ]);
    let all = || (0..CATEGORIES.len() * VARIANTS.len()).map(|index| (index / VARIANTS.len(), index % VARIANTS.len()));
    Columns::new(schema)
        .int(all().map(|(category, variant)| copy::id(category, variant)))
        .text(all().map(|(category, _)| CATEGORIES[category].name))
        .text(all().map(|(_, variant)| VARIANTS[variant].tone))
        .text(all().map(|(_, variant)| VARIANTS[variant].offer))
        .text(all().map(|(category, variant)| copy::text(category, variant).0))
        .text(all().map(|(category, variant)| copy::text(category, variant).1))
        .finish()
}

pub(crate) fn events_schema() -> SchemaRef {
    schema(&[
        ("event_id", DataType::Int64),
        ("ts", time()),
        ("customer_id", DataType::Int64),
        ("session_id", DataType::Int64),
        ("kind", DataType::Utf8),
        ("product_id", DataType::Int32),
        ("price", MONEY),
        ("quantity?", DataType::Int32),
    ])
}

/// Events; the first gets the id `first`.
pub(crate) fn events(_world: &World, first: i64, rows: &[Row<Event>]) -> RecordBatch {
    let events = || rows.iter().map(|row| &row.what);
    Columns::new(events_schema())
        .long(first..first + rows.len() as i64)
        .time(events().map(|event| Some(event.ts)))
        .long(rows.iter().map(|row| row.customer as i64))
        .long(rows.iter().map(|row| row.session as i64))
        .text(events().map(|event| event.kind.name()))
        .int(events().map(|event| product_id(event.product)))
        .money(events().map(|event| event.price))
        .array(events().map(|event| event.quantity).collect::<Int32Array>())
        .finish()
}

pub(crate) fn impressions_schema() -> SchemaRef {
    schema(&[
        ("impression_id", DataType::Int64),
        ("ts", time()),
        ("customer_id", DataType::Int64),
        ("session_id", DataType::Int64),
        ("page", DataType::Utf8),
        ("position", DataType::Int32),
        ("product_id", DataType::Int32),
        ("price", MONEY),
        ("device", DataType::Utf8),
        ("local_hour", DataType::Int32),
        ("propensity", DataType::Float64),
        ("copy_id?", DataType::Int32),
        ("copy_propensity?", DataType::Float64),
        ("click", DataType::Int32),
    ])
}

/// Impressions; the first gets the id `first`.
pub(crate) fn impressions(world: &World, first: i64, rows: &[Row<Impression>]) -> RecordBatch {
    let shown = || rows.iter().map(|row| &row.what);
    let copy_id = |impression: &Impression| {
        let variant = impression.copy?.variant?;
        Some(copy::id(world.products[impression.product].category, variant))
    };
    Columns::new(impressions_schema())
        .long(first..first + rows.len() as i64)
        .time(shown().map(|impression| Some(impression.place.moment)))
        .long(rows.iter().map(|row| row.customer as i64))
        .long(rows.iter().map(|row| row.session as i64))
        .text(shown().map(|impression| impression.page.name()))
        .int(shown().map(|impression| impression.place.position as i32 + 1))
        .int(shown().map(|impression| product_id(impression.product)))
        .money(shown().map(|impression| impression.price))
        .text(shown().map(|impression| DEVICES[impression.place.device]))
        .int(shown().map(|impression| impression.place.hour as i32))
        .double(shown().map(|impression| impression.propensity))
        .array(shown().map(copy_id).collect::<Int32Array>())
        .array(shown().map(|impression| impression.copy.map(|copy| copy.propensity)).collect::<Float64Array>())
        .int(shown().map(|impression| i32::from(impression.click)))
        .finish()
}

pub(crate) fn truth_schema() -> SchemaRef {
    let mut fields = vec![("impression_id", DataType::Int64), ("click_probability", DataType::Float64)];
    fields.extend(EFFECTS.map(|(name, _)| (name, DataType::Float64)));
    schema(&fields)
}

type Effect = fn(&Effects) -> i32;

const EFFECTS: [(&str, Effect); 9] = [
    ("base", |effects| effects.base),
    ("taste_effect", |effects| effects.taste),
    ("quality_effect", |effects| effects.quality),
    ("novelty_effect", |effects| effects.novelty),
    ("price_effect", |effects| effects.price),
    ("position_effect", |effects| effects.position),
    ("hour_effect", |effects| effects.hour),
    ("device_effect", |effects| effects.device),
    ("copy_effect", |effects| effects.copy),
];

/// The truth about impressions; the first gets the id `first`.
pub(crate) fn truth(_world: &World, first: i64, rows: &[Row<Impression>]) -> RecordBatch {
    let mut columns =
        Columns::new(truth_schema()).long(first..first + rows.len() as i64).double(rows.iter().map(|row| row.what.probability));
    for (_, effect) in EFFECTS {
        columns = columns.double(rows.iter().map(|row| f64::from(effect(&row.what.effects)) / 1e3));
    }
    columns.finish()
}

pub(crate) fn reviews_schema() -> SchemaRef {
    schema(&[
        ("review_id", DataType::Int64),
        ("ts", time()),
        ("customer_id", DataType::Int64),
        ("product_id", DataType::Int32),
        ("stars", DataType::Int32),
        ("lang", DataType::Utf8),
        ("title", DataType::Utf8),
        ("text", DataType::Utf8),
    ])
}

/// Reviews with their words; the first gets the id `first`.
pub(crate) fn reviews(first: i64, rows: &[(Review, Words)]) -> RecordBatch {
    let reviews = || rows.iter().map(|row| &row.0);
    let words = || rows.iter().map(|row| &row.1);
    Columns::new(reviews_schema())
        .long(first..first + rows.len() as i64)
        .time(reviews().map(|review| Some(review.ts)))
        .long(reviews().map(|review| review.customer as i64))
        .int(reviews().map(|review| product_id(review.product)))
        .int(reviews().map(|review| review.stars))
        .text(words().map(|words| words.lang))
        .text(words().map(|words| words.title))
        .text(words().map(|words| &words.text))
        .finish()
}

fn product_id(index: usize) -> i32 {
    index as i32 + 1
}
