//! The fixed part of a sample: its size, its products and what they cost on a day.

use super::calendar::{self, Calendar, DAY, DAYS, START};
use super::catalogue::{BRANDS, CATEGORIES, COLOURS, brands_of};
use super::random::{Cumulative, Random, Topic};

/// Events per customer, on average.
const EVENTS_PER_CUSTOMER: u64 = 20;
/// Products of a category that were there before the log began, at least: a page must find enough to show.
const OLD_PRODUCTS: usize = 8;

/// A product, with what is true about it but not written in the table.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) title: String,
    pub(crate) category: usize,
    pub(crate) brand: usize,
    /// List price in cents.
    pub(crate) price: i64,
    /// Logarithm of the list price over the median of the category.
    pub(crate) dearness: f64,
    pub(crate) launched: i64,
    /// Where it lies in the space of taste.
    pub(crate) style: [f64; 3],
    /// How good it is, in thousandths of a logit; clicks, carts and stars follow from it.
    pub(crate) quality: i32,
    popularity: f64,
    /// Decides when it is on sale.
    dice: u64,
}

impl Product {
    /// Price in cents on a day of the log.
    pub(crate) fn price_on(&self, day: i64) -> i64 {
        self.price * (100 - self.discount_on(day)) / 100
    }

    /// Discount on a day of the log, in percent.
    pub(crate) fn discount_on(&self, day: i64) -> i64 {
        let month = calendar::month(day);
        if calendar::is_black_week(day) && self.dice.is_multiple_of(2) {
            return 25;
        }
        if (month == 0 || month == 6) && (self.dice >> 8).is_multiple_of(4) {
            return 30;
        }
        let period = (day.max(0) / 30) as u64;
        if mix(self.dice ^ period).is_multiple_of(12) { 15 } else { 0 }
    }
}

/// The products of one category in the order of their launch, with the weights by which they are found and shown.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// Indexes into [`World::products`].
    pub(crate) products: Vec<usize>,
    launches: Vec<i64>,
    /// How customers find products by themselves.
    pub(crate) demand: Cumulative,
    /// How the logging policy puts products on pages: by popularity, flattened so that everything is shown now and then.
    pub(crate) policy: Cumulative,
}

impl Shelf {
    /// How many products were launched at this moment; they are the first of the shelf.
    pub(crate) fn live(&self, moment: i64) -> usize {
        self.launches.partition_point(|launch| *launch <= moment)
    }
}

/// Everything that is the same for all customers.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    /// Event rows to make.
    pub(crate) events: u64,
    pub(crate) customers: u64,
    pub(crate) calendar: Calendar,
    pub(crate) products: Vec<Product>,
    pub(crate) shelves: Vec<Shelf>,
}

impl World {
    pub(crate) fn new(seed: u64, events: u64) -> Self {
        let mut products = products(seed, events);
        // ids follow the launch
        products.sort_by_key(|product| product.launched);
        let shelves = (0..CATEGORIES.len()).map(|category| shelf(&products, category)).collect();
        let customers = (events / EVENTS_PER_CUSTOMER).max(1);
        Self { seed, events, customers, calendar: Calendar::new(), products, shelves }
    }
}

/// Twice the square root of the events: a shop of ten times the traffic has three times the products.
fn product_count(events: u64) -> usize {
    (2 * events.isqrt() as usize).clamp(CATEGORIES.len() * OLD_PRODUCTS, 60_000)
}

fn products(seed: u64, events: u64) -> Vec<Product> {
    let count = product_count(events);
    let shares = CATEGORIES.map(|category| category.share);
    let old = CATEGORIES.len() * OLD_PRODUCTS;
    let mut random = Random::new(seed, Topic::Products, 0);
    let mut by_category = [const { Vec::new() }; CATEGORIES.len()];
    for index in 0..count {
        let category = if index < old { index % CATEGORIES.len() } else { random.weighted(&shares) };
        let before_log = index < old || random.chance(0.5);
        let launched =
            if before_log { START - DAY - random.below(1_000) as i64 * DAY } else { START + random.below(DAYS - 20) as i64 * DAY };
        // new products go live at seven in the morning
        by_category[category].push(product(&mut random, category, launched + 7 * calendar::HOUR));
    }
    for products in &mut by_category {
        rank(&mut random, products);
    }
    by_category.into_iter().flatten().collect()
}

fn product(random: &mut Random, category: usize, launched: i64) -> Product {
    let kind = &CATEGORIES[category];
    let brands = brands_of(category);
    let brand = brands[random.weighted(&[3.0, 2.2, 1.7, 1.3, 1.0, 0.8, 0.6, 0.5, 0.4])];
    let colour = if kind.name == "coffee" { None } else { Some(random.pick(&COLOURS)) };
    let mut title = format!("{} {} {}", random.pick(kind.adjectives), random.pick(kind.materials), random.pick(kind.nouns));
    if let Some(colour) = colour {
        title = format!("{title}, {colour}");
    }
    // a brand has its own level of price and its own style
    let tier = unit_of(brand as u64, 1) * 0.6;
    let dearness = (tier + 0.35 * random.normal()).clamp(-1.6, 1.6);
    let price = tidy_price(kind.price * libm::exp(dearness));
    let style = std::array::from_fn(|axis| {
        let brand_style = unit_of(brand as u64, 2 + axis as u64);
        (0.4 * kind.style[axis] + 0.6 * brand_style + 0.3 * random.normal()).clamp(-1.5, 1.5)
    });
    Product {
        title,
        category,
        brand,
        price,
        dearness: libm::log(price as f64 / kind.price),
        launched,
        style,
        quality: ((300.0 * random.normal()) as i32).clamp(-900, 900),
        popularity: 0.0,
        dice: random.word(),
    }
}

/// Gives the products of a category popularities with a long tail: Zipf's law over a random order.
fn rank(random: &mut Random, products: &mut [Product]) {
    let mut ranks: Vec<usize> = (0..products.len()).collect();
    for last in (1..ranks.len()).rev() {
        ranks.swap(last, random.below(last + 1));
    }
    for (product, rank) in products.iter_mut().zip(ranks) {
        let zipf = libm::pow(rank as f64 + 1.5, -1.15);
        product.popularity = zipf * libm::exp(f64::from(product.quality) / 2_000.0);
    }
}

fn shelf(products: &[Product], category: usize) -> Shelf {
    let indexes: Vec<usize> = (0..products.len()).filter(|index| products[*index].category == category).collect();
    let popularity = indexes.iter().map(|index| products[*index].popularity);
    let demand = Cumulative::new(popularity.clone());
    let policy = Cumulative::new(popularity.map(|weight| libm::pow(weight, 0.5)));
    Shelf { launches: indexes.iter().map(|index| products[*index].launched).collect(), products: indexes, demand, policy }
}

/// Prices as shops write them: 7.49, 18.99, 64.90, 149.00.
fn tidy_price(cents: f64) -> i64 {
    let cents = cents as i64;
    match cents {
        ..1_000 => (cents / 50 * 50 + 49).max(149),
        1_000..3_000 => cents / 100 * 100 + 99,
        3_000..10_000 => cents / 100 * 100 + 90,
        _ => cents / 500 * 500 + 400,
    }
}

/// A number in [-1, 1) that belongs to `key` in every sample.
pub(crate) fn unit_of(key: u64, salt: u64) -> f64 {
    (mix(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(salt)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Name of a brand.
pub(crate) fn brand_name(product: &Product) -> &'static str {
    BRANDS[product.brand]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_has_something_to_show_from_the_first_day() {
        for events in [1, 5_000, 1_000_000] {
            let world = World::new(3, events);
            assert!(world.shelves.iter().all(|shelf| shelf.live(START) >= OLD_PRODUCTS), "{events} events");
            assert!(world.products.is_sorted_by_key(|product| product.launched));
        }
    }

    #[test]
    fn prices_look_like_prices_and_sales_lower_them() {
        let world = World::new(3, 100_000);
        for product in &world.products {
            assert!(matches!(product.price % 100, 0 | 49 | 90 | 99), "{}", product.price);
            let on_sale = (0..DAYS as i64).filter(|day| product.price_on(*day) < product.price).count();
            assert!((0..DAYS as i64).all(|day| product.price_on(day) <= product.price));
            assert!(on_sale < DAYS / 2, "{} is on sale on {on_sale} days", product.title);
        }
    }
}
