//! Promises about the sample shop: what `stratagem sample` writes is exact, repeatable, joins, and looks like a shop.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chrono::Datelike;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stratagem::sample::{Error, SampleArgs, run};

const TABLES: [&str; 7] = ["copy_variants", "customers", "events", "impressions", "products", "reviews", "truth"];

fn make(rows: u64, seed: u64, to: &Path, force: bool) -> Result<String, Error> {
    let mut out = Vec::new();
    run(&SampleArgs { rows, seed, to: to.to_owned(), force }, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// Every file below a folder by its path in it, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

struct Table(RecordBatch);

impl Table {
    fn read(folder: &Path, name: &str) -> Self {
        let file = File::open(folder.join(format!("{name}.parquet"))).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = builder.schema().clone();
        let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
        Self(concat_batches(&schema, &batches).unwrap())
    }

    fn rows(&self) -> usize {
        self.0.num_rows()
    }

    fn column(&self, name: &str) -> &dyn Array {
        self.0.column_by_name(name).unwrap_or_else(|| panic!("there is no column {name}"))
    }

    fn long(&self, name: &str) -> Vec<i64> {
        self.column(name).as_primitive::<Int64Type>().values().to_vec()
    }

    fn int(&self, name: &str) -> Vec<i32> {
        self.column(name).as_primitive::<Int32Type>().values().to_vec()
    }

    fn double(&self, name: &str) -> Vec<f64> {
        self.column(name).as_primitive::<Float64Type>().values().to_vec()
    }

    fn cents(&self, name: &str) -> Vec<i128> {
        self.column(name).as_primitive::<Decimal128Type>().values().to_vec()
    }

    fn time(&self, name: &str) -> Vec<i64> {
        self.column(name).as_primitive::<TimestampMicrosecondType>().values().to_vec()
    }

    fn text(&self, name: &str) -> Vec<&str> {
        self.column(name).as_string::<i32>().iter().map(|value| value.unwrap()).collect()
    }
}

/// A shop of 200,000 events that all tests of its looks share.
struct Shop {
    _folder: tempfile::TempDir,
    customers: Table,
    products: Table,
    events: Table,
    impressions: Table,
    truth: Table,
    reviews: Table,
    copy: Table,
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    make(200_000, 11, folder.path(), false).unwrap();
    let read = |name| Table::read(folder.path(), name);
    Shop {
        customers: read("customers"),
        products: read("products"),
        events: read("events"),
        impressions: read("impressions"),
        truth: read("truth"),
        reviews: read("reviews"),
        copy: read("copy_variants"),
        _folder: folder,
    }
});

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}

#[test]
fn committed_shop_is_what_its_command_makes() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/shop");
    let folder = tempfile::tempdir().unwrap();
    make(10_000, 7, folder.path(), false).unwrap();
    let (made, kept) = (files(folder.path()), files(&committed));
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (path, bytes) in &made {
        // not assert_eq: nobody wants to read the bytes
        assert!(bytes == &kept[path], "{} differs: make it again with the command in data/README.md", path.display());
    }
    assert!(kept.values().map(Vec::len).sum::<usize>() < 1 << 20);
}

#[test]
fn another_seed_makes_another_shop() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(500, 1, first.path(), false).unwrap();
    make(500, 2, second.path(), false).unwrap();
    for table in ["customers", "products", "events", "impressions"] {
        let name = PathBuf::from(format!("{table}.parquet"));
        assert!(files(first.path())[&name] != files(second.path())[&name], "{table}");
    }
}

#[test]
fn events_are_exactly_as_many_as_asked_for() {
    for rows in [1, 2, 19, 777, 12_345] {
        let folder = tempfile::tempdir().unwrap();
        let said = make(rows, 3, folder.path(), false).unwrap();
        assert_eq!(Table::read(folder.path(), "events").rows() as u64, rows);
        assert!(said.contains(&format!("events.parquet: {rows} rows")), "{said}");
        assert_eq!(files(folder.path()).len(), TABLES.len() + 1);
    }
}

#[test]
fn other_peoples_files_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let refused = make(10, 1, folder.path(), false).unwrap_err();
    assert!(matches!(refused, Error::NotEmpty { .. }), "{refused}");
    assert!(refused.to_string().contains(folder.path().to_str().unwrap()) && refused.hint().contains("--force"));
    make(10, 1, folder.path(), true).unwrap();
    make(20, 1, folder.path(), false).unwrap();
    assert_eq!(Table::read(folder.path(), "events").rows(), 20);
    assert_eq!(fs::read_to_string(folder.path().join("thesis.txt")).unwrap(), "years of work");
}

#[test]
fn impossible_targets_and_numbers_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(make(10, 1, &file, false), Err(Error::NotAFolder { path }) if path == file));
    let below = make(10, 1, &file.join("shop"), false).unwrap_err();
    assert!(below.to_string().contains(file.to_str().unwrap()), "{below}");
    assert!(matches!(make(0, 1, &folder.path().join("new"), false), Err(Error::Rows { rows: 0 })));
    assert!(!folder.path().join("new").exists());
}

#[test]
fn leftovers_of_an_interrupted_run_are_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let staging = folder.path().join(".staging");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("events.parquet"), "half").unwrap();
    make(10, 1, folder.path(), false).unwrap();
    assert!(!staging.exists());
}

#[test]
fn times_carry_a_zone_money_is_numeric_and_logs_are_sorted() {
    let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (table, column) in [(&SHOP.events, "ts"), (&SHOP.impressions, "ts"), (&SHOP.reviews, "ts"), (&SHOP.customers, "signup_at")] {
        assert_eq!(table.column(column).data_type(), &zone);
        assert!(table.time(column).is_sorted(), "{column}");
    }
    for (table, column) in [(&SHOP.events, "price"), (&SHOP.products, "price"), (&SHOP.customers, "lifetime_spend")] {
        assert_eq!(table.column(column).data_type(), &DataType::Decimal128(12, 2));
    }
    for (table, column) in [(&SHOP.events, "event_id"), (&SHOP.impressions, "impression_id"), (&SHOP.reviews, "review_id")] {
        assert!(table.long(column).into_iter().eq(1..=table.rows() as i64), "{column}");
    }
}

#[test]
fn every_id_finds_its_row() {
    let customers = 1..=SHOP.customers.rows() as i64;
    let products = 1..=SHOP.products.rows() as i32;
    assert!(SHOP.customers.long("customer_id").into_iter().eq(customers.clone()));
    assert!(SHOP.products.int("product_id").into_iter().eq(products.clone()));
    for table in [&SHOP.events, &SHOP.impressions, &SHOP.reviews] {
        assert!(table.rows() > 1_000);
        assert!(table.long("customer_id").iter().all(|id| customers.contains(id)));
        assert!(table.int("product_id").iter().all(|id| products.contains(id)));
    }
    assert_eq!(SHOP.truth.long("impression_id"), SHOP.impressions.long("impression_id"));
    let sessions: HashSet<i64> = SHOP.events.long("session_id").into_iter().collect();
    assert!(SHOP.impressions.long("session_id").iter().all(|session| sessions.contains(session)));
    let copies: HashMap<i32, &str> = SHOP.copy.int("copy_id").into_iter().zip(SHOP.copy.text("category")).collect();
    let categories = SHOP.products.text("category");
    let shown = SHOP.impressions.column("copy_id").as_primitive::<Int32Type>();
    let with_copy: Vec<_> =
        shown.iter().zip(SHOP.impressions.int("product_id")).filter_map(|(copy, product)| Some((copy?, product))).collect();
    assert!(with_copy.len() > 5_000);
    assert!(with_copy.iter().all(|(copy, product)| copies[copy] == categories[*product as usize - 1]));
}

#[test]
fn people_sign_up_then_view_then_fill_the_cart_then_buy() {
    let signups = SHOP.customers.time("signup_at");
    let (kinds, sessions) = (SHOP.events.text("kind"), SHOP.events.long("session_id"));
    let (products, customers) = (SHOP.events.int("product_id"), SHOP.events.long("customer_id"));
    let (mut viewed, mut in_cart, mut owners) = (HashSet::new(), HashSet::new(), HashMap::new());
    let mut counts = BTreeMap::new();
    for (row, ts) in SHOP.events.time("ts").into_iter().enumerate() {
        let thing = (sessions[row], products[row]);
        *counts.entry(kinds[row]).or_insert(0usize) += 1;
        assert!(ts > signups[customers[row] as usize - 1]);
        assert_eq!(*owners.entry(sessions[row]).or_insert(customers[row]), customers[row]);
        match kinds[row] {
            "view" => _ = viewed.insert(thing),
            "cart" => assert!(viewed.contains(&thing) && in_cart.insert(thing)),
            "purchase" => assert!(in_cart.remove(&thing)),
            other => panic!("unknown kind {other}"),
        }
    }
    let (views, carts, purchases) = (counts["view"], counts["cart"], counts["purchase"]);
    assert!((0.08..0.25).contains(&(carts as f64 / views as f64)), "{counts:?}");
    assert!((0.3..0.7).contains(&(purchases as f64 / carts as f64)), "{counts:?}");
    assert!(SHOP.events.column("quantity").null_count() == views);
}

#[test]
fn a_click_is_followed_by_a_view() {
    let views: HashSet<(i64, i32)> = SHOP.events.long("session_id").into_iter().zip(SHOP.events.int("product_id")).collect();
    let shown = SHOP.impressions.long("session_id").into_iter().zip(SHOP.impressions.int("product_id"));
    let clicked: Vec<_> = shown.zip(SHOP.impressions.int("click")).filter(|(_, click)| *click == 1).collect();
    assert!(clicked.len() > 2_000);
    assert!(clicked.iter().all(|(seen, _)| views.contains(seen)));
}

#[test]
fn customers_know_their_orders_and_reviewers_have_bought() {
    let (kinds, sessions) = (SHOP.events.text("kind"), SHOP.events.long("session_id"));
    let (customers, products) = (SHOP.events.long("customer_id"), SHOP.events.int("product_id"));
    let (prices, ts) = (SHOP.events.cents("price"), SHOP.events.time("ts"));
    let quantities = SHOP.events.column("quantity").as_primitive::<Int32Type>();
    let mut orders: HashMap<i64, (i128, HashSet<i64>)> = HashMap::new();
    let mut bought: HashMap<(i64, i32), i64> = HashMap::new();
    let mut visits: HashMap<i64, HashSet<i64>> = HashMap::new();
    for row in 0..SHOP.events.rows() {
        visits.entry(customers[row]).or_default().insert(sessions[row]);
        if kinds[row] == "purchase" {
            let order = orders.entry(customers[row]).or_default();
            order.0 += prices[row] * i128::from(quantities.value(row));
            order.1.insert(sessions[row]);
            bought.entry((customers[row], products[row])).or_insert(ts[row]);
        }
    }
    let (spends, counts) = (SHOP.customers.cents("lifetime_spend"), SHOP.customers.int("lifetime_orders"));
    for (row, sessions) in SHOP.customers.int("sessions").into_iter().enumerate() {
        let id = row as i64 + 1;
        let (spend, order_count) = orders.get(&id).map_or((0, 0), |(spend, orders)| (*spend, orders.len()));
        assert_eq!((spends[row], counts[row] as usize), (spend, order_count), "customer {id}");
        assert_eq!(visits.get(&id).map_or(0, HashSet::len), sessions as usize, "customer {id}");
    }
    let reviews = SHOP.reviews.long("customer_id").into_iter().zip(SHOP.reviews.int("product_id")).zip(SHOP.reviews.time("ts"));
    for (pair, ts) in reviews {
        assert!(bought[&pair] < ts);
    }
}

#[test]
fn product_ratings_are_the_mean_of_their_stars() {
    let mut stars: HashMap<i32, Vec<f64>> = HashMap::new();
    for (product, given) in SHOP.reviews.int("product_id").into_iter().zip(SHOP.reviews.int("stars")) {
        stars.entry(product).or_default().push(f64::from(given));
    }
    let ratings = SHOP.products.column("rating").as_primitive::<Float64Type>();
    for (row, count) in SHOP.products.int("reviews").into_iter().enumerate() {
        let given = stars.remove(&(row as i32 + 1)).unwrap_or_default();
        assert_eq!(given.len(), count as usize);
        assert_eq!(ratings.is_null(row), given.is_empty());
        assert!(given.is_empty() || (ratings.value(row) - mean(given)).abs() <= 0.005 + 1e-9);
    }
}

#[test]
fn clicks_are_rare_and_agree_with_the_truth_in_every_tenth() {
    let clicks: Vec<f64> = SHOP.impressions.int("click").into_iter().map(f64::from).collect();
    let mut pairs: Vec<(f64, f64)> = SHOP.truth.double("click_probability").into_iter().zip(clicks).collect();
    let rate = mean(pairs.iter().map(|pair| pair.1));
    assert!((0.02..0.04).contains(&rate), "{rate}");
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    for tenth in pairs.chunks(pairs.len().div_ceil(10)) {
        let (expected, seen) = (mean(tenth.iter().map(|pair| pair.0)), mean(tenth.iter().map(|pair| pair.1)));
        let deviation = mean(tenth.iter().map(|pair| pair.0 * (1.0 - pair.0))).sqrt() / (tenth.len() as f64).sqrt();
        assert!((seen - expected).abs() < 4.0 * deviation, "{seen} clicks where {expected} were expected");
    }
    // worth learning: the best tenth is clicked several times as often as the worst
    let tenth = pairs.len() / 10;
    let (low, high) = (mean(pairs[..tenth].iter().map(|pair| pair.0)), mean(pairs[pairs.len() - tenth..].iter().map(|pair| pair.0)));
    assert!(high > 5.0 * low, "{low} {high}");
}

#[test]
fn truth_is_the_sigmoid_of_what_made_it_up() {
    let schema = SHOP.truth.0.schema();
    let names = schema.fields().iter().map(|field| field.name()).filter(|name| *name == "base" || name.ends_with("_effect"));
    let effects: Vec<Vec<f64>> = names.map(|name| SHOP.truth.double(name)).collect();
    assert_eq!(effects.len(), 9);
    for (row, probability) in SHOP.truth.double("click_probability").into_iter().enumerate() {
        let logit: f64 = effects.iter().map(|effect| effect[row]).sum();
        assert!((probability - 1.0 / (1.0 + (-logit).exp())).abs() < 6e-7);
    }
}

#[test]
fn propensities_weigh_every_product_alike() {
    // the mean of 1/propensity over the impressions of a first place is the number of products that could stand there
    let categories = SHOP.products.text("category");
    let launches = SHOP.products.time("launched_at");
    let (positions, products) = (SHOP.impressions.int("position"), SHOP.impressions.int("product_id"));
    let (propensities, moments) = (SHOP.impressions.double("propensity"), SHOP.impressions.time("ts"));
    assert!(propensities.iter().all(|propensity| (0.0..=1.0).contains(propensity)));
    let (mut weight, mut choices) = (0.0, 0.0);
    for row in (0..SHOP.impressions.rows()).filter(|row| positions[*row] == 1) {
        let category = categories[products[row] as usize - 1];
        let live = (0..categories.len()).filter(|product| categories[*product] == category && launches[*product] <= moments[row]).count();
        weight += 1.0 / propensities[row];
        choices += live as f64;
    }
    assert!((weight / choices - 1.0).abs() < 0.02, "{}", weight / choices);
}

#[test]
fn a_fifth_of_the_products_has_most_of_the_views() {
    let mut views: HashMap<i32, usize> = HashMap::new();
    for (product, kind) in SHOP.events.int("product_id").into_iter().zip(SHOP.events.text("kind")) {
        *views.entry(product).or_default() += usize::from(kind == "view");
    }
    let mut counts: Vec<usize> = views.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let top: usize = counts.iter().take(SHOP.products.rows() / 5).sum();
    let share = top as f64 / counts.iter().sum::<usize>() as f64;
    assert!((0.6..0.9).contains(&share), "{share}");
}

#[test]
fn week_year_and_evening_can_be_seen() {
    let categories = SHOP.products.text("category");
    let products = SHOP.events.int("product_id");
    let (mut weekdays, mut months, mut jackets, mut hours) = ([0.0; 7], [0.0; 24], [0.0; 12], [0.0; 24]);
    for (row, ts) in SHOP.events.time("ts").into_iter().enumerate() {
        let date = chrono::DateTime::from_timestamp_micros(ts).unwrap();
        weekdays[date.weekday().num_days_from_monday() as usize] += 1.0;
        months[(date.year() - 2024) as usize * 12 + date.month0() as usize] += 1.0;
        if categories[products[row] as usize - 1] == "jackets" {
            jackets[date.month0() as usize] += 1.0;
        }
    }
    for hour in SHOP.impressions.int("local_hour") {
        hours[hour as usize] += 1.0;
    }
    assert!(weekdays[6] > 1.15 * weekdays[4] && weekdays[0] > 1.1 * weekdays[5], "{weekdays:?}");
    for year in months.chunks(12) {
        assert!(year[10] > 1.3 * year[7] && year[11] > 1.3 * year[7], "{months:?}");
    }
    assert!(months[12..].iter().sum::<f64>() > 1.05 * months[..12].iter().sum::<f64>(), "{months:?}");
    assert!(jackets[10] > 2.5 * jackets[6], "{jackets:?}");
    assert!(hours[20] > 3.0 * hours[4] && hours[20] > 1.2 * hours[15], "{hours:?}");
}

#[test]
fn some_customers_come_back_often_and_spend_much() {
    let mut orders = SHOP.customers.int("lifetime_orders");
    orders.retain(|orders| *orders > 0);
    let repeat = mean(orders.iter().map(|orders| f64::from(i32::from(*orders > 1))));
    assert!((0.3..0.6).contains(&repeat), "{repeat}");
    let mut spends = SHOP.customers.cents("lifetime_spend");
    spends.retain(|spend| *spend > 0);
    spends.sort_unstable();
    let (median, top) = (spends[spends.len() / 2], spends[spends.len() * 99 / 100]);
    assert!(top > 8 * median, "{median} {top}");
}

#[test]
fn personal_copy_beats_one_copy_for_all() {
    // the best copy of each segment must differ, or there is nothing to personalise
    let segments = SHOP.customers.text("segment");
    let tones: HashMap<i32, (&str, &str)> =
        SHOP.copy.int("copy_id").into_iter().zip(SHOP.copy.text("tone").into_iter().zip(SHOP.copy.text("offer"))).collect();
    let effects = SHOP.truth.double("copy_effect");
    let customers = SHOP.impressions.long("customer_id");
    let mut sums = BTreeMap::new();
    for (row, copy) in SHOP.impressions.column("copy_id").as_primitive::<Int32Type>().iter().enumerate() {
        let Some(copy) = copy else {
            assert_eq!(effects[row], 0.0);
            continue;
        };
        let sum = sums.entry((segments[customers[row] as usize - 1], tones[&copy])).or_insert((0.0, 0.0));
        *sum = (sum.0 + effects[row], sum.1 + 1.0);
    }
    let best = |segment: &str| {
        let of_segment = sums.iter().filter(|((name, _), _)| *name == segment);
        of_segment.max_by(|a, b| (a.1.0 / a.1.1).total_cmp(&(b.1.0 / b.1.1))).map(|((_, copy), _)| *copy).unwrap()
    };
    assert_eq!(best("bargain").1, "10% off");
    assert_eq!(best("mainstream").1, "free delivery");
    assert_eq!(best("premium").0, "elegant");
}
