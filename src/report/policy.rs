//! What another policy would have earned, as a table.

use super::chart::escape;
use super::facts::Facts;
use super::number::{count, percent, short};

/// The table, and what to think of it.
pub(super) fn table(facts: &Facts) -> Option<(String, String)> {
    let (_, [_, _, _, rows, effective, largest]) = facts.policy.first()?;
    let share = effective / rows;
    let mut lead = format!(
        "Mean reward per row of the log, had the other policy chosen. The log has {} rows; they tell as much as {} rows of that policy's own \
         log would ({}), and the largest weight of a row is {}.",
        count(*rows),
        count(*effective),
        percent(share),
        short(*largest)
    );
    if share < 0.01 {
        lead.push_str(" <strong>So few rows decide that these figures say little.</strong>");
    }
    let line = |(name, [value, low, high, ..]): &(String, [f64; 6])| {
        format!(
            "<tr><th scope=\"row\">{} <span>{}</span></th><td class=\"number\">{}</td><td class=\"number\">{} to {}</td></tr>\n",
            escape(name),
            explained(name),
            short(*value),
            short(*low),
            short(*high)
        )
    };
    let lines: String = facts.policy.iter().map(line).collect();
    let head = "<tr><th scope=\"col\">Estimator</th><th scope=\"col\" class=\"number\">Value</th><th scope=\"col\" class=\"number\">95% interval</th></tr>";
    Some((lead, format!("<table class=\"policy\">\n{head}\n{lines}</table>")))
}

fn explained(name: &str) -> &'static str {
    match name {
        "ips" => "weights as they are: no bias, much noise",
        "snips" => "weights divided by their sum: steadier",
        "clipped_ips" => "large weights are cut: some bias",
        "dm" => "the model alone, without the log's rewards",
        "dr" => "the model, corrected by the weighted log",
        "switch_dr" => "the same where weights are small, else the model",
        _ => "",
    }
}
