//! What an uplift model is worth, as pictures.

use super::chart::{Axis, Bar, Chart, bars};
use super::facts::Facts;
use super::number::{count, percent, short};
use super::page::{figure, some};

/// The Qini curve.
pub(super) fn qini(facts: &Facts) -> String {
    let heights = || facts.qini.iter().flat_map(|[_, gain, random]| [*gain, *random]).filter(|height| height.is_finite());
    let (least, most) = (heights().fold(0.0, f64::min), heights().fold(0.0, f64::max));
    if least >= most {
        return String::new();
    }
    let room = (most - least) * 0.05;
    let from = if least < 0.0 { least - room } else { 0.0 };
    let mut chart = Chart::new(
        Axis::share("Rows with the highest predicted uplift", 1.0),
        Axis::numbers("Outcomes added by treatment", from, most + room),
    );
    chart.line("chance", facts.qini.iter().map(|[share, _, random]| (*share, *random)));
    chart.line("main", facts.qini.iter().map(|[share, gain, _]| (*share, *gain)));
    for [share, gain, random] in some(&facts.qini) {
        let title = format!("the first {}: {} added, {} in a random order", percent(*share), short(*gain), short(*random));
        chart.hint("", *share, *gain, &title);
    }
    let area = facts.value("qini").map_or(String::new(), |qini| format!(" The area between is the Qini coefficient, {}.", short(qini)));
    let caption = format!(
        r#"<span class="key main"></span>treat those first whom the model names<span class="key chance"></span>treat in a random order.{area}"#
    );
    figure("Qini curve", &caption, &chart.finish("Outcomes added by treatment against the share of rows treated, best first"))
}

/// The effect in each tenth of the rows.
pub(super) fn tenths(facts: &Facts) -> String {
    let bar = |(place, [treated, others, with, without, effect]): (usize, &[f64; 5])| {
        let title = format!(
            "tenth {}: {} among {} treated rows, {} among {} others",
            place + 1,
            short(*with),
            count(*treated),
            short(*without),
            count(*others)
        );
        let name = match place {
            0 => "1 (highest)".to_owned(),
            place => (place + 1).to_string(),
        };
        effect.is_finite().then_some(Bar { name, value: *effect, interval: None, title })
    };
    let shown: Vec<Bar> = facts.tenths.iter().enumerate().filter_map(bar).collect();
    if shown.is_empty() {
        return String::new();
    }
    let caption =
        "What treatment adds to the mean outcome, by tenths of the rows from the highest predicted uplift down. In a good order it falls.";
    figure("Effect by tenths", caption, &bars(&shown, "Effect of the treatment by tenths of the rows"))
}
