//! Advertising copy: six variants for each category, the policy that chose among them, and what they do to a click.

use super::catalogue::{CATEGORIES, Category};
use super::customer::{Customer, Segment};
use super::random::Random;
use super::world::unit_of;

/// A way to say it.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) tone: &'static str,
    pub(crate) offer: &'static str,
    /// Effect on everybody, in thousandths of a logit.
    effect: i32,
}

pub(crate) const VARIANTS: [Variant; 6] = [
    Variant { tone: "plain", offer: "none", effect: 30 },
    Variant { tone: "friendly", offer: "none", effect: 110 },
    Variant { tone: "urgent", offer: "10% off", effect: 210 },
    Variant { tone: "playful", offer: "free delivery", effect: 130 },
    Variant { tone: "elegant", offer: "none", effect: 60 },
    Variant { tone: "friendly", offer: "10% off", effect: 190 },
];

/// Chances of the logging policy: no copy at all first, then the variants.
const POLICY: [f64; 7] = [0.25, 0.15, 0.15, 0.15, 0.10, 0.10, 0.10];

/// The copy above a product, or none for the control group, and the chance with which the policy chose so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Index into [`VARIANTS`].
    pub(crate) variant: Option<usize>,
    pub(crate) propensity: f64,
}

impl Choice {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let index = random.weighted(&POLICY);
        Self { variant: index.checked_sub(1), propensity: POLICY[index] }
    }

    /// The effect of the copy on this customer, in thousandths of a logit.
    pub(crate) fn effect(&self, customer: &Customer, category: usize) -> i32 {
        let Some(index) = self.variant else { return 0 };
        let variant = &VARIANTS[index];
        let (young, old) = (customer.age <= 1, customer.age >= 4);
        let by_tone = match variant.tone {
            "playful" if young => 260,
            "playful" if old => -240,
            "urgent" if old => -220,
            "elegant" if customer.segment == Segment::Premium => 380,
            "elegant" if customer.segment == Segment::Bargain => -140,
            "plain" if old => 140,
            _ => 0,
        };
        let by_offer = match (variant.offer, customer.segment) {
            ("10% off", Segment::Bargain) => 260,
            ("10% off", Segment::Premium) => -230,
            ("free delivery", Segment::Mainstream) => 120,
            _ => 0,
        };
        let by_category = (80.0 * unit_of((category * VARIANTS.len() + index) as u64, 11)) as i32;
        variant.effect + by_tone + by_offer + by_category
    }
}

/// Id of a variant for a category, from 1.
pub(crate) fn id(category: usize, variant: usize) -> i32 {
    (category * VARIANTS.len() + variant) as i32 + 1
}

/// Headline and body of a variant for a category.
pub(crate) fn text(category: usize, variant: usize) -> (String, String) {
    let Category { name, plural, promise, .. } = &CATEGORIES[category];
    match variant {
        0 => (format!("New in {name}"), format!("This season's {plural}: {promise}.")),
        1 => (format!("We thought you might like these {plural}"), format!("Have a look when you have a minute: {promise}.")),
        2 => (format!("Only until Sunday: 10% off all {plural}"), format!("Sizes and colours are going fast. {}.", capital(promise))),
        3 => (format!("Your {} called. They are lonely.", plural), format!("Send them company, we pay the postage. {}.", capital(promise))),
        4 => (format!("The {name} edit"), format!("A considered selection of {plural}, {promise}.")),
        _ => (format!("A little thank-you: 10% off {plural}"), format!("Because you came back. {}.", capital(promise))),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_that_promises_an_offer_names_it() {
        for category in 0..CATEGORIES.len() {
            for (index, variant) in VARIANTS.iter().enumerate() {
                let (headline, body) = text(category, index);
                assert_eq!(headline.contains("10% off"), variant.offer == "10% off", "{headline}");
                assert_eq!(body.contains("postage"), variant.offer == "free delivery", "{body}");
            }
        }
        assert!((POLICY.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
