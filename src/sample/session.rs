//! One visit to the shop, from the first page to the checkout. A visit is drawn from its own stream: played twice, it is the same visit.

use super::calendar::{self, DAY, END, HOUR, SECOND};
use super::catalogue::CATEGORIES;
use super::click::{self, Effects, Place, Probabilities};
use super::copy::Choice;
use super::customer::Customer;
use super::random::{Random, Topic};
use super::review;
use super::world::World;

/// No visit lasts longer, in microseconds.
pub(crate) const LONGEST: i64 = 3 * HOUR;
/// Views of one visit at most.
const MOST_VIEWS: usize = 40;
/// Lines of one order at most.
const MOST_LINES: usize = 12;

/// What a customer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    View,
    Cart,
    Purchase,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Cart => "cart",
            Self::Purchase => "purchase",
        }
    }
}

/// A row of the events, but for its ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) ts: i64,
    pub(crate) kind: Kind,
    /// Index into [`World::products`].
    pub(crate) product: usize,
    /// Price in cents at that time.
    pub(crate) price: i64,
    /// None for a view.
    pub(crate) quantity: Option<i32>,
}

/// Where a product was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// Four products of a category that the customer may like; the first bears the copy.
    Home,
    /// Six products of the category looked at.
    Category,
    /// Three more products below the one looked at.
    Product,
}

impl Page {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Category => "category",
            Self::Product => "product",
        }
    }

    fn positions(self) -> usize {
        match self {
            Self::Home => 4,
            Self::Category => 6,
            Self::Product => 3,
        }
    }
}

/// A row of the impressions and of the truth, but for their ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Impression {
    pub(crate) place: Place,
    pub(crate) page: Page,
    pub(crate) product: usize,
    /// Price in cents at that time.
    pub(crate) price: i64,
    /// Chance with which the policy showed this product, given what stands before it on the page.
    pub(crate) propensity: f64,
    /// The copy experiment, where this place takes part in it.
    pub(crate) copy: Option<Choice>,
    pub(crate) effects: Effects,
    pub(crate) probability: f64,
    pub(crate) click: bool,
}

/// A review to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Review {
    pub(crate) ts: i64,
    pub(crate) customer: u64,
    pub(crate) product: usize,
    pub(crate) stars: i32,
    /// Decides the words.
    pub(crate) dice: u64,
}

/// Takes what happens in a visit, in the order of time.
pub(crate) trait Sink {
    fn event(&mut self, event: Event);
    fn impression(&mut self, impression: Impression);
    fn review(&mut self, review: Review);
}

/// Which visit: the customer, the number among the customer's visits, and when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Visit {
    pub(crate) start: i64,
    pub(crate) customer: u64,
    pub(crate) serial: u32,
}

/// Plays a visit into `sink`.
pub(crate) fn play(world: &World, probabilities: &Probabilities, customer: &Customer, visit: Visit, sink: &mut impl Sink) {
    let mut random = Random::pair(world.seed, Topic::Session, customer.id, u64::from(visit.serial));
    let day = calendar::day_of(visit.start);
    let device = random.weighted(&customer.devices);
    let month = calendar::month(calendar::day_of(visit.start + customer.offset() * HOUR));
    let intent = customer.intent * random.lognormal(1.0, 0.6);
    let browsing = customer.browsing(month);
    let category = random.weighted(&browsing);
    let stage =
        Stage { world, probabilities, customer, random, sink, now: visit.start, start: visit.start, day, device, intent, cart: Vec::new() };
    stage.play(&browsing, category);
}

/// A visit going on.
struct Stage<'a, S> {
    world: &'a World,
    probabilities: &'a Probabilities,
    customer: &'a Customer,
    random: Random,
    sink: &'a mut S,
    now: i64,
    start: i64,
    day: i64,
    device: usize,
    intent: f64,
    /// Product, price and quantity.
    cart: Vec<(usize, i64, i32)>,
}

impl<S: Sink> Stage<'_, S> {
    fn play(mut self, browsing: &[f64; CATEGORIES.len()], mut category: usize) {
        if self.random.chance(0.45) {
            self.show(Page::Home, category);
        }
        let views = (1 + self.random.geometric(0.29)).min(MOST_VIEWS);
        for _ in 0..views {
            if self.random.chance(0.22) {
                category = self.random.weighted(browsing);
            }
            if self.random.chance(0.13) {
                self.show(Page::Category, category);
            }
            let product = self.find(category);
            self.view(product);
            if self.random.chance(0.16) {
                self.show(Page::Product, category);
            }
        }
        self.checkout();
    }

    /// Lets time pass: lognormal seconds with this median, as long as the visit has any left.
    fn wait(&mut self, median: f64) {
        let pause = (self.random.lognormal(median, 0.8) * SECOND as f64) as i64;
        let left = self.start + LONGEST - 10 * SECOND - self.now;
        self.now += pause.clamp(1, 20 * 60 * SECOND).min(left / 8 + 1);
    }

    /// A product that the customer comes upon by searching or browsing.
    fn find(&mut self, category: usize) -> usize {
        let shelf = &self.world.shelves[category];
        let live = shelf.live(self.now);
        if category == self.customer.favourite && self.random.chance(0.2) {
            // one of three products that this customer keeps coming back to
            let which = self.random.below(3) as u64;
            let mut own = Random::pair(self.world.seed, Topic::Traits, self.customer.id, 1 + which);
            return shelf.products[shelf.demand.draw(&mut own, live)];
        }
        let mut product = shelf.products[shelf.demand.draw(&mut self.random, live)];
        // people look further when it is not to their taste, but not for ever
        for _ in 0..2 {
            let (taste, price) = click::attraction(self.customer, &self.world.products[product], self.day);
            if self.random.unit() < self.probabilities.of(taste + price + 400) {
                break;
            }
            product = shelf.products[shelf.demand.draw(&mut self.random, live)];
        }
        product
    }

    fn view(&mut self, product: usize) {
        self.wait(35.0);
        let price = self.world.products[product].price_on(self.day);
        self.sink.event(Event { ts: self.now, kind: Kind::View, product, price, quantity: None });
        let (taste, dearness) = click::attraction(self.customer, &self.world.products[product], self.day);
        let wish = f64::from(taste + dearness + self.world.products[product].quality) / 1e3;
        let in_cart = self.cart.iter().any(|line| line.0 == product);
        if in_cart || self.cart.len() == MOST_LINES || !self.random.chance((0.095 * self.intent * libm::exp(0.5 * wish)).min(0.6)) {
            return;
        }
        self.wait(20.0);
        // cheap things are bought in twos and threes
        let more = if price < 3_000 { 0.25 } else { 0.06 };
        let quantity = 1 + self.random.geometric(1.0 - more).min(9) as i32;
        self.sink.event(Event { ts: self.now, kind: Kind::Cart, product, price, quantity: Some(quantity) });
        self.cart.push((product, price, quantity));
    }

    /// Shows products of a category by the logging policy: one after the other, without repeating any, in proportion to their weights.
    fn show(&mut self, page: Page, category: usize) {
        self.wait(6.0);
        let shelf = &self.world.shelves[category];
        let live = shelf.live(self.now);
        let mut left = shelf.policy.sum(live);
        let mut shown = [usize::MAX; 6];
        let mut clicked = [None; 6];
        for position in 0..page.positions() {
            let index = loop {
                let index = shelf.policy.draw(&mut self.random, live);
                if !shown.contains(&index) {
                    break index;
                }
            };
            shown[position] = index;
            let weight = shelf.policy.weight(index);
            let product = shelf.products[index];
            if self.impression(page, position, product, weight / left) {
                clicked[position] = Some(product);
            }
            left -= weight;
        }
        for product in clicked.into_iter().flatten() {
            self.view(product);
        }
    }

    fn impression(&mut self, page: Page, position: usize, index: usize, propensity: f64) -> bool {
        let product = &self.world.products[index];
        let hour = calendar::local_hour(self.now, self.customer.offset());
        let place = Place { moment: self.now, day: self.day, hour, device: self.device, position };
        let copy = (page == Page::Home && position == 0).then(|| Choice::draw(&mut self.random));
        let said = copy.map_or(0, |copy| copy.effect(self.customer, product.category));
        let effects = click::effects(self.customer, product, place, said);
        let probability = self.probabilities.of(effects.sum());
        let click = self.random.unit() < probability;
        let price = product.price_on(self.day);
        self.sink.impression(Impression { place, page, product: index, price, propensity, copy, effects, probability, click });
        click
    }

    fn checkout(&mut self) {
        let urge = if calendar::is_black_week(self.day) { 0.55 } else { 0.44 };
        if self.cart.is_empty() || !self.random.chance((urge * libm::sqrt(self.intent)).min(0.92)) {
            return;
        }
        self.wait(110.0);
        // the lines of an order share its moment
        for (product, price, quantity) in std::mem::take(&mut self.cart) {
            if self.random.chance(0.88) {
                self.sink.event(Event { ts: self.now, kind: Kind::Purchase, product, price, quantity: Some(quantity) });
                self.consider_review(product);
            }
        }
    }

    fn consider_review(&mut self, product: usize) {
        if !self.random.chance(0.2) {
            return;
        }
        let ts = self.now + (self.random.lognormal(8.0, 0.6).min(90.0) * DAY as f64) as i64 + 2 * HOUR;
        let stars = review::stars(&mut self.random, self.world.products[product].quality);
        let dice = self.random.word();
        if ts < END {
            self.sink.review(Review { ts, customer: self.customer.id, product, stars, dice });
        }
    }
}
