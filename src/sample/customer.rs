//! What a customer is like. Drawn from the customer's own stream, so that any visit can be played again without the others.

use super::calendar::{END, START};
use super::catalogue::{CATEGORIES, brands_of};
use super::people::{COUNTRIES, shares};
use super::random::{Random, Topic};
use super::world::World;

pub(crate) const AGE_BANDS: [&str; 6] = ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"];
const AGE_SHARES: [f64; 6] = [13.0, 26.0, 23.0, 18.0, 12.0, 8.0];
/// Taste by age: bold-quiet, modern-classic, playful-serious.
const AGE_STYLES: [[f64; 3]; 6] =
    [[0.7, 0.6, 0.4], [0.4, 0.5, 0.0], [0.0, 0.2, 0.3], [-0.2, -0.1, 0.0], [-0.4, -0.4, -0.2], [-0.5, -0.7, 0.1]];

/// What a customer looks for in a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    Bargain,
    Mainstream,
    Premium,
}

impl Segment {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bargain => "bargain",
            Self::Mainstream => "mainstream",
            Self::Premium => "premium",
        }
    }

    /// Logarithm of the liked price over the median of the category.
    pub(crate) fn liked_dearness(self) -> f64 {
        match self {
            Self::Bargain => -0.45,
            Self::Mainstream => 0.0,
            Self::Premium => 0.55,
        }
    }
}

pub(crate) const CHANNELS: [&str; 6] = ["search", "social", "direct", "ads", "referral", "email"];
pub(crate) const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];

/// A customer and the truth about them.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    /// From 1, in the order of signing up.
    pub(crate) id: u64,
    pub(crate) signup: i64,
    /// Loses interest at this moment.
    pub(crate) until: i64,
    /// Index into [`COUNTRIES`].
    pub(crate) country: usize,
    /// Index into [`AGE_BANDS`].
    pub(crate) age: usize,
    pub(crate) segment: Segment,
    /// Index into [`CHANNELS`].
    pub(crate) channel: usize,
    pub(crate) email_opt_in: bool,
    /// Categories liked best and second best.
    pub(crate) favourite: usize,
    pub(crate) second: usize,
    /// A brand of the favourite category that is liked.
    pub(crate) brand: usize,
    pub(crate) style: [f64; 3],
    /// How readily this customer buys; the median is 1.
    pub(crate) intent: f64,
    /// Chances of the devices, in their order.
    pub(crate) devices: [f64; 3],
    /// How often this customer comes back, relative to others.
    activity: f64,
}

impl Customer {
    /// Customer number `id` of the world, from 1.
    pub(crate) fn new(world: &World, id: u64) -> Self {
        let mut random = Random::new(world.seed, Topic::Traits, id);
        let share = ((id - 1) as f64 + random.unit()) / world.customers as f64;
        let signup = world.calendar.signup(share);
        let lifetime = random.lognormal(260.0, 1.2) * super::calendar::DAY as f64;
        let country = random.weighted(&shares());
        let age = random.weighted(&AGE_SHARES);
        let style: [f64; 3] = std::array::from_fn(|axis| (AGE_STYLES[age][axis] + 0.45 * random.normal()).clamp(-1.8, 1.8));
        let segment = match random.weighted(&[35.0, 45.0, 20.0 + 3.0 * age as f64]) {
            0 => Segment::Bargain,
            1 => Segment::Mainstream,
            _ => Segment::Premium,
        };
        let liking = category_likings(&style);
        let favourite = random.weighted(&liking);
        let mut others = liking;
        others[favourite] = 0.0;
        let second = random.weighted(&others);
        let young = (5 - age) as f64;
        Self {
            id,
            signup,
            until: signup.max(START) + (lifetime as i64).max(super::calendar::HOUR),
            country,
            age,
            segment,
            channel: random.weighted(&[30.0, 8.0 + 4.0 * young, 18.0, 14.0, 8.0, 8.0]),
            email_opt_in: random.chance(0.46),
            favourite,
            second,
            brand: random.pick(&brands_of(favourite)),
            style,
            intent: random.lognormal(1.0, 0.45),
            devices: {
                let mobile = if random.chance(0.35 + 0.08 * young) { 0.85 } else { 0.3 };
                [mobile, 0.95 - mobile, 0.05]
            },
            activity: random.lognormal(1.0, 1.1),
        }
    }

    /// First moment at which this customer can visit inside the log.
    pub(crate) fn from(&self) -> i64 {
        self.signup.max(START)
    }

    /// Last moment for a visit to begin.
    pub(crate) fn last(&self) -> i64 {
        self.until.min(END - super::session::LONGEST)
    }

    /// How many of the visits should be this customer's, relative to others.
    pub(crate) fn weight(&self, world: &World) -> f64 {
        let stay = world.calendar.busyness_until(self.last()) - world.calendar.busyness_until(self.from());
        // most who signed up before the log have left for good by its beginning
        let kept = if self.signup < START { 0.6 } else { 1.0 };
        self.activity * kept * (6.0 + stay)
    }

    /// Chance to look into each category in a month (0-11).
    pub(crate) fn browsing(&self, month: usize) -> [f64; CATEGORIES.len()] {
        std::array::from_fn(|category| {
            let kind = &CATEGORIES[category];
            let liking = match category {
                _ if category == self.favourite => 9.0,
                _ if category == self.second => 3.5,
                _ => 0.75,
            };
            liking * kind.share * kind.seasons[month]
        })
    }

    /// Hours east of UTC.
    pub(crate) fn offset(&self) -> i64 {
        COUNTRIES[self.country].offset
    }
}

/// Categories are liked by people of their style.
fn category_likings(style: &[f64; 3]) -> [f64; CATEGORIES.len()] {
    std::array::from_fn(|category| {
        let kind = &CATEGORIES[category];
        let agreement: f64 = kind.style.iter().zip(style).map(|(a, b)| a * b).sum();
        kind.share * libm::exp(1.1 * agreement)
    })
}

/// What only the table of customers needs.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) first_name: &'static str,
    pub(crate) last_name: &'static str,
    pub(crate) city: &'static str,
}

impl Profile {
    pub(crate) fn new(world: &World, customer: &Customer) -> Self {
        let mut random = Random::new(world.seed, Topic::Profile, customer.id);
        let country = &COUNTRIES[customer.country];
        // some people live elsewhere than where their name comes from
        let origin = if random.chance(0.08) { &COUNTRIES[random.below(COUNTRIES.len())] } else { country };
        Self { first_name: random.pick(origin.first_names), last_name: random.pick(origin.last_names), city: random.pick(country.cities) }
    }
}
