//! The truth about clicks: a logit put together from what one would want a model to find out.
//!
//! Effects are whole thousandths of a logit, so their sum is exact and the same on every machine.

use super::calendar::DAY;
use super::catalogue::CATEGORIES;
use super::customer::Customer;
use super::world::Product;

/// Logit of a click in thousandths, before anything is known.
const BASE: i32 = -3_700;
/// By place on the page, from the first: what is lower is seen less.
const POSITIONS: [i32; 6] = [0, -190, -340, -460, -560, -640];
/// By local hour: evenings on the sofa, mornings in a hurry.
const HOURS: [i32; 24] =
    [20, -40, -90, -120, -120, -120, -140, -150, -110, -60, -30, 0, 40, 30, 0, -20, -10, 20, 60, 110, 160, 170, 130, 70];
/// Mobile, desktop, tablet.
const DEVICES: [i32; 3] = [40, -90, 20];

/// What made up the probability of one click, in thousandths of a logit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Effects {
    pub(crate) base: i32,
    pub(crate) taste: i32,
    pub(crate) quality: i32,
    pub(crate) novelty: i32,
    pub(crate) price: i32,
    pub(crate) position: i32,
    pub(crate) hour: i32,
    pub(crate) device: i32,
    pub(crate) copy: i32,
}

impl Effects {
    pub(crate) fn sum(&self) -> i32 {
        let product = self.base + self.taste + self.quality + self.novelty + self.price;
        product + self.position + self.hour + self.device + self.copy
    }
}

/// Where and when something is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) moment: i64,
    /// Day of the log.
    pub(crate) day: i64,
    /// Local hour, 0-23.
    pub(crate) hour: usize,
    /// Index into [`super::customer::DEVICES`].
    pub(crate) device: usize,
    /// From 0.
    pub(crate) position: usize,
}

/// How much a customer cares for a product wherever it is seen: taste and price, in thousandths of a logit.
pub(crate) fn attraction(customer: &Customer, product: &Product, day: i64) -> (i32, i32) {
    let agreement: f64 = customer.style.iter().zip(&product.style).map(|(a, b)| a * b).sum();
    let category = match product.category {
        category if category == customer.favourite => 550.0,
        category if category == customer.second => 250.0,
        _ => -200.0,
    };
    let brand = if product.brand == customer.brand { 450.0 } else { 0.0 };
    let taste = (category + brand + 520.0 * agreement).clamp(-1_600.0, 1_600.0);
    let discount = product.discount_on(day) as f64;
    let distance = product.dearness + libm::log1p(-discount / 100.0) - customer.segment.liked_dearness();
    let price = (12.0 * discount - 380.0 * distance * distance).max(-1_500.0);
    (taste as i32, price as i32)
}

/// The effects on the click of a customer on a product; `copy` is the effect of the copy above it.
pub(crate) fn effects(customer: &Customer, product: &Product, place: Place, copy: i32) -> Effects {
    let (taste, price) = attraction(customer, product, place.day);
    let age = ((place.moment - product.launched) / DAY).max(0) as f64;
    Effects {
        base: BASE + CATEGORIES[product.category].appeal,
        taste,
        quality: product.quality,
        novelty: (380.0 * libm::exp(-age / 30.0)) as i32,
        price,
        position: POSITIONS[place.position],
        hour: HOURS[place.hour],
        device: DEVICES[place.device],
        copy,
    }
}

/// Probabilities of all logits that occur, to six digits: a table, because a sample has few logits and many impressions.
#[derive(Debug)]
pub(crate) struct Probabilities(Vec<f64>);

impl Probabilities {
    const LOWEST: i32 = -12_000;
    const HIGHEST: i32 = 4_000;

    pub(crate) fn new() -> Self {
        Self((Self::LOWEST..=Self::HIGHEST).map(|logit| libm::round(1e6 / (1.0 + libm::exp(-f64::from(logit) / 1e3))) / 1e6).collect())
    }

    /// The probability of a logit in thousandths.
    pub(crate) fn of(&self, logit: i32) -> f64 {
        self.0[(logit.clamp(Self::LOWEST, Self::HIGHEST) - Self::LOWEST) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probability_is_the_sigmoid_of_the_summed_effects() {
        let probabilities = Probabilities::new();
        for logit in [-8_123, -3_700, -1, 0, 2_500] {
            let expected = 1.0 / (1.0 + (-f64::from(logit) / 1e3).exp());
            assert!((probabilities.of(logit) - expected).abs() <= 5e-7 + 1e-12);
        }
    }
}
